"""EfficientNet-Lite in the naming of timm, and of EfficientNet-PyTorch (github.com/lukemelas/EfficientNet-PyTorch)."""

from typing import Any

from jaxssl.models.efficientnet import EfficientNetLite
from jaxssl.weights.layouts.naming import Layout, Naming, Tensors

# Modules of a block in EfficientNet-PyTorch, and in timm: with expansion, and in the first stage without.
THEIRS = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
EXPANDED = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
PLAIN = ("", "", "conv_dw", "bn1", "conv_pw", "bn2")


def convert(tensors: Tensors, encoder: EfficientNetLite, size: int, changes: list[str]) -> Tensors:
    if "_conv_stem.weight" not in tensors:
        return tensors
    places = [(stage, block) for stage, blocks in enumerate(encoder.blocks) for block in range(blocks)]
    modules = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    for i, (stage, block) in enumerate(places):
        for theirs, ours in zip(THEIRS, EXPANDED if stage else PLAIN, strict=True):
            modules[f"_blocks.{i}.{theirs}"] = f"blocks.{stage}.{block}.{ours}"
    parts = {name: name.rpartition(".") for name in tensors}
    return {f"{modules.get(parts[n][0], parts[n][0])}.{parts[n][2]}": tensor for n, tensor in tensors.items()}


def infer(tensors: Tensors) -> dict[str, Any]:
    """Return the model; width and depth are those of Lite0, which are not read off the tensors."""
    del tensors
    return {"model": "efficientnet_lite0", "stem": "imagenet", "options": {}}


LAYOUT = Layout(
    encoder=EfficientNetLite,
    first_layer="conv_stem.weight",
    namings=(Naming("timm", "conv_stem.weight"), Naming("EfficientNet-PyTorch", "_conv_stem.weight")),
    left_out=("classifier.", "_fc."),
    unsupported=((r"\.se\.|\._se_", "squeeze-and-excitation, as all EfficientNets but the Lite ones do"),),
    convert=convert,
    infer=infer,
)
