"""Winograd's F(4x4, 3x3) (Lavin and Gray, 2015, arXiv:1509.09308, section 4) for 3x3 kernels of stride 1.

36 products for the 16 outputs of a tile, which take 144 otherwise. Kernel, input tile and output tile are multiplied
on both sides by one matrix each. With precision `MIXED` the products of the value and of the input gradient have
bfloat16 operands. Those of the kernel gradient have not, since with a transposed operand they are no faster.
"""

import math
import operator
from collections.abc import Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from jaxssl.models.cpu_conv.chunks import images_per_chunk, map_chunks, scan_chunks, sum_over_chunks
from jaxssl.models.cpu_conv.geometry import Geometry, Shape, output_size, pad
from jaxssl.models.linear import MIXED

# Tiles of one step of a scan that stay in the cache. Products for kernel gradients gain from larger ones.
TILE_BYTES = 5 << 20
GRADIENT_TILE_BYTES = 10 << 20
# The polynomials are evaluated at 0, +-P, +-Q and infinity. With 1 and 2 in place of 3/4 and 3/2, rounding to bfloat16
# costs twice as much: an error of .025 instead of .012 of the result's norm. Computed directly it would be .003.
P, Q = 3 / 4, 3 / 2
WINOGRAD_INPUT = np.array(
    (
        (P**2 * Q**2, 0, -(P**2 + Q**2), 0, 1, 0),
        (0, -P * Q**2, -(Q**2), P, 1, 0),
        (0, P * Q**2, -(Q**2), -P, 1, 0),
        (0, -(P**2) * Q, -(P**2), Q, 1, 0),
        (0, P**2 * Q, -(P**2), -Q, 1, 0),
        (0, P**2 * Q**2, 0, -(P**2 + Q**2), 0, 1),
    ),
    np.float32,
)
WINOGRAD_KERNEL = np.array(
    (
        (1 / (P**2 * Q**2), 0, 0),
        *([x / (2 * P**2 * (P**2 - Q**2)) for x in (1, p, p**2)] for p in (P, -P)),
        *([x / (2 * Q**2 * (Q**2 - P**2)) for x in (1, q, q**2)] for q in (Q, -Q)),
        (0, 0, 1),
    ),
    np.float32,
)
WINOGRAD_OUTPUT = np.array([[*(x**i for x in (0, P, -P, Q, -Q)), i == 3] for i in range(4)], np.float32)
TILE = len(WINOGRAD_OUTPUT)


def fits_winograd(w_shape: Shape, geometry: Geometry) -> bool:
    return w_shape[:2] == (3, 3) and geometry.strides == (1, 1) and geometry.groups == 1


def combine(weights: np.ndarray, arrays: Sequence[jax.Array]) -> jax.Array:
    terms = (float(weight) * array for weight, array in zip(weights, arrays, strict=True) if weight)
    return reduce(operator.add, terms)


def matmul(a: ArrayLike, b: jax.Array, geometry: Geometry) -> jax.Array:
    return jnp.matmul(a, b, precision=geometry.of_float32, preferred_element_type=jnp.float32)


def to_tiles(x: jax.Array, m: np.ndarray, dtype: DTypeLike) -> jax.Array:
    """Returns m d m' [36, N * th * tw, C] of each window d of the images, as wide as `m`, `TILE` pixels apart."""
    down, right = (range(0, size - m.shape[1] + 1, TILE) for size in x.shape[1:3])
    rows = [x[:, i : i + down[-1] + 1 : TILE] for i in range(m.shape[1])]
    x = jnp.stack([combine(weights, rows) for weights in m])
    columns = [x[:, :, :, j : j + right[-1] + 1 : TILE] for j in range(m.shape[1])]
    return jnp.stack([combine(weights, columns).astype(dtype) for weights in m]).reshape(36, -1, x.shape[-1])


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


