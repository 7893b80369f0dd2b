"""The maximum over 3x3 windows at stride 2, with a gradient that is fast on the CPU.

Forward and backward at 32 px, 64 channels, batch 128 take 145 ms with the native gradient (select_and_scatter), 50
with the shifted one.
"""

import operator
from functools import reduce

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxssl.models.cpu_conv.dispatch import by_platform
from jaxssl.models.cpu_conv.geometry import Geometry, taps


@jax.custom_vjp
def max_pool(x: jax.Array) -> jax.Array:
    """Maximum over 3x3 windows, stride 2, padding 1: [N, H, W, C] to [N, ceil(H / 2), ceil(W / 2), C].

    Values and gradient are those of `flax.linen.max_pool`: of equal largest values in a window, the first in
    row-major order takes the whole gradient. Reverse-mode differentiable only.
    """
    return native_max_pool(x)


def native_max_pool(x: jax.Array) -> jax.Array:
    # Padded here, which XLA undoes, and not by `lax.pad`: jax2onnx loses the padding of a pooling, and `lax.pad` of
    # any number of images.
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    return nn.max_pool(x, window_shape=(3, 3), strides=(2, 2))


def native_max_pool_gradient(x: jax.Array, g: jax.Array) -> jax.Array:
    return jax.vjp(native_max_pool, x)[1](g)[0]


def _max_pool_backward(x, g):
    return (by_platform(shifted_max_pool_gradient, native_max_pool_gradient, x, g),)


max_pool.defvjp(lambda x: (max_pool(x), x), _max_pool_backward)


def shifted_max_pool_gradient(x: jax.Array, g: jax.Array) -> jax.Array:
    geometry = Geometry((2, 2), ((1, 1), (1, 1)), 1, None)
    best, *others = taps(x, (3, 3), geometry, -jnp.inf)
    winner = jnp.zeros(best.shape, jnp.int8)
    for i, view in enumerate(others, start=1):
        winner = jnp.where(view > best, jnp.int8(i), winner)
        best = jnp.maximum(best, view)

    def pick(x: jax.Array) -> jax.Array:
        picked = (jnp.where(winner == i, view, 0) for i, view in enumerate(taps(x, (3, 3), geometry)))
        return reduce(operator.add, picked)

    return jax.linear_transpose(pick, x)(g)[0]
