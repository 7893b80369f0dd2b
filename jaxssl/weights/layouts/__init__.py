"""Layouts of published weights, one module per family of networks, with a constant `LAYOUT` (`naming.Layout`).

To add a family is to add a module.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterable

from flax import linen as nn

from jaxssl.errors import UserError
from jaxssl.weights.layouts.naming import Layout, Naming


def available() -> list[Layout]:
    """Return the layouts of all families."""
    modules = (importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__))
    return [module.LAYOUT for module in modules if hasattr(module, "LAYOUT")]


def encoders() -> tuple[type[nn.Module], ...]:
    """Return the classes of encoders that have a layout."""
    return tuple(layout.encoder for layout in available())


def find(encoder: nn.Module) -> Layout:
    """Return the layout of an encoder.

    Raises:
      UserError: there is none.
    """
    for layout in available():
        if isinstance(encoder, layout.encoder):
            return layout
    raise UserError(
        f"an encoder of {type(encoder).__module__} has no layout in torchvision or timm: set model.name to a ResNet, a "
        "ViT, a ConvNeXt or efficientnet_lite0",
        code="unsupported",
        field="model.name",
    )


def explain_unknown(names: Iterable[str]) -> str:
    """Return why no layout takes tensors of these names, as far as it is known."""
    names = list(names)
    for pattern, what in (rule for layout in available() for rule in layout.unsupported):
        if name := next((name for name in names if re.search(pattern, name)), None):
            return f"a network with {what} ({name}), which jaxssl does not have"
    return "jaxssl reads ResNets, ViTs, ConvNeXts and EfficientNet-Lite0"


def find_prefixes(names: Iterable[str], layout: Layout) -> list[tuple[str, Naming]]:
    """Return prefix and naming of each network of this family among tensors of these names."""
    names = list(names)
    found = []
    for naming in layout.namings:
        ends = [name.removesuffix(naming.anchor) for name in names if name.endswith(naming.anchor)]
        found += [(prefix, naming) for prefix in ends if not prefix or prefix.endswith(".")]
    return sorted(found, key=lambda pair: pair[0])
