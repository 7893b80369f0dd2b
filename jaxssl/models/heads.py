"""Heads on an encoder: a linear classifier, and the MLP of projectors and predictors."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from jaxssl.models.norm import BatchNorm


class Linear(nn.Module):
    """Linear layer [B, D] -> [B, width], zero at first, so that the first prediction is uniform with loss ln(width)."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        return nn.Dense(self.width, kernel_init=nn.initializers.zeros, name="linear")(x)


class MLP(nn.Module):
    """MLP [B, D] -> [B, width]: linear, batch norm, ReLU, linear (BYOL, arXiv:2006.07733, section 3.3)."""

    hidden: int
    width: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, views: int = 1) -> jax.Array:
        x = nn.Dense(self.hidden, use_bias=False, dtype=self.dtype, name="linear1")(x)
        x = BatchNorm(train, views, dtype=self.dtype, name="bn")(x)
        x = nn.Dense(self.width, dtype=self.dtype, name="linear2")(nn.relu(x))
        return x.astype(jnp.float32)
