"""Loops over chunks of a batch that fit into the cache."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def images_per_chunk(batch: int, most: int) -> int:
    """Returns the largest divisor of the batch up to `most`, and at least 1."""
    return max((n for n in range(1, min(batch, most) + 1) if batch % n == 0), default=1)


def scan_chunks(part: Callable, shape: tuple, arrays: Sequence[jax.Array], images: int) -> tuple[jax.Array, Any]:
    """Calls `part` with chunks of `images` images of each array.

    Step i takes the images i, i + steps, ...: the image axis of a chunk is the major one, so that a batch sharded over
    devices stays where it is.

    `part` returns float32 of the given shape, of which the sum is returned, and a result for each image, of which the
    batch is returned, or None.
    """
    steps = len(arrays[0]) // images
    arrays = [a.reshape(images, steps, *a.shape[1:]) for a in arrays]

    def chunk(i: jax.Array) -> tuple[jax.Array, Any]:
        return part(*(lax.dynamic_index_in_dim(a, i, 1, keepdims=False) for a in arrays))

    def step(i: jax.Array, so_far: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        (total, batch), (summand, y) = so_far, chunk(i)
        # In place. `lax.scan` would stack the chunks, and what follows would copy them into the order of the images.
        return total + summand, None if y is None else lax.dynamic_update_index_in_dim(batch, y, i, 1)

    y = jax.eval_shape(chunk, 0)[1]
    batch = None if y is None else jnp.zeros((images, steps, *y.shape[1:]), y.dtype)
    total, batch = lax.fori_loop(0, steps, step, (jnp.zeros(shape), batch))
    return total, None if batch is None else batch.reshape(images * steps, *batch.shape[2:])


def sum_over_chunks(part: Callable, shape: tuple, x: jax.Array, g: jax.Array, images: int) -> jax.Array:
    """Sums `part(x, g)`, float32 of the given shape, over chunks of `images` images."""
    return scan_chunks(lambda x, g: (part(x, g), None), shape, (x, g), images)[0]


def map_chunks(part: Callable, x: jax.Array, images: int) -> jax.Array:
    """Applies `part` to chunks of `images` images and returns one batch."""
    return part(x) if len(x) == images else scan_chunks(lambda x: (0, part(x)), (), (x,), images)[1]
