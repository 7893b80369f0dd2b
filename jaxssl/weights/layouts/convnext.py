"""ConvNeXts as timm, torchvision, Hugging Face, the paper's code and DINOv3 name them."""

import re
from typing import Any

from jaxssl.models.convnext import ConvNeXt
from jaxssl.weights.layouts.naming import Layout, Naming, Tensors

FIRST_LAYER = "stem.0.weight"
MODULES = {
    "stem_conv": "stem.0",
    "stem_norm": "stem.1",
    "downsample_norm": "downsample.0",
    "downsample_conv": "downsample.1",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
    "norm_pool": "head.norm",
}
NAMINGS = (
    Naming("timm", FIRST_LAYER),
    Naming(
        "ConvNeXt and DINOv3",
        "downsample_layers.0.0.weight",
        (
            (r"^downsample_layers\.0\.", "stem."),
            (r"^downsample_layers\.(\d)\.", r"stages.\1.downsample."),
            (r"^stages\.(\d)\.(\d+)\.", r"stages.\1.blocks.\2."),
            (r"\.dwconv\.", ".conv_dw."),
            (r"\.pwconv(\d)\.", r".mlp.fc\1."),
            (r"^norm\.", "head.norm."),
            (r"^norms\.3\.", "norms_last."),  # DINOv3 has the last norm twice.
        ),
    ),
    Naming(
        "torchvision",
        "features.1.0.layer_scale",
        (
            (r"^features\.0\.", "stem."),
            *((rf"^features\.{2 * i}\.", f"stages.{i}.downsample.") for i in range(1, 4)),
            *((rf"^features\.{2 * i + 1}\.", f"stages.{i}.blocks.") for i in range(4)),
            (r"\.block\.0\.", ".conv_dw."),
            (r"\.block\.2\.", ".norm."),
            (r"\.block\.3\.", ".mlp.fc1."),
            (r"\.block\.5\.", ".mlp.fc2."),
            (r"\.layer_scale$", ".gamma"),
            (r"^classifier\.0\.", "head.norm."),
        ),
    ),
    Naming(
        "Hugging Face",
        "encoder.stages.0.layers.0.dwconv.weight",
        (
            (r"^embeddings\.patch_embeddings\.", "stem.0."),
            (r"^embeddings\.layernorm\.", "stem.1."),
            (r"^encoder\.stages\.(\d)\.downsampling_layer\.", r"stages.\1.downsample."),
            (r"^encoder\.stages\.(\d)\.layers\.", r"stages.\1.blocks."),
            (r"^layernorm\.", "head.norm."),
            (r"\.layernorm\.", ".norm."),
            (r"\.dwconv\.", ".conv_dw."),
            (r"\.pwconv(\d)\.", r".mlp.fc\1."),
            (r"\.layer_scale_parameter$", ".gamma"),
        ),
    ),
    Naming(
        "DINOv3 in Hugging Face",
        "stages.0.layers.0.depthwise_conv.weight",
        (
            (r"^stages\.0\.downsample_layers\.", "stem."),
            (r"^stages\.(\d)\.downsample_layers\.", r"stages.\1.downsample."),
            (r"^stages\.(\d)\.layers\.", r"stages.\1.blocks."),
            (r"^layer_norm\.", "head.norm."),
            (r"\.layer_norm\.", ".norm."),
            (r"\.depthwise_conv\.", ".conv_dw."),
            (r"\.pointwise_conv(\d)\.", r".mlp.fc\1."),
        ),
    ),
)


def convert(tensors: Tensors, encoder: ConvNeXt, size: int, changes: list[str]) -> Tensors:
    """Torchvision's factors of LayerScale are [D, 1, 1]."""
    del encoder, size, changes
    return {name: tensor.reshape(-1) if name.endswith(".gamma") else tensor for name, tensor in tensors.items()}


def infer(tensors: Tensors) -> dict[str, Any]:
    """Return model and options of the ConvNeXt that these tensors fit."""
    blocks = {tuple(map(int, m.groups())) for name in tensors if (m := re.match(r"stages\.(\d)\.blocks\.(\d+)", name))}
    depths = tuple(sum(stage == i for stage, _ in blocks) for i in range(4))
    widths = tuple(tensors[f"stages.{i}.blocks.0.conv_dw.weight"].shape[0] for i in range(4))
    model = "convnext_small" if depths == (3, 3, 27, 3) else "convnext_tiny"
    return {"model": model, "stem": "imagenet", "options": {"depths": depths, "widths": widths}}


LAYOUT = Layout(
    encoder=ConvNeXt,
    first_layer=FIRST_LAYER,
    namings=NAMINGS,
    modules=MODULES,
    left_out=("head.fc.", "head.weight", "head.bias", "classifier.", "norms_last.", "mask_token"),
    unsupported=((r"\.grn\.", "global response normalization, as ConvNeXt V2 does"),),
    convert=convert,
    infer=infer,
)
