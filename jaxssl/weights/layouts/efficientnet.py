"""EfficientNet-Lite in the naming of timm, and of EfficientNet-PyTorch (github.com/lukemelas/EfficientNet-PyTorch)."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
from flax import linen as nn

from jaxssl.models.efficientnet import EfficientNetLite
from jaxssl.weights.layouts import naming
from jaxssl.weights.layouts.naming import Tensors

ENCODER = EfficientNetLite
FIRST_LAYER = "conv_stem.weight"
MODULES = {}


def name_variables(encoder: nn.Module, variables: Mapping) -> dict[str, jax.Array]:
    return naming.name_variables(variables, MODULES)


def convert(tensors: Tensors, encoder: nn.Module, expected: Mapping[str, Any], where: str) -> Tensors:
    if "_conv_stem.weight" not in tensors:
        return tensors
    names = names_in_timm(expected)
    return {names.get(name, name): tensor for name, tensor in tensors.items()}


def extra_tensors(encoder: nn.Module, size: int) -> Tensors:
    return {}


def names_in_timm(expected: Iterable[str]) -> dict[str, str]:
    """Return {name in EfficientNet-PyTorch: name in timm}."""
    expected = list(expected)
    modules = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    blocks = sorted({tuple(map(int, name.split(".")[1:3])) for name in expected if name.startswith("blocks.")})
    expanded = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
    for i, (stage, block) in enumerate(blocks):
        place = f"blocks.{stage}.{block}"
        if f"{place}.conv_pwl.weight" in expected:
            pairs = zip(expanded, ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"), strict=True)
        else:
            pairs = zip(expanded[2:], ("conv_dw", "bn1", "conv_pw", "bn2"), strict=True)
        modules |= {f"_blocks.{i}.{theirs}": f"{place}.{timm}" for theirs, timm in pairs}
    timm = {name: name.rpartition(".")[::2] for name in expected}
    theirs = {timm_module: module for module, timm_module in modules.items()}
    return {f"{theirs[module]}.{leaf}": name for name, (module, leaf) in timm.items()}
