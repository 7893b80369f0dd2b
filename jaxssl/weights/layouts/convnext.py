"""ConvNeXts as timm names them, and as the paper's code and DINOv3 do."""

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
)


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
    infer=infer,
)
