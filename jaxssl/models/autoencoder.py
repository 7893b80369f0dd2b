"""A convolutional autoencoder: 32-32-pool-64-64-pool-128-128-pool-128-128, and a decoder that mirrors it."""

import math
from functools import partial, reduce

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from jaxssl.models.cpu_conv.conv import conv_general_dilated
from jaxssl.models.initializers import he_truncated

ENCODERS = ("autoencoder",)


class Encoder(nn.Module):
    """Images [B, H, W, C] -> {"pooled": [B, D], "map": [B, H', W', D]} float32; with four stages H' = ceil(H / 8).

    3x3 convolutions with ReLU, and a 2x2 max-pool between two stages. It has no batch statistics, and `train` changes
    nothing.

    Attributes:
      widths: channels of each stage; the last is D.
      dtype: of the computation; parameters and outputs stay float32.
    """

    widths: tuple[int, ...] = (32, 64, 128, 128)
    dtype: DTypeLike = jnp.float32

    @property
    def smallest_image(self) -> int:
        return 2 ** (len(self.widths) - 1)

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool, views: int = 1) -> dict[str, jax.Array]:
        del train, views
        x = image
        for i, width in enumerate(self.widths):
            if i:
                x = max_pool(x)
            x = convolve_twice(x, width, self.dtype, f"stage{i + 1}")
            self.sow("intermediates", "maps", x)
        x = x.astype(jnp.float32)
        return {"pooled": x.mean((1, 2)), "map": x}


class Decoder(nn.Module):
    """Decoder from a map to an image, 0 at first: each stage doubles the side by repetition and convolves twice.

    A map of 1/8 of the side, as `Encoder` returns it, takes three stages of 128, 64 and 32 channels; 1/32 takes two
    more of 128.

    Attributes:
      width: channels of the last stage; each stage before has twice as many, up to four times `width`.
      dtype: of the computation; parameters and the output stay float32.
    """

    width: int = 32
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
        """[B, H', W', D] -> [B, *shape] float32; `shape` is (H, W, C) of the image."""
        *size, channels = shape
        stages = max(0, round(math.log2(size[0] / x.shape[1])))
        sizes = [[-(-side // 2**k) for side in size] for k in range(stages + 1)]
        if x.shape[1:3] != tuple(sizes[-1]):
            x = jax.image.resize(x, (len(x), *sizes[-1], x.shape[3]), "linear")
        for k in reversed(range(stages)):
            x = upsample(x)[:, : sizes[k][0], : sizes[k][1]]
            x = convolve_twice(x, self.width * min(2**k, 4), self.dtype, f"stage{k + 1}")
        last = conv(channels, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="image")
        return last(x).astype(jnp.float32)


conv = partial(nn.Conv, kernel_size=(3, 3), padding=1, conv_general_dilated=conv_general_dilated)


def convolve_twice(x: jax.Array, width: int, dtype: DTypeLike, name: str) -> jax.Array:
    for j in (1, 2):
        x = nn.relu(conv(width, dtype=dtype, kernel_init=he_truncated, name=f"{name}_conv{j}")(x))
    return x


def max_pool(x: jax.Array) -> jax.Array:
    """Maximum over 2x2 windows of non-negative values: [B, H, W, C] -> [B, ceil(H / 2), ceil(W / 2), C].

    Equals `nn.max_pool(x, (2, 2), (2, 2), "SAME")`, whose gradient takes eight times as long on the CPU.
    """
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
    return reduce(jnp.maximum, (x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)))


def upsample(x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, 2H, 2W, C], each pixel four times; its gradient is a sum, faster than that of a gather."""
    batch, height, width, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, channels))
    return x.reshape(batch, 2 * height, 2 * width, channels)


autoencoder = partial(Encoder, widths=(32, 64, 128, 128))
