"""A convolution that is fast on the CPU: `conv_general_dilated` in place of `jax.lax.conv_general_dilated`.

XLA's convolution on the CPU is many times slower than it need be in certain shapes: 1x1 kernels, outputs of a
few pixels, strided input gradients, kernel gradients over large images, depthwise kernels. Here the forward
pass, the input gradient and the kernel gradient each take the fastest of a few forms, by static shape alone.
On GPU and TPU the native convolution is right, and is what runs: the choice is made when lowering.

    nn.Conv(features, (3, 3), conv_general_dilated=conv_general_dilated)
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

Shape = tuple[int, ...]

NHWC = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))

# What one step of a kernel gradient's scan reads stays in the cache: bytes of columns, and of depthwise images.
CHUNK_BYTES = 4 << 20
DEPTHWISE_CHUNK_BYTES = 1 << 19
# The columns of a whole batch are made up to this size only.
MOST_BYTES = 256 << 20


class Geometry(NamedTuple):
    """What is static of a convolution besides its shapes; `padding` is explicit, `groups` is 1 or the channels."""

    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    groups: int
    precision: Any


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Any,
    padding: Any,
    lhs_dilation: Any = None,
    rhs_dilation: Any = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
    **kw: Any,
) -> jax.Array:
    """`jax.lax.conv_general_dilated`, faster on the CPU for plain and depthwise NHWC images.

    Args as there. `lhs` is [N, H, W, C], `rhs` [kh, kw, C / groups, D], the result [N, H', W', D]; anything
    else (dilation, groups that are not depthwise, other dimensions, further arguments) runs natively.
    Reverse-mode differentiable only, where it does not run natively.
    """
    usual = (
        lhs.ndim == 4
        and not kw
        and lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers) == NHWC
        and all(d == 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ())))
        and lhs.dtype == rhs.dtype
        and lhs.dtype in (jnp.float32, jnp.bfloat16)
        and (feature_group_count == 1 or feature_group_count == lhs.shape[3] == rhs.shape[3])
        and feature_group_count * rhs.shape[2] == lhs.shape[3]
    )
    if usual:
        strides = tuple(int(s) for s in window_strides)
        if isinstance(padding, str):
            padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], strides, padding)
        padding = tuple((int(low), int(high)) for low, high in padding)
        geometry = Geometry(strides, padding, feature_group_count, precision)
        if min(*lhs.shape, *rhs.shape, *output_size(lhs.shape, rhs.shape, geometry)) > 0:
            return _conv(lhs, rhs, geometry)
    return lax.conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        precision=precision,
        **kw,
    )


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    cpu = partial(choose_forward(x.shape, w.shape, geometry), geometry=geometry)
    return lax.platform_dependent(x, w, cpu=cpu, default=partial(native, geometry=geometry))


def _forward(x, w, geometry):
    return _conv(x, w, geometry), (x, w)


def _backward(geometry, residuals, g):
    x, w = residuals
    shapes = dict(geometry=geometry, x_shape=x.shape, w_shape=w.shape)
    dx = lax.platform_dependent(
        w,
        g,
        cpu=partial(choose_input_gradient(x.shape, w.shape, geometry), **shapes),
        default=partial(native_input_gradient, **shapes),
    )
    dw = lax.platform_dependent(
        x,
        g,
        cpu=partial(choose_kernel_gradient(x.shape, w.shape, geometry), **shapes),
        default=partial(native_kernel_gradient, **shapes),
    )
    return dx, dw


_conv.defvjp(_forward, _backward)


# The rules of choice, by static shape alone. `python launch/measure_conv.py` prints the table they rest on; from
# two busy cores of a Xeon with AVX-512, batch 128, milliseconds natively against the form chosen instead:
#   forward          1x1 16px 64->256 23, 11;  3x3 2px 512->512 1390, 12;  3x3 32px 3->64 30, 14;
#                    depthwise 5x5 16px 144 254, 14
#   input gradient   1x1 16px 64->256 31, 10;  3x3 2px 512->512 1682, 14;  3x3 stride 2 4px 256->512 490, 7;
#                    3x3 stride 2 32px 64->128 77, 49;  depthwise 3x3 stride 2 32px 96 1346, 4
#   kernel gradient  1x1 16px 64->256 117, 20;  3x3 16px 64->64 72, 45;  3x3 32px 64->64 306, 101;
#                    depthwise 3x3 32px 96 762, 82
# Elsewhere the native one is as fast, or faster: forward 3x3 16px 64->64 19 against 78 in the next best form.


def choose_forward(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> Callable:
    if geometry.groups > 1:
        return shifted_multiply_adds
    if is_pointwise(w_shape, geometry):
        return pointwise
    few_pixels = pixels(x_shape, w_shape, geometry) < 16
    few_channels = math.prod(w_shape[:3]) <= 32
    small = column_bytes(x_shape, w_shape, geometry) <= MOST_BYTES
    return im2col if (few_pixels or few_channels) and small else native


def choose_input_gradient(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> Callable:
    if geometry.groups > 1:
        return shifted_multiply_adds_input_gradient
    if is_pointwise(w_shape, geometry):
        return pointwise_input_gradient
    few_pixels = pixels(x_shape, w_shape, geometry) < 16
    strided = geometry.strides != (1, 1)
    small = column_bytes(x_shape, w_shape, geometry) <= MOST_BYTES
    return im2col_input_gradient if (few_pixels or strided) and small else native_input_gradient


def choose_kernel_gradient(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> Callable:
    if geometry.groups > 1:
        return shifted_multiply_adds_kernel_gradient
    if is_pointwise(w_shape, geometry):
        return pointwise_kernel_gradient
    many_pixels = pixels(x_shape, w_shape, geometry) >= 64
    large_kernel = math.prod(w_shape) >= 4096
    return chunked_kernel_gradient if many_pixels and large_kernel else native_kernel_gradient


def is_pointwise(w_shape: Shape, geometry: Geometry) -> bool:
    return w_shape[:2] == (1, 1) and geometry.padding == ((0, 0), (0, 0))


def output_size(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> tuple[int, int]:
    return tuple(
        (size + low + high - k) // stride + 1
        for size, k, stride, (low, high) in zip(
            x_shape[1:3], w_shape[:2], geometry.strides, geometry.padding, strict=True
        )
    )


def pixels(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> int:
    height, width = output_size(x_shape, w_shape, geometry)
    return height * width


# The native convolution.


def native(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        w,
        geometry.strides,
        geometry.padding,
        dimension_numbers=NHWC,
        feature_group_count=geometry.groups,
        precision=geometry.precision,
    )


def native_input_gradient(w: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape) -> jax.Array:
    x = jax.ShapeDtypeStruct(x_shape, g.dtype)
    return jax.linear_transpose(lambda x: native(x, w, geometry), x)(g)[0]


def native_kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape) -> jax.Array:
    w = jax.ShapeDtypeStruct(w_shape, g.dtype)
    return jax.linear_transpose(lambda w: native(x, w, geometry), w)(g)[0]


# 1x1: a matrix product over the channels, of every stride-th pixel.


def matmul(a: jax.Array, b: jax.Array, geometry: Geometry) -> jax.Array:
    return jnp.matmul(a, b, precision=geometry.precision)


def contract_pixels(a: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """[N, H, W, C] and [N, H, W, D] to float32 [C, D]."""
    dims = (((0, 1, 2), (0, 1, 2)), ((), ()))
    return lax.dot_general(a, g, dims, precision=geometry.precision, preferred_element_type=jnp.float32)


def pointwise(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    return matmul(subsample(x, geometry), w[0, 0], geometry)


def subsample(x: jax.Array, geometry: Geometry) -> jax.Array:
    vertical, horizontal = geometry.strides
    return x[:, ::vertical, ::horizontal]


def pointwise_input_gradient(
    w: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape
) -> jax.Array:
    x = jax.ShapeDtypeStruct(x_shape, g.dtype)
    return jax.linear_transpose(partial(subsample, geometry=geometry), x)(matmul(g, w[0, 0].T, geometry))[0]


def pointwise_kernel_gradient(
    x: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape
) -> jax.Array:
    return contract_pixels(subsample(x, geometry), g, geometry).astype(g.dtype)[None, None]


# im2col: the kernel's views of the image side by side as channels, then a matrix product.


def pad(x: jax.Array, geometry: Geometry, fill: float = 0) -> jax.Array:
    # lax.pad takes negative padding, jnp.pad does not
    spatial = ((low, high, 0) for low, high in geometry.padding)
    return lax.pad(x, jnp.asarray(fill, x.dtype), ((0, 0, 0), *spatial, (0, 0, 0)))


def taps(x: jax.Array, w_shape: Shape, geometry: Geometry, fill: float = 0) -> list[jax.Array]:
    """The kh * kw views of the padded image that the kernel multiplies, each [N, H', W', C]."""
    (kh, kw), (vertical, horizontal) = w_shape[:2], geometry.strides
    height, width = output_size(x.shape, w_shape, geometry)
    x = pad(x, geometry, fill)
    return [
        x[:, i : i + (height - 1) * vertical + 1 : vertical, j : j + (width - 1) * horizontal + 1 : horizontal]
        for i in range(kh)
        for j in range(kw)
    ]


def columns(x: jax.Array, w_shape: Shape, geometry: Geometry) -> jax.Array:
    return jnp.concatenate(taps(x, w_shape, geometry), axis=-1)


def im2col(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    return matmul(columns(x, w.shape, geometry), w.reshape(-1, w.shape[3]), geometry)


def im2col_input_gradient(w: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape) -> jax.Array:
    x = jax.ShapeDtypeStruct(x_shape, g.dtype)
    g = matmul(g, w.reshape(-1, w.shape[3]).T, geometry)
    return jax.linear_transpose(lambda x: columns(x, w_shape, geometry), x)(g)[0]


def chunked_kernel_gradient(
    x: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape
) -> jax.Array:
    def part(x, g):
        return contract_pixels(g, columns(x, w_shape, geometry), geometry)

    images = images_per_chunk(x_shape[0], CHUNK_BYTES * x_shape[0] // column_bytes(x_shape, w_shape, geometry))
    total = sum_over_chunks(part, (w_shape[3], math.prod(w_shape[:3])), x, g, images)
    return total.T.astype(g.dtype).reshape(w_shape)


def column_bytes(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> int:
    return 4 * x_shape[0] * pixels(x_shape, w_shape, geometry) * math.prod(w_shape[:3])


def images_per_chunk(batch: int, most: int) -> int:
    """The largest divisor of the batch up to `most`, and 1 at least."""
    return max((n for n in range(1, min(batch, most) + 1) if batch % n == 0), default=1)


def sum_over_chunks(part: Callable, shape: tuple, x: jax.Array, g: jax.Array, images: int) -> jax.Array:
    """The sum of `part(x, g)`, float32 of the given shape, over chunks of so many images.

    Step i takes the images i, i + steps, ...: the image axis that stays in a chunk is the major one, so that
    a batch sharded over devices stays where it is.
    """
    steps = x.shape[0] // images
    x, g = (a.reshape(images, steps, *a.shape[1:]) for a in (x, g))

    def add(total, i):
        return total + part(*(lax.dynamic_index_in_dim(a, i, 1, keepdims=False) for a in (x, g))), None

    return lax.scan(add, jnp.zeros(shape), jnp.arange(steps))[0]


# Depthwise: shifted views, times a number a channel.


def shifted_multiply_adds(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    return sum(t * v for t, v in zip(taps(x, w.shape, geometry), w.reshape(-1, w.shape[3]), strict=True))


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


# The maximum over 3x3 windows at stride 2: forward and backward at 32 px, 64 channels, batch 128 take 145 ms with
# the native gradient (select_and_scatter), 50 with the shifted one.


@jax.custom_vjp
def max_pool(x: jax.Array) -> jax.Array:
    """Maximum over 3x3 windows, stride 2, padding 1: [N, H, W, C] to [N, ceil(H / 2), ceil(W / 2), C].

    Values and gradient are those of `flax.linen.max_pool`: of equal largest values in a window, the first in
    row-major order takes the whole gradient. Reverse-mode differentiable only.
    """
    return native_max_pool(x)


def native_max_pool(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))


def _max_pool_backward(x, g):
    def native_gradient(x: jax.Array, g: jax.Array) -> jax.Array:
        return jax.vjp(native_max_pool, x)[1](g)[0]

    return (lax.platform_dependent(x, g, cpu=shifted_max_pool_gradient, default=native_gradient),)


max_pool.defvjp(lambda x: (max_pool(x), x), _max_pool_backward)


def shifted_max_pool_gradient(x: jax.Array, g: jax.Array) -> jax.Array:
    geometry = Geometry((2, 2), ((1, 1), (1, 1)), 1, None)
    best, *others = taps(x, (3, 3), geometry, -jnp.inf)
    winner = jnp.zeros(best.shape, jnp.int8)
    for i, view in enumerate(others, start=1):
        winner = jnp.where(view > best, jnp.int8(i), winner)
        best = jnp.maximum(best, view)

    def pick(x: jax.Array) -> jax.Array:
        return sum(jnp.where(winner == i, view, 0) for i, view in enumerate(taps(x, (3, 3), geometry)))

    return jax.linear_transpose(pick, x)(g)[0]
