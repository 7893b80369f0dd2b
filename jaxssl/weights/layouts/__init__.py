"""Layouts of published weights, one module per family of networks. To add a family is to add a module.

Each module has:

- `ENCODER`: the class of `jaxssl.models` that takes the weights.
- `MODULES`: names of the encoder's modules -> names in torchvision or timm, where they differ.
- `FIRST_LAYER`: name of the kernel that is adapted to the number of channels.
- `NAMINGS`: the namings in which such weights are published, see `naming.Naming`. The first is that of `to_torch`.
- `LEFT_OUT`: start of the names, in the first naming, of tensors that are not part of the encoder.
- `name_variables(encoder, variables)`: the variables with names and axes of the first naming.
- `convert(tensors, encoder, size, changes)`: fits tensors with names of the first naming to the encoder and to images
  of `size` pixels, and appends to `changes` a sentence for each tensor that it changes.
- `finish(encoder, tensors, size)`: makes the result of `name_variables` the state dict of PyTorch, as NumPy arrays.
- `infer(tensors)`: model, stem and options that tensors with names of the first naming fit.
"""

import importlib
import pkgutil
from collections.abc import Iterable
from types import ModuleType

from flax import linen as nn

from jaxssl.errors import UserError
from jaxssl.weights.layouts.naming import Naming


def available() -> list[ModuleType]:
    """Return the modules of all families."""
    modules = (importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__))
    return [module for module in modules if hasattr(module, "ENCODER")]


def find(encoder: nn.Module) -> ModuleType:
    """Return the module with the layout of an encoder.

    Raises:
      UserError: there is none.
    """
    for module in available():
        if isinstance(encoder, module.ENCODER):
            return module
    raise UserError(
        f"an encoder of {type(encoder).__module__} has no layout in torchvision or timm: set model.name to a ResNet, a "
        "ViT, a ConvNeXt or efficientnet_lite0",
        code="unsupported",
        field="model.name",
    )


def find_prefixes(names: Iterable[str], layout: ModuleType) -> list[tuple[str, Naming]]:
    """Return prefix and naming of each network of this family among tensors of these names."""
    names = list(names)
    found = []
    for naming in layout.NAMINGS:
        ends = [name.removesuffix(naming.anchor) for name in names if name.endswith(naming.anchor)]
        found += [(prefix, naming) for prefix in ends if not prefix or prefix.endswith(".")]
    return sorted(found, key=lambda pair: pair[0])
