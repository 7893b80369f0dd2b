"""jaxssl: does self-supervised pretraining help on my images, by how much, and am I sure?

`jaxssl.load(workdir)` returns the trained network of a run, for new images: see `jaxssl.inference.network`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxssl.inference.network import load

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `import jaxssl` does not import JAX.
    if name == "load":
        from jaxssl.inference.network import load

        return load
    raise AttributeError(f"module 'jaxssl' has no attribute {name!r}")
