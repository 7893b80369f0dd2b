"""Heads on an encoder: classifiers, and the MLP of projectors and predictors."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from jaxssl.models.linear import Dense
from jaxssl.models.norm import BatchNorm
from jaxssl.models.vit import EPSILON, attention


class Linear(nn.Module):
    """Linear layer [B, D] -> [B, width], zero at first, so that the first prediction is uniform with loss ln(width)."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        return nn.Dense(self.width, kernel_init=nn.initializers.zeros, name="linear")(x)


class Classifier(nn.Module):
    """Linear layer on "pooled" of an encoder, zero at first, or an MLP that ends with one: -> [B, classes].

    Attributes:
      classes: outputs.
      hidden: widths of the hidden layers, each with a ReLU.
    """

    classes: int
    hidden: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, out: Mapping[str, jax.Array], *, train: bool) -> jax.Array:
        x = out["pooled"]
        for i, width in enumerate(self.hidden):
            x = nn.relu(nn.Dense(width, name=f"hidden{i}")(x))
        return nn.Dense(self.classes, kernel_init=nn.initializers.zeros, name="linear")(x)


class AttentiveClassifier(nn.Module):
    """Linear layer on what one learnt query reads from tokens or a map by cross-attention: -> [B, classes].

    The attentive probe of AIM (El-Nouby et al., 2024, arXiv:2401.08541) and V-JEPA (Bardes et al., 2024,
    arXiv:2404.08471), without the latter's MLP. Heads are 64 wide where that divides the width; otherwise there is one.
    """

    classes: int

    @nn.compact
    def __call__(self, out: Mapping[str, jax.Array], *, train: bool) -> jax.Array:
        x = out["tokens"] if "tokens" in out else out["map"]
        batch, width = x.shape[0], x.shape[-1]
        heads = width // 64 if width % 64 == 0 else 1
        x = nn.LayerNorm(epsilon=EPSILON, name="norm")(x.reshape(batch, -1, width))
        query = self.param("query", nn.initializers.normal(0.02), (1, 1, width))
        query = jnp.broadcast_to(query, (batch, 1, width))
        key, value = Dense(width, name="key")(x), Dense(width, name="value")(x)
        q, k, v = (y.reshape(batch, -1, heads, width // heads) for y in (query, key, value))
        read = attention(q, k, v).reshape(batch, width)
        return nn.Dense(self.classes, kernel_init=nn.initializers.zeros, name="linear")(read)


def classifier_of(classes: int, params: Mapping[str, Any]) -> nn.Module:
    """Return the classifier that has these parameters."""
    if "query" in params:
        return AttentiveClassifier(classes)
    return Classifier(classes, tuple(params[f"hidden{i}"]["kernel"].shape[1] for i in range(len(params) - 1)))


class MLP(nn.Module):
    """MLP [B, D] -> [B, width]: linear, batch norm, ReLU, linear (BYOL, arXiv:2006.07733, section 3.3).

    `dtype` and `precision` are as in the encoders.
    """

    hidden: int
    width: int
    dtype: DTypeLike = jnp.float32
    precision: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, views: int = 1) -> jax.Array:
        dense = partial(Dense, dtype=self.dtype, precision=self.precision)
        x = dense(self.hidden, use_bias=False, name="linear1")(x)
        x = BatchNorm(train, views, dtype=self.dtype, name="bn")(x)
        x = dense(self.width, name="linear2")(nn.relu(x))
        return x.astype(jnp.float32)


def make_mlp(encoder: Any, hidden: int, width: int) -> MLP:
    """Return an MLP that computes in the precision of an encoder."""
    return MLP(hidden, width, encoder.dtype, getattr(encoder, "precision", None))
