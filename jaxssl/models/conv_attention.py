"""A small convolutional network with self-attention over the positions of its last map.

It is that of a student project on simulated gravitational lenses (ML4SCI's DeepLense) at 150 px: three stages of 64,
128 and 256 channels, 150 -> 75 -> 37 -> 18 pixels, and 8 heads of attention over the 18x18 positions. What its
description leaves open is chosen here: a stage is a 3x3 convolution, batch norm, ReLU and a 2x2 max-pool that drops an
odd last row or column; attention knows positions by the sines and cosines of MAE, and its output is added to its input
before a layer norm.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from jaxssl.models.autoencoder import max_pool
from jaxssl.models.cpu_conv.conv import conv_general_dilated
from jaxssl.models.initializers import he_normal
from jaxssl.models.linear import Dense
from jaxssl.models.norm import BatchNorm
from jaxssl.models.positions import sincos_positions
from jaxssl.models.vit import EPSILON, attention, check_width

ENCODERS = ("conv_attention",)


class Attention(nn.Module):
    """[B, H, W, D] -> [B, H, W, D]: norm(x + attention(x + positions)), as in the Transformer (Vaswani et al., 2017,
    arXiv:1706.03762), but that the positions enter the attention alone."""

    heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape
        dense = partial(Dense, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform())
        positions = jnp.asarray(sincos_positions(height, width, channels), self.dtype)
        y = dense(3 * channels, name="qkv")(x.reshape(batch, height * width, channels) + positions)
        y = y.reshape(batch, height * width, 3, self.heads, channels // self.heads)
        y = attention(*jnp.moveaxis(y, 2, 0)).reshape(x.shape)
        return nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name="norm")(x + dense(channels, name="proj")(y))


class ConvAttention(nn.Module):
    """Images [B, H, W, C] -> {"pooled": [B, D], "map": [B, H', W', D]} float32; H' = floor(H / 8) for three stages.

    D is 256 by default. Time and memory of the attention grow with (H' W')**2: use a further stage for large images.

    Attributes:
      widths: channels of each stage; the last is D, which divides by 4 and by `heads`.
      heads: of the attention.
      dtype: of the computation; parameters, statistics and outputs stay float32.

    Raises:
      ValueError: at once, where the attributes do not fit together.
    """

    widths: tuple[int, ...] = (64, 128, 256)
    heads: int = 8
    dtype: DTypeLike = jnp.float32

    def __post_init__(self):
        if min(self.widths, default=0) < 1:
            raise ValueError(f"widths={self.widths} must give each of one stage or more a channel or more")
        check_width(self.widths[-1], self.heads)
        super().__post_init__()

    @property
    def smallest_image(self) -> int:
        return 2 ** len(self.widths)

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool, views: int = 1) -> dict[str, jax.Array]:
        conv = partial(
            nn.Conv,
            kernel_size=(3, 3),
            padding=1,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=he_normal,
            conv_general_dilated=conv_general_dilated,
        )
        norm = partial(BatchNorm, train, views, dtype=self.dtype)
        x = image
        for i, width in enumerate(self.widths):
            x = conv(width, name=f"stage{i + 1}_conv")(x)
            x = nn.relu(norm(name=f"stage{i + 1}_bn")(x))
            self.sow("intermediates", "maps", x)
            x = max_pool(x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2])
        x = Attention(self.heads, self.dtype, name="attention")(x).astype(jnp.float32)
        self.sow("intermediates", "maps", x)
        return {"pooled": x.mean((1, 2)), "map": x}


conv_attention = partial(ConvAttention, widths=(64, 128, 256))
