"""Loops over chunks of a batch that fit into the cache."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax


def images_per_chunk(batch: int, most: int) -> int:
    """Returns the largest divisor of the batch up to `most`, and at least 1."""
    return max((n for n in range(1, min(batch, most) + 1) if batch % n == 0), default=1)


def sum_over_chunks(part: Callable, shape: tuple, x: jax.Array, g: jax.Array, images: int) -> jax.Array:
    """Sums `part(x, g)`, float32 of the given shape, over chunks of `images` images.

    Step i takes the images i, i + steps, ...: the image axis of a chunk is the major one, so that a batch sharded over
    devices stays where it is.
    """
    steps = x.shape[0] // images
    x, g = (a.reshape(images, steps, *a.shape[1:]) for a in (x, g))

    def add(total, i):
        return total + part(*(lax.dynamic_index_in_dim(a, i, 1, keepdims=False) for a in (x, g))), None

    return lax.scan(add, jnp.zeros(shape), jnp.arange(steps))[0]


def map_chunks(part: Callable, x: jax.Array, images: int) -> jax.Array:
    """Applies `part` to chunks of `images` images, taken as in `sum_over_chunks`, and returns one batch."""
    steps = x.shape[0] // images
    if steps == 1:
        return part(x)
    x = x.reshape(images, steps, *x.shape[1:])
    y = lax.map(lambda i: part(lax.dynamic_index_in_dim(x, i, 1, keepdims=False)), jnp.arange(steps))
    return y.swapaxes(0, 1).reshape(images * steps, *y.shape[2:])
