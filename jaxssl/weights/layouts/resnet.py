"""ResNets of torchvision and timm, whose names agree, of Hugging Face, and as the numbered modules of lightly."""

import re
from typing import Any

import numpy as np

from jaxssl.errors import UserError
from jaxssl.models.resnet import ResNet
from jaxssl.weights.layouts.naming import Layout, Naming, Tensors

FIRST_LAYER = "conv1.weight"
NAMINGS = (
    Naming("torchvision and timm", "layer1.0.conv1.weight"),
    Naming(
        "torch.nn.Sequential",
        "4.0.conv1.weight",
        ((r"^0\.", "conv1."), (r"^1\.", "bn1."), *((rf"^{i + 3}\.", f"layer{i}.") for i in range(1, 5))),
    ),
    Naming(
        "Hugging Face",
        "embedder.embedder.convolution.weight",
        (
            (r"^embedder\.embedder\.convolution\.", "conv1."),
            (r"^embedder\.embedder\.normalization\.", "bn1."),
            *((rf"^encoder\.stages\.{i}\.layers\.", f"layer{i + 1}.") for i in range(4)),
            (r"\.shortcut\.convolution\.", ".downsample.0."),
            (r"\.shortcut\.normalization\.", ".downsample.1."),
            *((rf"\.layer\.{i}\.convolution\.", f".conv{i + 1}.") for i in range(3)),
            *((rf"\.layer\.{i}\.normalization\.", f".bn{i + 1}.") for i in range(3)),
        ),
    ),
)


def infer(tensors: Tensors) -> dict[str, Any]:
    """Return model, stem and options of the ResNet that these tensors fit."""
    blocks = {tuple(map(int, m.groups())) for name in tensors if (m := re.match(r"layer(\d+)\.(\d+)\.conv1", name))}
    stages = tuple(sum(stage == i for stage, _ in blocks) for i in range(1, max(s for s, _ in blocks) + 1))
    bottleneck = "layer1.0.conv3.weight" in tensors
    if tensors["layer1.0.conv2.weight"].shape[:2] != (tensors[FIRST_LAYER].shape[0],) * 2:
        raise UserError(
            "its 3x3 convolutions are grouped or wider than published, as in ResNeXts and wide ResNets, which jaxssl "
            "does not have",
            code="mismatch",
            field="model.name",
        )
    basic = "resnet34" if stages == (3, 4, 6, 3) else "resnet18"
    kernel: np.ndarray = tensors[FIRST_LAYER]
    options = {"stages": stages, "width": kernel.shape[0]}
    return {
        "model": "resnet50" if bottleneck else basic,
        "stem": "imagenet" if kernel.shape[2] == 7 else "small",
        "options": options,
    }


LAYOUT = Layout(
    encoder=ResNet,
    first_layer=FIRST_LAYER,
    namings=NAMINGS,
    modules={"downsample_conv": "downsample.0", "downsample_bn": "downsample.1"},
    left_out=("fc.", "head.", "classifier.", "projector.", "projection_head.", "predictor.", "prototypes."),
    unsupported=(
        (r"^conv1\.0\.", "a first layer of three convolutions, as ResNet-D does"),
        (r"\.se\.|\.attention\.", "squeeze-and-excitation, as SE-ResNets and RegNets do"),
    ),
    infer=infer,
)
