"""Decoders of segmentation: from the feature maps of an encoder to a logit of each class and pixel."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from jaxssl.models.cpu_conv.conv import conv_general_dilated
from jaxssl.models.initializers import he_normal
from jaxssl.models.linear import Dense
from jaxssl.models.norm import BatchNorm

Tree = Any
MAX_WIDTH = 64
MIN_WIDTH = 16
BACKGROUND_BIAS = 3.0  # Of the logits, so that a class has a probability of about 5 % at first.
small_normal = nn.initializers.variance_scaling(0.1, "fan_in", "normal")


def background_bias(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Initialize a bias with 0, and that of the first class, the background, with `BACKGROUND_BIAS`."""
    del key
    return jnp.zeros(shape, dtype).at[0].set(BACKGROUND_BIAS)


def apply_maps(
    encoder: nn.Module, params: Tree, state: Tree, image: jax.Array, *, train: bool, **kw: Any
) -> tuple[list[jax.Array], Tree]:
    """Return the feature maps [B, h, w, D] of an encoder, from fine to coarse, and its state, changed in training only.

    An encoder that sows no "maps" has one: its "map", or its "tokens" on a square grid.
    """
    variables, mutable = {"params": params, **state}, ["intermediates", *(state if train else ())]
    applied: Any = encoder.apply(variables, image, train=train, mutable=mutable, **kw)
    out, changed = applied
    sown = changed.get("intermediates", {}).get("maps")
    state = {name: changed[name] for name in state} if train else state
    if sown:
        return list(sown), state
    if "map" in out:
        return [out["map"]], state
    side = math.isqrt(out["tokens"].shape[1])
    return [out["tokens"].reshape(len(image), side, side, -1)], state


def make(protocol: str, classes: int, dtype: DTypeLike) -> nn.Module:
    """Return the decoder of a protocol: linear for "segment_linear", a U-Net's for "segment"."""
    return LinearDecoder(classes) if protocol == "segment_linear" else UNetDecoder(classes, dtype)


class LinearDecoder(nn.Module):
    """Maps [B, h, w, D] -> logits [B, *size, classes] float32: a linear classifier of pixels.

    A pixel is classified by the features of all maps at its place, interpolated bilinearly (hypercolumns, Hariharan et
    al., 2015, arXiv:1411.5752). Each map is normalized over the batch and has a 1x1 convolution, zero at first, which
    is applied before the interpolation, as both commute.
    """

    classes: int

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], size: tuple[int, int], *, train: bool) -> jax.Array:
        logits = self.param("bias", nn.initializers.zeros, (self.classes,))
        for i, x in enumerate(maps):
            x = BatchNorm(train, name=f"bn{i}")(x.astype(jnp.float32))
            x = Dense(self.classes, use_bias=False, kernel_init=nn.initializers.zeros, name=f"linear{i}")(x)
            logits = logits + resize(x, size)
        return logits


class UNetDecoder(nn.Module):
    """Maps [B, h, w, D] -> logits [B, *size, classes] float32, like the expanding path of a U-Net (arXiv:1505.04597).

    From the coarsest map on, features are interpolated bilinearly to the next map, joined with it, and convolved twice
    (3x3, batch norm, ReLU). Where the finest map has less than half the side of the image, further steps double the
    side. Widths are those of the maps, `MAX_WIDTH` at most. At first most pixels are background (Lin et al., 2017,
    arXiv:1708.02002, section 4.1).
    """

    classes: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], size: tuple[int, int], *, train: bool) -> jax.Array:
        *finer, x = maps
        x = self.convolve(x, min(MAX_WIDTH, x.shape[-1]), "coarsest", train)
        for i, skip in reversed(list(enumerate(finer))):
            x = jnp.concatenate([resize(x, skip.shape[1:3]), skip.astype(self.dtype)], axis=-1)
            for j in (1, 2):
                x = self.convolve(x, min(MAX_WIDTH, skip.shape[-1]), f"level{i}_{j}", train)
        step = 0
        while 2 * x.shape[1] < size[0]:
            step += 1
            x = resize(x, (2 * x.shape[1], 2 * x.shape[2]))
            x = self.convolve(x, max(MIN_WIDTH, x.shape[-1] // 2), f"upsample{step}", train)
        # With zeros, as heads begin, the first masks take hundreds of steps: nearly all pixels are background.
        linear = Dense(self.classes, kernel_init=small_normal, bias_init=background_bias, name="linear")
        logits = linear(x.astype(jnp.float32))
        return resize(logits, size)

    def convolve(self, x: jax.Array, width: int, name: str, train: bool) -> jax.Array:
        conv = partial(nn.Conv, padding=1, use_bias=False, dtype=self.dtype, kernel_init=he_normal)
        x = conv(width, (3, 3), conv_general_dilated=conv_general_dilated, name=f"{name}_conv")(x)
        return nn.relu(BatchNorm(train, dtype=self.dtype, name=f"{name}_bn")(x))


def resize(x: jax.Array, size: Sequence[int]) -> jax.Array:
    """Interpolate [B, h, w, D] bilinearly to [B, *size, D]."""
    return x if x.shape[1:3] == tuple(size) else jax.image.resize(x, (len(x), *size, x.shape[-1]), "linear")
