"""Convolutions as one product of matrices: 1x1 kernels, im2col, and maps of a few pixels."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxssl.models.cpu_conv.chunks import images_per_chunk, map_chunks, sum_over_chunks
from jaxssl.models.cpu_conv.geometry import Geometry, Shape, column_bytes, count_pixels, output_size, pad, taps
from jaxssl.models.linear import MIXED, multiply, multiply_by_transposed

# Columns of one step of a scan that stay in the cache.
CHUNK_BYTES = 4 << 20


def operand(x: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns what is moved around before a product: with precision `MIXED` bfloat16, as integers.

    XLA on the CPU would move bfloat16 as float32, and round afterwards.
    """
    if geometry.precision == MIXED:
        return lax.bitcast_convert_type(x.astype(jnp.bfloat16), jnp.uint16)
    return x


def matmul(a: jax.Array, b: jax.Array, geometry: Geometry) -> jax.Array:
    """[..., K] times [K, D]; `a` may be an `operand`."""
    if geometry.precision == MIXED:
        if a.dtype == jnp.uint16:
            a = lax.bitcast_convert_type(a, jnp.bfloat16)
        return multiply(a, b)
    return jnp.matmul(a, b, precision=geometry.precision)


def matmul_transposed(g: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """[..., D] times the transposed [C, D]: the gradient with respect to the left operand of `matmul`."""
    if geometry.precision == MIXED:
        return multiply_by_transposed(g.reshape(-1, g.shape[-1]), w).reshape(*g.shape[:-1], len(w))
    return jnp.matmul(g, w.T, precision=geometry.precision)


def contract_pixels(a: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """[N, H, W, C] and [N, H, W, D] to float32 [C, D]."""
    if a.shape[-1] > g.shape[-1]:
        # With the wider one on the left XLA takes up to 1.7 times as long. Without the barrier it would turn this back.
        return lax.optimization_barrier(contract_pixels(g, a, geometry)).T
    # As matrices: over several axes XLA would first write one of the two anew, transposed.
    a, g = (x.reshape(-1, x.shape[-1]) for x in (a, g))
    dims = (((0,), (0,)), ((), ()))
    return lax.dot_general(a, g, dims, precision=geometry.of_float32, preferred_element_type=jnp.float32)


# 1x1: a product over the channels, of every stride-th pixel.


def pointwise(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    return matmul(subsample(x, geometry), w[0, 0], geometry)


def subsample(x: jax.Array, geometry: Geometry) -> jax.Array:
    vertical, horizontal = geometry.strides
    return x[:, ::vertical, ::horizontal]


def pointwise_input_gradient(
    w: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape
) -> jax.Array:
    x = jax.ShapeDtypeStruct(x_shape, g.dtype)
    return jax.linear_transpose(partial(subsample, geometry=geometry), x)(matmul_transposed(g, w[0, 0], geometry))[0]


def pointwise_kernel_gradient(
    x: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape
) -> jax.Array:
    return contract_pixels(subsample(x, geometry), g, geometry).astype(g.dtype)[None, None]


# im2col: the shifted views side by side as channels, then a product.


def columns(x: jax.Array, w_shape: Shape, geometry: Geometry) -> jax.Array:
    return jnp.concatenate(taps(x, w_shape, geometry), axis=-1)


def im2col(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    def part(x: jax.Array) -> jax.Array:
        return matmul(columns(operand(x, geometry), w.shape, geometry), w.reshape(-1, w.shape[3]), geometry)

    return map_chunks(part, x, images_of(x.shape, w.shape, geometry))


def joined_im2col(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """`im2col` for few channels: as many neighbors as the stride are one pixel, so that what is copied is longer."""
    (kh, kw, _, d), (vertical, horizontal) = w.shape, geometry.strides
    height, width = output_size(x.shape, w.shape, geometry)
    joined = -(-kw // horizontal)
    padding, (left, _) = geometry.padding
    right = (width + joined - 1) * horizontal - left - x.shape[2]
    kernel = jnp.pad(w, ((0, 0), (0, joined * horizontal - kw), (0, 0), (0, 0))).reshape(-1, d)

    def part(x: jax.Array) -> jax.Array:
        x = pad(operand(x, geometry), geometry._replace(padding=(padding, (left, right))))
        x = x.reshape(*x.shape[:2], width + joined - 1, -1)
        # Without the barrier each row would be gathered anew for each of the kernel's.
        x = lax.optimization_barrier(jnp.concatenate([x[:, :, j : j + width] for j in range(joined)], axis=-1))
        rows = [x[:, i : i + (height - 1) * vertical + 1 : vertical] for i in range(kh)]
        return matmul(jnp.concatenate(rows, axis=-1), kernel, geometry)

    return map_chunks(part, x, images_of(x.shape, w.shape, geometry))


def im2col_input_gradient(w: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape) -> jax.Array:
    def part(g: jax.Array) -> jax.Array:
        x = jax.ShapeDtypeStruct((len(g), *x_shape[1:]), g.dtype)
        g = matmul_transposed(g, w.reshape(-1, w.shape[3]), geometry)
        return jax.linear_transpose(lambda x: columns(x, w_shape, geometry), x)(g)[0]

    return map_chunks(part, g, images_of(x_shape, w_shape, geometry))


def chunked_kernel_gradient(
    x: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape
) -> jax.Array:
    def part(x, g):
        return contract_pixels(g, columns(x, w_shape, geometry), geometry)

    total = sum_over_chunks(part, (w_shape[3], math.prod(w_shape[:3])), x, g, images_of(x_shape, w_shape, geometry))
    return total.T.astype(g.dtype).reshape(w_shape)


def images_of(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> int:
    """Returns how many images have columns that stay in the cache."""
    return images_per_chunk(x_shape[0], CHUNK_BYTES * x_shape[0] // column_bytes(x_shape, w_shape, geometry))


def transposed_columns(x: jax.Array, w_shape: Shape, geometry: Geometry) -> jax.Array:
    """Returns `columns` as [kh * kw * C, N * H' * W']: pieces as long as a row of pixels, not as the channels."""
    (kh, kw), (vertical, horizontal), n = w_shape[:2], geometry.strides, len(x)
    height, width = output_size(x.shape, w_shape, geometry)
    rows, across = height + (kh - 1) // vertical, width + (kw - 1) // horizontal
    sizes = ((rows * vertical, x.shape[1]), (across * horizontal, x.shape[2]))
    edges = [(low, covered - low - size) for (low, _), (covered, size) in zip(geometry.padding, sizes, strict=True)]
    x = pad(x, geometry._replace(padding=tuple(edges))).reshape(n, rows, vertical, across, horizontal, x.shape[3])
    # Without the barrier each of the pieces would transpose the image for itself.
    x = lax.optimization_barrier(x.transpose(2, 4, 5, 0, 1, 3))
    pieces = [
        x[i % vertical, j % horizontal, :, :, i // vertical :, j // horizontal :][:, :, :height, :width]
        for i in range(kh)
        for j in range(kw)
    ]
    return jnp.stack(pieces).reshape(math.prod(w_shape[:3]), -1)


def transposed_kernel_gradient(
    x: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape
) -> jax.Array:
    def part(x, g):
        columns = transposed_columns(operand(x, geometry), w_shape, geometry)
        return matmul(columns, g.astype(jnp.float32).reshape(-1, w_shape[3]), geometry)

    total = sum_over_chunks(part, (math.prod(w_shape[:3]), w_shape[3]), x, g, images_of(x_shape, w_shape, geometry))
    return total.astype(g.dtype).reshape(w_shape)


# Maps of a few pixels: one matrix from all values of the map to all of the result.


def connected_pixels(
    x_shape: Shape, w_shape: Shape, geometry: Geometry
) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Returns, for each place (i, j) of the kernel, the pairs (input pixel, output pixel) that it connects.

    Pixels are counted in row-major order.
    """
    found = {(i, j): [] for i in range(w_shape[0]) for j in range(w_shape[1])}
    height, width = output_size(x_shape, w_shape, geometry)
    (vertical, horizontal), ((top, _), (left, _)) = geometry.strides, geometry.padding
    for (i, j), of in found.items():
        for y in range(height):
            for x in range(width):
                row, column = y * vertical + i - top, x * horizontal + j - left
                if 0 <= row < x_shape[1] and 0 <= column < x_shape[2]:
                    of.append((row * x_shape[2] + column, y * width + x))
    return found


def as_matrix(w: jax.Array, x_shape: Shape, geometry: Geometry) -> jax.Array:
    """[kh, kw, C, D] -> [H * W * C, H' * W' * D], the convolution as one matrix."""
    places = {pair: place for place, of in connected_pixels(x_shape, w.shape, geometry).items() for pair in of}
    nothing = jnp.zeros(w.shape[2:], w.dtype)
    rows = [
        jnp.stack([w[places[pixel, out]] if (pixel, out) in places else nothing for out in range(outputs)], 1)
        for outputs in [count_pixels(x_shape, w.shape, geometry)]
        for pixel in range(x_shape[1] * x_shape[2])
    ]
    return jnp.stack(rows).reshape(x_shape[1] * x_shape[2] * w.shape[2], -1)


def dense(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    y = matmul(x.reshape(len(x), -1), as_matrix(w, x.shape, geometry), geometry)
    return y.reshape(len(x), *output_size(x.shape, w.shape, geometry), w.shape[3])


def dense_input_gradient(w: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape) -> jax.Array:
    return matmul_transposed(g.reshape(len(g), -1), as_matrix(w, x_shape, geometry), geometry).reshape(x_shape)


def dense_kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape) -> jax.Array:
    x, g = x.reshape(len(x), -1, 1, x.shape[3]), g.reshape(len(g), -1, 1, g.shape[3])

    def place(of: list[tuple[int, int]]) -> jax.Array:
        if not of:
            return jnp.zeros(w_shape[2:], jnp.float32)
        ins, outs = zip(*of, strict=True)
        ins, outs = (jnp.stack([a[:, p] for p in where], 1) for a, where in ((x, ins), (g, outs)))
        return contract_pixels(ins, outs, geometry)

    places = [place(of) for of in connected_pixels(x_shape, w_shape, geometry).values()]
    return jnp.stack(places).astype(g.dtype).reshape(w_shape)
