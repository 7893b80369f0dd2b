"""Layouts of published weights, one module per family of networks. To add a family is to add a module.

Each module has:

- `ENCODER`: the class of `jaxssl.models` that takes the weights.
- `MODULES`: names of the encoder's modules -> names in torchvision or timm, where they differ.
- `FIRST_LAYER`: name of the kernel that is adapted to the number of channels.
- `name_variables(encoder, variables)`: the variables with the names and axes of torchvision or timm.
- `convert(tensors, encoder, expected, where)`: tensors in any naming of this family -> names of `name_variables`;
  `expected` has the names and shapes that the encoder takes, `where` is the file for messages.
- `extra_tensors(encoder, size)`: tensors of the state dict that the encoder does not have as variables.
"""

import importlib
import pkgutil
from types import ModuleType

from flax import linen as nn

from jaxssl.errors import UserError


def find(encoder: nn.Module) -> ModuleType:
    """Return the module with the layout of an encoder.

    Raises:
      UserError: there is none.
    """
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        if isinstance(encoder, getattr(module, "ENCODER", ())):
            return module
    raise UserError(
        f"an encoder of {type(encoder).__module__} has no layout in torchvision or timm: set model.name to a ResNet, a "
        "ViT or efficientnet_lite0",
        code="unsupported",
        field="model.name",
    )
