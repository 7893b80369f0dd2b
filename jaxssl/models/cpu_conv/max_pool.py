"""The maximum over 3x3 windows at stride 2, whose forms here are fast on the CPU.

Forward and backward at 32 px, 64 channels, batch 128 take 145 ms with the native gradient (select_and_scatter), 50
with the shifted one. Forward takes 15 ms of CPU time by `reduce_window` and 5 as two maxima, down and across.
"""

import operator
from functools import reduce

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxssl.models.cpu_conv.dispatch import by_platform
from jaxssl.models.cpu_conv.geometry import Geometry, taps


@jax.custom_vjp
def max_pool(x: jax.Array) -> jax.Array:
    """Maximum over 3x3 windows, stride 2, padding 1: [N, H, W, C] to [N, ceil(H / 2), ceil(W / 2), C].

    Values and gradient are those of `flax.linen.max_pool`: of equal largest values in a window, the first in
    row-major order takes the whole gradient. Reverse-mode differentiable only.
    """
    return native_max_pool(x)  # Where it is differentiated, `_max_pool_forward` stands for it: ONNX has no platforms.


def separable_max_pool(x: jax.Array) -> jax.Array:
    for axis in (1, 2):
        # A window has the pixels 2i - 1, 2i and 2i + 1. Shifting the odd ones writes less than padding all would.
        even, odd = (lax.slice_in_dim(x, i, None, 2, axis) for i in (0, 1))
        if x.shape[axis] % 2:
            odd = _pad_lowest(odd, axis, (0, 1))
        before = lax.slice_in_dim(_pad_lowest(odd, axis, (1, 0)), 0, -1, 1, axis)
        # Without the barrier those along one axis would be computed anew for each of those along the other.
        x = lax.optimization_barrier(jnp.maximum(jnp.maximum(even, odd), before))
    return x


def _pad_lowest(x: jax.Array, axis: int, edges: tuple[int, int]) -> jax.Array:
    return jnp.pad(x, [edges if a == axis else (0, 0) for a in range(x.ndim)], constant_values=-jnp.inf)


def native_max_pool(x: jax.Array) -> jax.Array:
    # Padded here, which XLA undoes, and not by `lax.pad`: jax2onnx loses the padding of a pooling, and `lax.pad` of
    # any number of images.
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    return nn.max_pool(x, window_shape=(3, 3), strides=(2, 2))


def native_max_pool_gradient(x: jax.Array, g: jax.Array) -> jax.Array:
    return jax.vjp(native_max_pool, x)[1](g)[0]


def _max_pool_forward(x):
    return by_platform(separable_max_pool, native_max_pool, x), x


def _max_pool_backward(x, g):
    return (by_platform(shifted_max_pool_gradient, native_max_pool_gradient, x, g),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


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
