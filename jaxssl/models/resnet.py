"""ResNet (He et al., 2016, arXiv:1512.03385), stride on the 3x3 as in torchvision, whose layer names it keeps."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from jaxssl.models.cpu_conv.conv import conv_general_dilated
from jaxssl.models.cpu_conv.max_pool import max_pool
from jaxssl.models.initializers import he_normal
from jaxssl.models.norm import BatchNorm

ENCODERS = ("resnet18", "resnet34", "resnet50")

# Image pixels per pixel of the last map: on smaller images the last stages see little but padding.
SMALLEST_IMAGE = {"imagenet": 32, "small": 8}


class BasicBlock(nn.Module):
    width: int
    stride: int
    conv: Callable
    norm: Callable
    expansion = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv(self.width, (3, 3), self.stride, padding=1, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y))
        y = self.conv(self.width, (3, 3), padding=1, name="conv2")(y)
        y = self.norm(name="bn2")(y)
        return nn.relu(y + shortcut(self, x, self.width))


class Bottleneck(nn.Module):
    width: int
    stride: int
    conv: Callable
    norm: Callable
    expansion = 4

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv(self.width, (1, 1), name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y))
        y = self.conv(self.width, (3, 3), self.stride, padding=1, name="conv2")(y)
        y = nn.relu(self.norm(name="bn2")(y))
        y = self.conv(4 * self.width, (1, 1), name="conv3")(y)
        y = self.norm(name="bn3")(y)
        return nn.relu(y + shortcut(self, x, 4 * self.width))


def shortcut(block: nn.Module, x: jax.Array, width: int) -> jax.Array:
    """The identity, or a strided 1x1 convolution where the block changes the shape."""
    if block.stride == 1 and x.shape[-1] == width:
        return x
    x = block.conv(width, (1, 1), block.stride, padding=0, name="downsample_conv")(x)
    return block.norm(name="downsample_bn")(x)


class ResNet(nn.Module):
    """Images [B, H, W, C] -> {"pooled": [B, D], "map": [B, H', W', D]} float32; D = 8 width expansion for four stages.

    Attributes:
      block: `BasicBlock` or `Bottleneck`.
      stages: blocks in each stage; the published ones have four.
      stem: "imagenet" (7x7 of stride 2 and a max-pool: the map has 1/32 of the side) or "small" (3x3, 1/8).
      width: channels of the first stage; 64 as published.
      dtype: of the computation; parameters, statistics and outputs stay float32.
      precision: of the convolutions, such as `jaxssl.models.linear.MIXED`.
    """

    block: type[nn.Module]
    stages: tuple[int, ...]
    stem: str = "imagenet"
    width: int = 64
    dtype: DTypeLike = jnp.float32
    precision: Any = None

    @property
    def smallest_image(self) -> int:
        return SMALLEST_IMAGE[self.stem]

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
        norm = partial(BatchNorm, train, views, dtype=self.dtype)
        if self.stem == "imagenet":
            x = conv(self.width, (7, 7), 2, padding=3, name="conv1")(image)
        else:
            x = conv(self.width, (3, 3), padding=1, name="conv1")(image)
        x = nn.relu(norm(name="bn1")(x))
        if self.stem == "imagenet":
            self.sow("intermediates", "maps", x)
            x = max_pool(x)
        for i, blocks in enumerate(self.stages):
            for j in range(blocks):
                stride = 2 if i > 0 and j == 0 else 1
                x = self.block(self.width * 2**i, stride, conv, norm, name=f"layer{i + 1}_{j}")(x)
            self.sow("intermediates", "maps", x)
        x = x.astype(jnp.float32)
        return {"pooled": x.mean((1, 2)), "map": x}


resnet18 = partial(ResNet, BasicBlock, stages=(2, 2, 2, 2))
resnet34 = partial(ResNet, BasicBlock, stages=(3, 4, 6, 3))
resnet50 = partial(ResNet, Bottleneck, stages=(3, 4, 6, 3))
