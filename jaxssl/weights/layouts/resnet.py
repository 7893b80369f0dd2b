"""ResNets of torchvision and timm, whose names agree."""

from collections.abc import Mapping
from typing import Any

import jax
from flax import linen as nn

from jaxssl.models.resnet import ResNet
from jaxssl.weights.layouts import naming
from jaxssl.weights.layouts.naming import Tensors

ENCODER = ResNet
FIRST_LAYER = "conv1.weight"
MODULES = {"downsample_conv": "downsample.0", "downsample_bn": "downsample.1"}


def name_variables(encoder: nn.Module, variables: Mapping) -> dict[str, jax.Array]:
    return naming.name_variables(variables, MODULES)


def convert(tensors: Tensors, encoder: nn.Module, expected: Mapping[str, Any], where: str) -> Tensors:
    return tensors


def extra_tensors(encoder: nn.Module, size: int) -> Tensors:
    return {}
