"""Winograd's F(4x4, 3x3) (Lavin and Gray, 2015, arXiv:1509.09308, section 4) for 3x3 kernels of stride 1.

36 products for the 16 outputs of a tile, which take 144 otherwise. Kernel, input tile and output tile are multiplied
on both sides by one matrix each.
"""

import math
import operator
from collections.abc import Sequence
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxssl.models.cpu_conv.chunks import images_per_chunk, map_chunks, sum_over_chunks
from jaxssl.models.cpu_conv.geometry import Geometry, Shape, output_size, pad

# Tiles of one step of a scan that stay in the cache.
TILE_BYTES = 5 << 20
WINOGRAD_KERNEL = np.array(
    ((6, 0, 0), (-4, -4, -4), (-4, 4, -4), (1, 2, 4), (1, -2, 4), (0, 0, 24)),
    np.float32,
) / np.float32(24)
WINOGRAD_INPUT = np.array(
    (
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
    np.float32,
)
WINOGRAD_OUTPUT = np.array(
    ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
    np.float32,
)
TILE = len(WINOGRAD_OUTPUT)


def fits_winograd(w_shape: Shape, geometry: Geometry) -> bool:
    return w_shape[:2] == (3, 3) and geometry.strides == (1, 1) and geometry.groups == 1


def combine(weights: np.ndarray, arrays: Sequence[jax.Array]) -> jax.Array:
    terms = (float(weight) * array for weight, array in zip(weights, arrays, strict=True) if weight)
    return reduce(operator.add, terms)


def matmul(a: ArrayLike, b: jax.Array, geometry: Geometry) -> jax.Array:
    return jnp.matmul(a, b, precision=geometry.of_float32)


def to_tiles(x: jax.Array, m: np.ndarray) -> jax.Array:
    """Returns m d m' [36, N * th * tw, C] of each window d of the images, as wide as `m`, `TILE` pixels apart."""
    down, right = (range(0, size - m.shape[1] + 1, TILE) for size in x.shape[1:3])
    rows = [x[:, i : i + down[-1] + 1 : TILE] for i in range(m.shape[1])]
    x = jnp.stack([combine(weights, rows) for weights in m])
    columns = [x[:, :, :, j : j + right[-1] + 1 : TILE] for j in range(m.shape[1])]
    return jnp.stack([combine(weights, columns) for weights in m]).reshape(36, -1, x.shape[-1])


def from_tiles(tiles: jax.Array, shape: Shape, geometry: Geometry) -> jax.Array:
    """Returns m' t m of each tile t of the products [36, N * th * tw, D], side by side: `shape` [N, 4 th, 4 tw, D]."""
    n, height, width, channels = shape
    y = matmul(np.kron(WINOGRAD_OUTPUT, WINOGRAD_OUTPUT), tiles.reshape(36, -1), geometry)
    y = y.reshape(TILE, TILE, n, height // TILE, width // TILE, channels)
    return y.transpose(2, 3, 1, 4, 0, 5).reshape(shape)


def multiply_both_sides(m: np.ndarray, w: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns m w m' over the first two axes of `w`: [a, a, C, D] -> [b * b, C, D], in column-major order."""
    product = matmul(np.kron(m, m), w.swapaxes(0, 1).reshape(-1, w.shape[2] * w.shape[3]), geometry)
    return product.reshape(-1, *w.shape[2:])


def count_tiles(x_shape: Shape, geometry: Geometry) -> tuple[int, int]:
    """Returns the numbers of tiles, down and across, that cover the outputs of a 3x3 kernel."""
    height, width = output_size(x_shape, (3, 3), geometry)
    return -(-height // TILE), -(-width // TILE)


def pad_to_tiles(x: jax.Array, geometry: Geometry) -> jax.Array:
    edges = (
        (low, TILE * count + 2 - low - size)
        for count, size, (low, _) in zip(count_tiles(x.shape, geometry), x.shape[1:3], geometry.padding, strict=True)
    )
    return pad(x, geometry._replace(padding=tuple(edges)))


def images_per_tile_chunk(x_shape: Shape, channels: int, geometry: Geometry) -> int:
    return images_per_chunk(x_shape[0], TILE_BYTES // (4 * 36 * channels * math.prod(count_tiles(x_shape, geometry))))


def winograd(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    kernel = multiply_both_sides(WINOGRAD_KERNEL, w.astype(jnp.float32), geometry)
    height, width = output_size(x.shape, w.shape, geometry)
    down, right = count_tiles(x.shape, geometry)

    def part(x: jax.Array) -> jax.Array:
        tiles = to_tiles(pad_to_tiles(x.astype(jnp.float32), geometry), WINOGRAD_INPUT)
        shape = (len(x), TILE * down, TILE * right, w.shape[3])
        return from_tiles(matmul(tiles, kernel, geometry), shape, geometry)[:, :height, :width]

    images = images_per_tile_chunk(x.shape, max(w.shape[2:]), geometry)
    return map_chunks(part, x, images).astype(x.dtype)


def winograd_input_gradient(
    w: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape
) -> jax.Array:
    turned = geometry._replace(padding=tuple((2 - low, 2 - high) for low, high in geometry.padding))
    return winograd(g, w[::-1, ::-1].swapaxes(2, 3), turned)


def winograd_kernel_gradient(
    x: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape
) -> jax.Array:
    height, width = count_tiles(x_shape, geometry)

    def part(x: jax.Array, g: jax.Array) -> jax.Array:
        x = to_tiles(pad_to_tiles(x.astype(jnp.float32), geometry), WINOGRAD_INPUT)
        below, right = TILE * height - g.shape[1], TILE * width - g.shape[2]
        g = jnp.pad(g.astype(jnp.float32), ((0, 0), (0, below), (0, right), (0, 0)))
        return jnp.einsum("ptc,ptd->pcd", x, to_tiles(g, WINOGRAD_OUTPUT.T), precision=geometry.of_float32)

    images = images_per_tile_chunk(x_shape, sum(w_shape[2:]), geometry)
    total = sum_over_chunks(part, (36, *w_shape[2:]), x, g, images).reshape(6, 6, *w_shape[2:])
    return multiply_both_sides(WINOGRAD_KERNEL.T, total, geometry).reshape(w_shape).astype(g.dtype)
