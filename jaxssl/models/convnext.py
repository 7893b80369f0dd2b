"""ConvNeXt (Liu et al., 2022, arXiv:2201.03545). Layers have timm's names, with `_` for each dot."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from jaxssl.models.cpu_conv.conv import conv_general_dilated
from jaxssl.models.linear import Dense
from jaxssl.models.vit import drop_path, gelu

ENCODERS = ("convnext_tiny", "convnext_small")

truncated_normal = nn.initializers.truncated_normal(0.02)
Norm = partial(nn.LayerNorm, epsilon=1e-6)


class Block(nn.Module):
    """[B, H, W, D] -> [B, H, W, D]: depthwise 7x7 convolution, norm, MLP of 4 D hidden units, LayerScale, residual."""

    layer_scale: float
    dtype: DTypeLike = jnp.float32
    drop_path: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        width = x.shape[-1]
        dense = partial(Dense, dtype=self.dtype, kernel_init=truncated_normal)
        depthwise = nn.Conv(
            width,
            (7, 7),
            padding=3,
            feature_group_count=width,
            dtype=self.dtype,
            kernel_init=truncated_normal,
            conv_general_dilated=conv_general_dilated,
            name="conv_dw",
        )
        y = Norm(dtype=self.dtype, name="norm")(depthwise(x))
        y = dense(width, name="fc2")(gelu(dense(4 * width, name="fc1")(y)))
        gamma = self.param("gamma", nn.initializers.constant(self.layer_scale), (width,))
        return x + drop_path(y * gamma.astype(y.dtype), self.drop_path, train)


class Stage(nn.Module):
    """[B, H, W, C] -> [B, H / 2, W / 2, D] (the first stage keeps the size): norm and 2x2 convolution, then blocks.

    `drop_paths` has the rate of each block.
    """

    width: int
    drop_paths: tuple[float, ...]
    downsample: bool
    layer_scale: float
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        if self.downsample:
            x = Norm(dtype=self.dtype, name="downsample_norm")(x)
            x = strided(self.width, 2, self.dtype, "downsample_conv")(x)
        for i, rate in enumerate(self.drop_paths):
            x = Block(self.layer_scale, self.dtype, rate, name=f"blocks_{i}")(x, train=train)
        return x


def strided(width: int, stride: int, dtype: DTypeLike, name: str) -> nn.Conv:
    """Return a convolution of patches that do not overlap."""
    return nn.Conv(
        width,
        (stride, stride),
        stride,
        padding="VALID",
        dtype=dtype,
        kernel_init=truncated_normal,
        conv_general_dilated=conv_general_dilated,
        name=name,
    )


class ConvNeXt(nn.Module):
    """Images [B, H, W, C] -> {"pooled": [B, D], "map": [B, H', W', D]} float32, H' = floor(H / 32).

    "pooled" is the norm of the mean of the map. It has no batch statistics; `train` matters to `drop_path` alone.

    Attributes:
      depths: blocks of each stage.
      widths: channels of each stage.
      stem: "imagenet" (patches of 4x4 pixels, as published) or "small" (2x2: H' = floor(H / 16)).
      layer_scale: initial factor of each residual branch.
      dtype: of the computation; parameters and outputs stay float32.
      drop_path: rate of stochastic depth in the last block; it grows linearly from 0 in the first one.

    Raises:
      ValueError: the attributes do not fit together.
    """

    depths: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    stem: str = "imagenet"
    layer_scale: float = 1e-6
    dtype: DTypeLike = jnp.float32
    drop_path: float = 0.0

    def __post_init__(self):
        if len(self.depths) != len(self.widths) or min(self.widths, default=0) < 1:
            raise ValueError(f"depths={self.depths} and widths={self.widths} must have one number per stage")
        super().__post_init__()

    @property
    def patch_side(self) -> int:
        return 4 if self.stem == "imagenet" else 2

    @property
    def smallest_image(self) -> int:
        return self.patch_side * 2 ** (len(self.widths) - 1)

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool, views: int = 1) -> dict[str, jax.Array]:
        del views
        x = strided(self.widths[0], self.patch_side, self.dtype, "stem_conv")(image)
        x = Norm(dtype=self.dtype, name="stem_norm")(x)
        blocks = sum(self.depths)
        rates = tuple(self.drop_path * i / max(1, blocks - 1) for i in range(blocks))
        for i, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True)):
            own, rates = rates[:depth], rates[depth:]
            x = Stage(width, own, i > 0, self.layer_scale, self.dtype, name=f"stages_{i}")(x, train=train)
            self.sow("intermediates", "maps", x)
        x = x.astype(jnp.float32)
        return {"pooled": Norm(name="norm_pool")(x.mean((1, 2))), "map": x}


convnext_tiny = partial(ConvNeXt, depths=(3, 3, 9, 3))
convnext_small = partial(ConvNeXt, depths=(3, 3, 27, 3))
