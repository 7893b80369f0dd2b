"""EfficientNet-Lite0 (github.com/tensorflow/tpu, models/official/efficientnet/lite).

EfficientNet-B0 (Tan and Le, 2019, arXiv:1905.11946) with ReLU6 and without squeeze-and-excitation. Layers have timm's
names, with `_` for each dot.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from jaxssl.models.cpu_conv.conv import conv_general_dilated
from jaxssl.models.initializers import he_normal, he_normal_depthwise
from jaxssl.models.norm import BatchNorm

ENCODERS = ("efficientnet_lite0",)

# Image pixels per pixel of the last map: on smaller images the last stages see little but padding.
SMALLEST_IMAGE = {"imagenet": 32, "small": 16}

# For each stage: blocks, side of the depthwise kernel, stride of the first block, expansion, output channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280  # Channels; Lite does not scale them with the width.


def relu6(x: jax.Array) -> jax.Array:
    """As `nn.relu6`, with gradient 0 at 0 and at 6 as in PyTorch."""
    # Not `lax.clamp`, which jax2onnx converts at fixed shapes alone.
    return jnp.where(x >= 6, jnp.full((), 6, x.dtype), nn.relu(x))


def round_channels(channels: float) -> int:
    """Round to the nearest multiple of 8, or up if that would lose more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class MBConv(nn.Module):
    """Inverted bottleneck [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), D].

    1x1 convolution to `expansion` times the channels, depthwise convolution, 1x1 convolution to D = `width` without
    activation; plus the input if the shapes agree.
    """

    width: int
    kernel: int
    stride: int
    expansion: int
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y, inner = x, self.expansion * x.shape[-1]
        if self.expansion == 1:
            names = ("conv_dw", "bn1", "conv_pw", "bn2")
        else:
            names = ("conv_dw", "bn2", "conv_pwl", "bn3")
            y = self.conv(inner, (1, 1), name="conv_pw")(y)
            y = relu6(self.norm(name="bn1")(y))
        depthwise = partial(self.conv, feature_group_count=inner, kernel_init=he_normal_depthwise)
        y = depthwise(inner, (self.kernel, self.kernel), self.stride, name=names[0])(y)
        y = relu6(self.norm(name=names[1])(y))
        y = self.conv(self.width, (1, 1), name=names[2])(y)
        y = self.norm(name=names[3])(y)
        return x + y if self.stride == 1 and x.shape[-1] == self.width else y


class EfficientNetLite(nn.Module):
    """Images [B, H, W, C] -> {"pooled": [B, 1280], "map": [B, H', W', 1280]} float32.

    Convolutions use TensorFlow's "SAME" padding: at stride 2 one pixel more at the bottom and at the right, so that
    H' = ceil(H / 32). Unlike in the training of the published weights, there is no dropout and no stochastic depth.

    Attributes:
      width: factor of the channels between the stem and the head; 1.4 for Lite4.
      depth: factor of the number of blocks of every stage but the first and the last; 1.8 for Lite4.
      momentum: share of the batch statistics that each step keeps. The published .99 needs several hundred steps.
      stem: "imagenet" (first convolution of stride 2, as published) or "small" (stride 1: H' = ceil(H / 16)).
      dtype: of the computation; parameters, statistics and outputs stay float32.
      precision: of all convolutions but the depthwise ones, such as `jaxssl.models.linear.MIXED`.

    Raises:
      ValueError: an attribute is out of its range.
    """

    width: float = 1.0
    depth: float = 1.0
    momentum: float = 0.99
    stem: str = "imagenet"
    dtype: DTypeLike = jnp.float32
    precision: Any = None

    def __post_init__(self):
        if not (self.width > 0 and self.depth > 0 and 0 <= self.momentum < 1):
            raise ValueError(
                f"width={self.width}, depth={self.depth}, momentum={self.momentum}: width and depth must be above 0, "
                "momentum in [0, 1)"
            )
        super().__post_init__()

    @property
    def smallest_image(self) -> int:
        return SMALLEST_IMAGE[self.stem]

    @property
    def blocks(self) -> tuple[int, ...]:
        """Number of blocks of each stage."""
        first, *inner, last = (blocks for blocks, *_ in STAGES)
        return first, *(math.ceil(blocks * self.depth) for blocks in inner), last

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool, views: int = 1) -> dict[str, jax.Array]:
        conv = partial(
            nn.Conv,
            use_bias=False,
            dtype=self.dtype,
            precision=self.precision,
            kernel_init=he_normal,
            conv_general_dilated=conv_general_dilated,
        )
        norm = partial(BatchNorm, train, views, self.momentum, epsilon=1e-3, dtype=self.dtype)
        x = conv(STEM, (3, 3), 2 if self.stem == "imagenet" else 1, name="conv_stem")(image)
        x = relu6(norm(name="bn1")(x))
        for i, (_, kernel, stride, expansion, channels) in enumerate(STAGES):
            if stride > 1:
                self.sow("intermediates", "maps", x)
            for j in range(self.blocks[i]):
                shape = (round_channels(channels * self.width), kernel, 1 if j else stride, expansion)
                x = MBConv(*shape, conv, norm, name=f"blocks_{i}_{j}")(x)
        x = conv(HEAD, (1, 1), name="conv_head")(x)
        x = relu6(norm(name="bn2")(x)).astype(jnp.float32)
        self.sow("intermediates", "maps", x)
        return {"pooled": x.mean((1, 2)), "map": x}


efficientnet_lite0 = partial(EfficientNetLite, width=1.0)
