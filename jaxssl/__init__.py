"""jaxssl: does self-supervised pretraining help on my images, by how much, and am I sure?

`jaxssl.load(workdir)` gives what a run trained, for new images: see `jaxssl.inference.network`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxssl.inference.network import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    # What it takes is imported once it is asked for: `import jaxssl` stays cheap.
    if name == "load":
        from jaxssl.inference.network import load

        return load
    raise AttributeError(f"module 'jaxssl' has no attribute {name!r}")
