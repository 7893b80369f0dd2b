"""Depthwise convolutions as shifted views times one number per channel."""

import math
import operator
from functools import reduce

import jax
import jax.numpy as jnp
from jax import lax

from jaxssl.models.cpu_conv.chunks import images_per_chunk, sum_over_chunks
from jaxssl.models.cpu_conv.geometry import Geometry, Shape, output_size, pad, taps

# Images of one step of a scan that stay in the cache.
DEPTHWISE_CHUNK_BYTES = 1 << 19


def shifted_multiply_adds(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    products = (t * v for t, v in zip(taps(x, w.shape, geometry), w.reshape(-1, w.shape[3]), strict=True))
    return reduce(operator.add, products)


def shifted_multiply_adds_input_gradient(
    w: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape
) -> jax.Array:
    # gathered from the spread gradient through the turned kernel: the transpose's scattering fuses badly
    edges = []
    for size, k, stride, outputs, (low, _) in zip(
        x_shape[1:3], w_shape[:2], geometry.strides, g.shape[1:3], geometry.padding, strict=True
    ):
        spread = (outputs - 1) * stride + 1
        edges.append((k - 1 - low, size + low - spread, stride - 1))
    g = lax.pad(g, jnp.zeros((), g.dtype), ((0, 0, 0), *edges, (0, 0, 0)))
    return shifted_multiply_adds(g, w[::-1, ::-1], Geometry((1, 1), ((0, 0), (0, 0)), geometry.groups, None))


def shifted_multiply_adds_kernel_gradient(
    x: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape
) -> jax.Array:
    (kh, kw), (vertical, horizontal) = w_shape[:2], geometry.strides
    height, width = output_size(x_shape, w_shape, geometry)
    span = ((height - 1) * vertical + 1, (width - 1) * horizontal + 1)

    def part(x, g):
        x = pad(x, geometry)
        # a product with ones is a faster sum over the pixels than a reduction
        ones = jnp.ones((1, math.prod(g.shape[:3])), jnp.float32)

        def tap(i):
            # a loop over the taps: side by side they take several times as long to compile, and longer to run
            view = lax.dynamic_slice(x, (0, i // kw, i % kw, 0), (len(x), *span, x.shape[3]))
            product = view[:, ::vertical, ::horizontal] * g
            return (ones @ product.reshape(-1, g.shape[3]).astype(jnp.float32))[0]

        return lax.map(tap, jnp.arange(kh * kw))

    images = images_per_chunk(x_shape[0], DEPTHWISE_CHUNK_BYTES // (4 * math.prod(x_shape[1:])))
    return sum_over_chunks(part, (kh * kw, w_shape[3]), x, g, images).astype(g.dtype).reshape(w_shape)
