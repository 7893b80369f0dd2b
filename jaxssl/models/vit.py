"""Vision transformer (Dosovitskiy et al., 2021, arXiv:2010.11929) with the position embedding and initial weights of
MAE (He et al., 2022, arXiv:2111.06377), and MAE's decoder."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike

from jaxssl.models.linear import Dense

ENCODERS = ("vit_tiny", "vit_small", "vit_base")

EPSILON = 1e-6  # Of every layer norm, as published.

token_init = nn.initializers.normal(0.02)


def grid_of(height: int, width: int, patch: int) -> tuple[int, int]:
    """Rows and columns of patches that cover an image."""
    return -(-height // patch), -(-width // patch)


def patchify(image: jax.Array, patch: int) -> jax.Array:
    """[B, H, W, C] -> [B, T, patch * patch * C]: the patches row by row, in each its pixels row by row.

    An image whose sides are no multiples of the patch is filled up with 0 at the bottom and at the right.
    """
    batch, height, width, channels = image.shape
    rows, columns = grid_of(height, width, patch)
    x = jnp.pad(image, ((0, 0), (0, rows * patch - height), (0, columns * patch - width), (0, 0)))
    x = x.reshape(batch, rows, patch, columns, patch, channels).swapaxes(2, 3)
    return x.reshape(batch, rows * columns, patch * patch * channels)


def unpatchify(patches: jax.Array, patch: int, height: int, width: int) -> jax.Array:
    """[B, T, patch * patch * C] -> [B, H, W, C]: the inverse of `patchify`."""
    rows, columns = grid_of(height, width, patch)
    x = patches.reshape(len(patches), rows, columns, patch, patch, -1).swapaxes(2, 3)
    return x.reshape(len(patches), rows * patch, columns * patch, -1)[:, :height, :width]


def sincos_positions(rows: int, columns: int, width: int) -> np.ndarray:
    """[rows * columns, width] float32: sines and cosines of the column, then of the row, at width / 4 frequencies.

    The table of MAE's `get_2d_sincos_pos_embed`; it is computed, not learnt, so one encoder takes any image size.
    """
    frequency = 10000.0 ** (-np.arange(width // 4) / (width // 4))
    row, column = np.indices((rows, columns)).reshape(2, -1, 1) * frequency
    return np.concatenate([np.sin(column), np.cos(column), np.sin(row), np.cos(row)], -1).astype(np.float32)


def check_width(width: int, heads: int) -> None:
    """ValueError unless the width divides among the heads, and in four for the position embedding."""
    if heads < 1 or width < 1 or width % heads or width % 4:
        raise ValueError(f"width={width} must divide by 4 and by heads={heads}")


def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """softmax(q k' / sqrt(D)) v, each [B, T, heads, D] (Vaswani et al., 2017, arXiv:1706.03762, equation 1).

    As `jax.nn.dot_product_attention`, but the heads are laid before the tokens: on CPUs its products with the heads
    in the middle take half as long again, gradients included. Logits and softmax are float32 whatever the inputs are.
    """
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
    logits = jnp.matmul(q, k.swapaxes(2, 3), preferred_element_type=jnp.float32) / math.sqrt(q.shape[-1])
    return (jax.nn.softmax(logits).astype(v.dtype) @ v).swapaxes(1, 2)


# Its gradient is computed from its input alone: three more arrays, the widest of a block, need not be kept.
gelu = jax.checkpoint(partial(nn.gelu, approximate=False))


class Block(nn.Module):
    """[B, T, D] -> [B, T, D]: x + attention(norm(x)), then x + mlp(norm(x))."""

    heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, tokens, width = x.shape
        dense = partial(Dense, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform())
        norm = partial(nn.LayerNorm, epsilon=EPSILON, dtype=self.dtype)
        y = dense(3 * width, name="qkv")(norm(name="norm1")(x))
        # Split before the heads are told apart: after it, the gradient is laid out anew on TPUs, a fifth of the block.
        q, k, v = (part.reshape(batch, tokens, self.heads, width // self.heads) for part in jnp.split(y, 3, axis=-1))
        x = x + dense(width, name="proj")(attention(q, k, v).reshape(x.shape))
        y = dense(4 * width, name="fc1")(norm(name="norm2")(x))
        return x + dense(width, name="fc2")(gelu(y))


class ViT(nn.Module):
    """Gives {"pooled": [B, D], "tokens": [B, T, D], "cls": [B, D]} float32 for images [B, H, W, C] of any size.

    "tokens" are the patches row by row, T = ceil(H / patch) ceil(W / patch); "cls" is the class token. It has no batch
    statistics, and `train` changes nothing.

    Attributes:
      width: D, of every token; divides by 4 and by `heads`.
      depth: blocks.
      heads: of the attention in each.
      patch: side of a patch in pixels.
      registers: further learnt tokens that are in no output (arXiv:2309.16588).
      pool: "mean" of the patch tokens, or "cls"; both after the last norm.
      dtype: of the computation; parameters and outputs stay float32.

    Raises:
      ValueError: at once, where the attributes do not fit together.
    """

    width: int
    depth: int
    heads: int
    patch: int = 16
    registers: int = 0
    pool: str = "mean"
    dtype: DTypeLike = jnp.float32

    def __post_init__(self):
        check_width(self.width, self.heads)
        if self.patch < 1 or self.depth < 0 or self.registers < 0:
            raise ValueError(
                f"patch={self.patch}, depth={self.depth}, registers={self.registers}: a patch has a pixel or more, and "
                "the others are not negative"
            )
        if self.pool not in ("mean", "cls"):
            raise ValueError(f"pool={self.pool!r} is neither 'mean' nor 'cls'")
        super().__post_init__()

    @property
    def smallest_image(self) -> int:
        return self.patch

    @nn.compact
    def __call__(
        self, image: jax.Array, *, train: bool, views: int = 1, keep: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """`keep` [B, K] int32 names the patches that are seen: no other enters, and "tokens" is [B, K, D] of these."""
        del train, views
        patches = patchify(image, self.patch)
        rows, columns = grid_of(image.shape[1], image.shape[2], self.patch)
        positions = jnp.asarray(sincos_positions(rows, columns, self.width))
        if keep is not None:
            patches = jnp.take_along_axis(patches, keep[..., None], axis=1)
            positions = positions[keep]
        embed = Dense(self.width, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform(), name="patch_embed")
        tokens = embed(patches) + positions.astype(self.dtype)
        extra = [self.param("cls_token", token_init, (1, 1, self.width))]
        if self.registers:
            extra.append(self.param("reg_token", token_init, (1, self.registers, self.width)))
        extra = jnp.concatenate(extra, axis=1).astype(self.dtype)
        x = jnp.concatenate([jnp.broadcast_to(extra, (len(image), *extra.shape[1:])), tokens], axis=1)
        for i in range(self.depth):
            x = Block(self.heads, self.dtype, name=f"blocks_{i}")(x)
        x = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name="norm")(x).astype(jnp.float32)
        cls, tokens = x[:, 0], x[:, 1 + self.registers :]
        return {"pooled": cls if self.pool == "cls" else tokens.mean(1), "tokens": tokens, "cls": cls}


class Decoder(nn.Module):
    """MAE's decoder: from the class token and the visible tokens to the pixels of every patch, 0 at the start.

    Attributes:
      width: of its tokens; divides by 4 and by `heads`.
      depth: blocks.
      heads: of the attention in each.
      dtype: of the computation; parameters and the output stay float32.
    """

    width: int
    depth: int
    heads: int
    dtype: DTypeLike = jnp.float32

    def __post_init__(self):
        check_width(self.width, self.heads)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, cls: jax.Array, tokens: jax.Array, place: jax.Array, grid: tuple[int, int], outputs: int
    ) -> jax.Array:
        """[B, D], [B, K, D] -> [B, T, outputs] float32.

        Args:
          cls: the encoder's class token.
          tokens: the encoder's tokens of the K visible patches.
          place: [B, T] int32: patch t is the visible token `place[t]`, or masked where that is K or more.
          grid: rows and columns of patches, T in all.
          outputs: numbers a patch.
        """
        embed = Dense(self.width, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform(), name="embed")
        mask_token = self.param("mask_token", token_init, (1, 1, self.width)).astype(self.dtype)
        masked = jnp.broadcast_to(mask_token, (len(tokens), place.shape[1] - tokens.shape[1], self.width))
        x = jnp.concatenate([embed(tokens), masked], axis=1)
        x = jnp.take_along_axis(x, place[..., None], axis=1)
        x = x + jnp.asarray(sincos_positions(*grid, self.width), self.dtype)
        x = jnp.concatenate([embed(cls)[:, None], x], axis=1)
        for i in range(self.depth):
            x = Block(self.heads, self.dtype, name=f"blocks_{i}")(x)
        x = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name="norm")(x)
        predict = Dense(outputs, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="predict")
        return predict(x[:, 1:]).astype(jnp.float32)


def vit_tiny(
    *,
    width: int = 192,
    depth: int = 12,
    heads: int = 3,
    patch: int = 16,
    registers: int = 0,
    pool: str = "mean",
    dtype: DTypeLike = jnp.float32,
) -> ViT:
    return ViT(width, depth, heads, patch, registers, pool, dtype)


def vit_small(
    *,
    width: int = 384,
    depth: int = 12,
    heads: int = 6,
    patch: int = 16,
    registers: int = 0,
    pool: str = "mean",
    dtype: DTypeLike = jnp.float32,
) -> ViT:
    return ViT(width, depth, heads, patch, registers, pool, dtype)


def vit_base(
    *,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    patch: int = 16,
    registers: int = 0,
    pool: str = "mean",
    dtype: DTypeLike = jnp.float32,
) -> ViT:
    return ViT(width, depth, heads, patch, registers, pool, dtype)
