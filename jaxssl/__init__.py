"""jaxssl: does self-supervised pretraining help on my images, by how much, and am I sure?

`jaxssl.load(workdir)` returns the trained network of a run, for new images: see `jaxssl.inference.network`.
`jaxssl.pretrain(images, workdir)` and `jaxssl.compare(folder)` do what the commands do: see `jaxssl.api`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxssl.api import compare, pretrain
    from jaxssl.inference.network import load

__all__ = ["__version__", "compare", "load", "pretrain"]
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `import jaxssl` does not import JAX.
    modules = {"load": "jaxssl.inference.network", "pretrain": "jaxssl.api", "compare": "jaxssl.api"}
    if name in modules:
        return getattr(importlib.import_module(modules[name]), name)
    raise AttributeError(f"module 'jaxssl' has no attribute {name!r}")
