"""Vision transformer (Dosovitskiy et al., 2021, arXiv:2010.11929), and MAE's decoder.

By default with the position embedding and initial weights of MAE (He et al., 2022, arXiv:2111.06377). Options cover the
variants of published weights: learnt positions, registers, LayerScale, SwiGLU, QK norm, CLIP's norm before the blocks.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from jaxssl.models.linear import Dense
from jaxssl.models.positions import resample_positions, sincos_positions

ENCODERS = ("vit_tiny", "vit_small", "vit_base", "vit_large")

EPSILON = 1e-6  # Of every layer norm, as in most published models.
POOLS = ("mean", "cls", "fc_norm")
POSITIONS = ("sincos", "learnt")

token_init = nn.initializers.normal(0.02)


def grid_of(height: int, width: int, patch: int) -> tuple[int, int]:
    """Return the rows and columns of patches that cover an image."""
    return -(-height // patch), -(-width // patch)


def patchify(image: jax.Array, patch: int) -> jax.Array:
    """[B, H, W, C] -> [B, T, patch * patch * C]: patches, and pixels within each, in row-major order.

    An image whose sides are not multiples of the patch is padded with 0 at the bottom and at the right.
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


def last_of_quarters(depth: int) -> set[int]:
    """Return the last blocks of each quarter of a transformer, whose tokens are its maps: 2, 5, 8 and 11 of twelve."""
    return {-(-depth * k // 4) - 1 for k in range(1, 5)}


def check_width(width: int, heads: int) -> None:
    """Raise ValueError unless the width is divisible by the heads, and by four for the position embedding."""
    if heads < 1 or width < 1 or width % heads or width % 4:
        raise ValueError(f"width={width} must be divisible by 4 and by heads={heads}")


def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """softmax(q k' / sqrt(D)) v, each [B, T, heads, D] (Vaswani et al., 2017, arXiv:1706.03762, equation 1).

    Equals `jax.nn.dot_product_attention`, but moves the heads before the tokens: with the heads in the middle, products
    and gradients take half as long again on CPUs. Logits and softmax are float32 for all inputs.
    """
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
    logits = jnp.matmul(q, k.swapaxes(2, 3), preferred_element_type=jnp.float32) / math.sqrt(q.shape[-1])
    return (jax.nn.softmax(logits).astype(v.dtype) @ v).swapaxes(1, 2)


def _quick_gelu(x: jax.Array) -> jax.Array:
    return x * nn.sigmoid(1.702 * x)


def _swiglu(x: jax.Array) -> jax.Array:
    gate, value = jnp.split(x, 2, axis=-1)
    return nn.silu(gate) * value


# The gradient is recomputed from the input: three more arrays, the widest of a block, need not be kept.
gelu = jax.checkpoint(partial(nn.gelu, approximate=False))
ACTIVATIONS = {
    "gelu": gelu,
    "gelu_tanh": jax.checkpoint(nn.gelu),
    "quick_gelu": jax.checkpoint(_quick_gelu),
    "swiglu": jax.checkpoint(_swiglu),
}


def drop_path(x: jax.Array, rate: float, train: bool) -> jax.Array:
    """Set a residual branch [B, ...] to 0 for each image with probability `rate` (arXiv:1603.09382); in a module.

    In training alone; what is kept is divided by 1 - rate. Random numbers are those of the collection "drop_path".
    """
    images = tuple(range(1, x.ndim))
    return nn.Dropout(rate, broadcast_dims=images, rng_collection="drop_path")(x, deterministic=not train)


class LayerScale(nn.Module):
    """[..., D] times a learnt factor per channel (Touvron et al., 2021, arXiv:2103.17239)."""

    initial: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        gamma = self.param("gamma", nn.initializers.constant(self.initial), x.shape[-1:])
        return x * gamma.astype(x.dtype)


class Block(nn.Module):
    """[B, T, D] -> [B, T, D]: x + attention(norm(x)), then x + mlp(norm(x)). Attributes are those of `ViT`."""

    heads: int
    dtype: DTypeLike = jnp.float32
    mlp_width: int = 0
    activation: str = "gelu"
    layer_scale: float = 0.0
    qk_norm: bool = False
    epsilon: float = EPSILON
    drop_path: float = 0.0
    precision: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        norm = partial(nn.LayerNorm, epsilon=self.epsilon, dtype=self.dtype)
        x = x + drop_path(self.scale(self.attend(norm(name="norm1")(x)), "ls1"), self.drop_path, train)
        return x + drop_path(self.scale(self.transform(norm(name="norm2")(x)), "ls2"), self.drop_path, train)

    def scale(self, x: jax.Array, name: str) -> jax.Array:
        return LayerScale(self.layer_scale, name=name)(x) if self.layer_scale else x

    def dense(self, width: int, name: str) -> nn.Module:
        init = nn.initializers.xavier_uniform()
        return Dense(width, dtype=self.dtype, precision=self.precision, kernel_init=init, name=name)

    def attend(self, x: jax.Array) -> jax.Array:
        batch, tokens, width = x.shape
        # Split before the heads are separated: afterwards, the gradient is laid out anew on TPUs, a fifth of the block.
        parts = jnp.split(self.dense(3 * width, "qkv")(x), 3, axis=-1)
        q, k, v = (part.reshape(batch, tokens, self.heads, width // self.heads) for part in parts)
        if self.qk_norm:
            norm = partial(nn.LayerNorm, epsilon=self.epsilon, dtype=self.dtype)
            q, k = norm(name="q_norm")(q), norm(name="k_norm")(k)
        return self.dense(width, "proj")(attention(q, k, v).reshape(x.shape))

    def transform(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        hidden = (self.mlp_width or 4 * width) * (2 if self.activation == "swiglu" else 1)
        return self.dense(width, "fc2")(ACTIVATIONS[self.activation](self.dense(hidden, "fc1")(x)))


class ViT(nn.Module):
    """Images [B, H, W, C] of any size -> {"pooled": [B, D], "tokens": [B, T, D], "cls": [B, D]} float32.

    "tokens" are the patches in row-major order, T = ceil(H / patch) ceil(W / patch); "cls" is the class token, and
    absent without one. It has no batch statistics, and `train` changes nothing but `drop_path`.

    Attributes:
      width: D, of every token; divisible by 4 and by `heads`.
      depth: blocks.
      heads: attention heads of each block.
      patch: side of a patch in pixels.
      registers: further learnt tokens that are in no output (arXiv:2309.16588).
      pool: "mean" of the patch tokens or "cls", both after the last norm, or "fc_norm", the norm of the mean of the
        patch tokens (MAE's fine-tuning), where "tokens" and "cls" have no norm.
      positions: "sincos", computed, or "learnt", one vector per patch of the first image size, resampled for others.
      mlp_width: hidden units of each block; 0 is 4 D.
      activation: "gelu", "gelu_tanh" (SigLIP; its approximation by tanh), "quick_gelu" (OpenAI's CLIP) or "swiglu"
        (the largest DINOv2; arXiv:2002.05202).
      layer_scale: initial factor of each residual branch (DINOv2); 0 for none.
      qk_norm: whether queries and keys are normalized per head (arXiv:2302.05442).
      pre_norm: whether tokens are normalized before the first block, and patches have no bias (CLIP).
      norm_epsilon: added to the variance in each norm; CLIP has 1e-5.
      dtype: of the computation; parameters and outputs stay float32.
      drop_path: rate of stochastic depth in the last block; it grows linearly from 0 in the first one.
      precision: of the products, such as `jaxssl.models.linear.MIXED`.
      class_token: whether there is one; SigLIP and I-JEPA have none.

    Raises:
      ValueError: the attributes do not fit together.
    """

    width: int
    depth: int
    heads: int
    patch: int = 16
    registers: int = 0
    pool: str = "mean"
    positions: str = "sincos"
    mlp_width: int = 0
    activation: str = "gelu"
    layer_scale: float = 0.0
    qk_norm: bool = False
    pre_norm: bool = False
    norm_epsilon: float = EPSILON
    dtype: DTypeLike = jnp.float32
    drop_path: float = 0.0
    precision: Any = None
    class_token: bool = True

    def __post_init__(self):
        check_width(self.width, self.heads)
        if self.patch < 1 or min(self.depth, self.registers, self.mlp_width, self.layer_scale) < 0:
            raise ValueError(
                f"patch={self.patch} must be 1 or more, depth={self.depth}, registers={self.registers}, "
                f"mlp_width={self.mlp_width} and layer_scale={self.layer_scale} 0 or more"
            )
        for name, allowed in (("pool", POOLS), ("positions", POSITIONS), ("activation", ACTIVATIONS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is not one of {', '.join(map(repr, allowed))}")
        if self.pool == "cls" and not self.class_token:
            raise ValueError("pool='cls' needs a class token: set class_token=True, or pool='mean'")
        super().__post_init__()

    @property
    def smallest_image(self) -> int:
        return self.patch

    @property
    def prefix_tokens(self) -> int:
        """Number of tokens before those of the patches."""
        return self.class_token + self.registers

    @nn.compact
    def __call__(
        self, image: jax.Array, *, train: bool, views: int = 1, keep: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """`keep` [B, K] int32 are the indices of visible patches; only these enter, and "tokens" is [B, K, D]."""
        del views
        norm = partial(nn.LayerNorm, epsilon=self.norm_epsilon, dtype=self.dtype)
        x = jnp.concatenate([self.prefix(image.shape[0]), self.embed(image, keep)], axis=1)
        if self.pre_norm:
            x = norm(name="norm_pre")(x)
        for i in range(self.depth):
            x = Block(
                self.heads,
                self.dtype,
                self.mlp_width,
                self.activation,
                self.layer_scale,
                self.qk_norm,
                self.norm_epsilon,
                self.drop_path * i / max(1, self.depth - 1),
                self.precision,
                name=f"blocks_{i}",
            )(x, train=train)
            if keep is None and i in last_of_quarters(self.depth):
                grid = grid_of(image.shape[1], image.shape[2], self.patch)
                self.sow("intermediates", "maps", x[:, self.prefix_tokens :].reshape(x.shape[0], *grid, self.width))
        if self.pool != "fc_norm":
            x = norm(name="norm")(x)
        x = x.astype(jnp.float32)
        cls, tokens = x[:, 0], x[:, self.prefix_tokens :]
        pooled = cls if self.pool == "cls" else tokens.mean(1)
        if self.pool == "fc_norm":
            pooled = norm(name="fc_norm")(pooled).astype(jnp.float32)
        return {"pooled": pooled, "tokens": tokens} | ({"cls": cls} if self.class_token else {})

    def prefix(self, batch: int) -> jax.Array:
        """Return class token and registers [B, class_token + registers, D]."""
        counts = {"cls_token": int(self.class_token), "reg_token": self.registers}
        tokens = [self.param(name, token_init, (1, count, self.width)) for name, count in counts.items() if count]
        tokens = jnp.concatenate([*tokens, jnp.zeros((1, 0, self.width))], axis=1).astype(self.dtype)
        return jnp.broadcast_to(tokens, (batch, *tokens.shape[1:]))

    def embed(self, image: jax.Array, keep: jax.Array | None) -> jax.Array:
        """Return the tokens [B, T, D] of the patches with their positions, or [B, K, D] of those in `keep`."""
        patches = patchify(image, self.patch)
        positions = self.position_table(*grid_of(image.shape[1], image.shape[2], self.patch))
        if keep is not None:
            patches = jnp.take_along_axis(patches, keep[..., None], axis=1)
            positions = positions[keep]
        embed = Dense(
            self.width,
            use_bias=not self.pre_norm,
            dtype=self.dtype,
            precision=self.precision,
            kernel_init=nn.initializers.xavier_uniform(),
            name="patch_embed",
        )
        return embed(patches) + positions.astype(self.dtype)

    def position_table(self, rows: int, columns: int) -> jax.Array:
        """Return [rows * columns, D] positions."""
        if self.positions == "sincos":
            return jnp.asarray(sincos_positions(rows, columns, self.width))
        shape = (1, rows, columns, self.width)
        if self.has_variable("params", "pos_embed"):  # Learnt on another grid, perhaps.
            shape = self.get_variable("params", "pos_embed").shape
        table = self.param("pos_embed", token_init, shape)
        return resample_positions(table, rows, columns).reshape(rows * columns, self.width)


class Decoder(nn.Module):
    """MAE's decoder: from the class token and the visible tokens to the pixels of all patches, 0 at first.

    Attributes:
      width: of its tokens; divisible by 4 and by `heads`.
      depth: blocks.
      heads: attention heads of each block.
      dtype: of the computation; parameters and the output stay float32.
      precision: of the products.
    """

    width: int
    depth: int
    heads: int
    dtype: DTypeLike = jnp.float32
    precision: Any = None

    def __post_init__(self):
        check_width(self.width, self.heads)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, cls: jax.Array | None, tokens: jax.Array, place: jax.Array, grid: tuple[int, int], outputs: int
    ) -> jax.Array:
        """[B, D], [B, K, D] -> [B, T, outputs] float32.

        Args:
          cls: the encoder's class token, if it has one.
          tokens: the encoder's tokens of the K visible patches.
          place: [B, T] int32: patch t is the visible token `place[t]`, or masked if that is K or more.
          grid: rows and columns of patches, T in all.
          outputs: numbers per patch.
        """
        embed = Dense(
            self.width,
            dtype=self.dtype,
            precision=self.precision,
            kernel_init=nn.initializers.xavier_uniform(),
            name="embed",
        )
        mask_token = self.param("mask_token", token_init, (1, 1, self.width)).astype(self.dtype)
        masked = jnp.broadcast_to(mask_token, (len(tokens), place.shape[1] - tokens.shape[1], self.width))
        x = jnp.concatenate([embed(tokens), masked], axis=1)
        x = jnp.take_along_axis(x, place[..., None], axis=1)
        x = x + jnp.asarray(sincos_positions(*grid, self.width), self.dtype)
        if cls is not None:
            x = jnp.concatenate([embed(cls)[:, None], x], axis=1)
        for i in range(self.depth):
            x = Block(self.heads, self.dtype, precision=self.precision, name=f"blocks_{i}")(x)
        x = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name="norm")(x)
        predict = Dense(
            outputs,
            dtype=self.dtype,
            precision=self.precision,
            kernel_init=nn.initializers.zeros,
            name="predict",
        )
        return predict(x[:, -place.shape[1] :]).astype(jnp.float32)


# The published widths, depths and heads.
vit_tiny = partial(ViT, width=192, depth=12, heads=3)
vit_small = partial(ViT, width=384, depth=12, heads=6)
vit_base = partial(ViT, width=768, depth=12, heads=12)
vit_large = partial(ViT, width=1024, depth=24, heads=16)