def images_per_tile_chunk(x_shape: Shape, channels: int, geometry: Geometry, tile_bytes: int) -> int:
    return images_per_chunk(x_shape[0], tile_bytes // (4 * 36 * channels * math.prod(count_tiles(x_shape, geometry))))


def winograd(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    kernel = transform_kernel(w, geometry)
    images = images_per_tile_chunk(x.shape, max(w.shape[2:]), geometry, TILE_BYTES)
    return map_chunks(lambda x: multiply_tiles(x, kernel, geometry), x, images).astype(x.dtype)


def transform_kernel(w: jax.Array, geometry: Geometry) -> jax.Array:
    kernel = multiply_both_sides(WINOGRAD_KERNEL, w.astype(jnp.float32), geometry)
    return kernel.astype(jnp.bfloat16) if geometry.precision == MIXED else kernel


def multiply_tiles(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns float32 [N, H', W', D] of images and a transformed kernel [36, C, D]."""
    tiles = to_tiles(pad_to_tiles(x.astype(jnp.float32), geometry), WINOGRAD_INPUT, kernel.dtype)
    (height, width), (down, right) = output_size(x.shape, (3, 3), geometry), count_tiles(x.shape, geometry)
    shape = (len(x), TILE * down, TILE * right, kernel.shape[-1])
    return from_tiles(matmul(tiles, kernel, geometry), shape, geometry)[:, :height, :width]


def correlate_tiles(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns the transformed kernel gradient, [36, C, D]."""
    below, right = (TILE * n - size for n, size in zip(count_tiles(x.shape, geometry), g.shape[1:3], strict=True))
    x = to_tiles(pad_to_tiles(x.astype(jnp.float32), geometry), WINOGRAD_INPUT, jnp.float32)
    g = jnp.pad(g.astype(jnp.float32), ((0, 0), (0, below), (0, right), (0, 0)))
    g = to_tiles(g, WINOGRAD_OUTPUT.T, jnp.float32)
    return jnp.einsum("ptc,ptd->pcd", x, g, precision=geometry.of_float32)


def kernel_of(total: jax.Array, geometry: Geometry) -> jax.Array:
    total = total.reshape(6, 6, *total.shape[1:])
    return multiply_both_sides(WINOGRAD_KERNEL.T, total, geometry).reshape(3, 3, *total.shape[2:])


def turn(w: jax.Array, geometry: Geometry) -> tuple[jax.Array, Geometry]:
    """Returns the kernel and the padding that the input gradient has as a convolution."""
    padding = tuple((2 - low, 2 - high) for low, high in geometry.padding)
    return w[::-1, ::-1].swapaxes(2, 3), geometry._replace(padding=padding)


def winograd_input_gradient(
    w: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape
) -> jax.Array:
    return winograd(g, *turn(w, geometry))


def winograd_kernel_gradient(
    x: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape
) -> jax.Array:
    images = images_per_tile_chunk(x_shape, sum(w_shape[2:]), geometry, GRADIENT_TILE_BYTES)
    total = sum_over_chunks(partial(correlate_tiles, geometry=geometry), (36, *w_shape[2:]), x, g, images)
    return kernel_of(total, geometry).astype(g.dtype)


def winograd_gradients(
    x: jax.Array, w: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape
) -> tuple[jax.Array, jax.Array]:
    """Both gradients in one loop: XLA would put off the kernel gradients of all layers, and keep their `x` and `g`."""
    turned, turned_geometry = turn(w, geometry)
    kernel = transform_kernel(turned, geometry)

    def part(x: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
        return correlate_tiles(x, g, geometry), multiply_tiles(g, kernel, turned_geometry)

    images = images_per_tile_chunk(x_shape, sum(w_shape[2:]), geometry, GRADIENT_TILE_BYTES)
    total, dx = scan_chunks(part, (36, *w_shape[2:]), (x, g), images)
    return dx.astype(x.dtype), kernel_of(total, geometry).astype(w.dtype)
