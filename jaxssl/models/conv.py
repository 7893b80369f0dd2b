"""A convolution that is fast on the CPU: `conv_general_dilated` in place of `jax.lax.conv_general_dilated`.

XLA's convolution on the CPU is many times slower than it need be in certain shapes: 1x1 kernels, outputs of a
few pixels, strided input gradients, kernel gradients over large images, depthwise kernels. Here the forward
pass, the input gradient and the kernel gradient each take the fastest of a few forms, by static shape alone.
On GPU and TPU the native convolution is right, and is what runs: the choice is made when lowering.

    nn.Conv(features, (3, 3), conv_general_dilated=conv_general_dilated)
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Shape = tuple[int, ...]

# As torchvision has it (He et al., 2015, arXiv:1502.01852, on the way back).
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
NHWC = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))

# What one step of a scan reads stays in the cache: bytes of columns, of depthwise images, and of Winograd's tiles.
CHUNK_BYTES = 4 << 20
DEPTHWISE_CHUNK_BYTES = 1 << 19
TILE_BYTES = 5 << 20
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
        lhs, padding = pad_the_excess(lhs, rhs.shape, tuple((int(low), int(high)) for low, high in padding))
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


def pad_the_excess(x: jax.Array, w_shape: Shape, padding: tuple) -> tuple[jax.Array, tuple]:
    """Image and padding such that this lies from 0 to the kernel's size less 1, for the same convolution.

    Where it is negative, as it becomes in the input gradient of one that is wider, XLA on the CPU reads past the image.
    """
    inner = tuple(tuple(min(max(p, 0), k - 1) for p in of) for k, of in zip(w_shape[:2], padding, strict=True))
    if inner == padding:
        return x, padding
    excess = ((p[0] - q[0], p[1] - q[1], 0) for p, q in zip(padding, inner, strict=True))
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *excess, (0, 0, 0))), inner


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    return by_platform(choose_forward(x.shape, w.shape, geometry), native, x, w, geometry=geometry)


def _forward(x, w, geometry):
    return _conv(x, w, geometry), (x, w)


def _backward(geometry, residuals, g):
    x, w = residuals
    static = {"geometry": geometry, "x_shape": x.shape, "w_shape": w.shape}
    dx = by_platform(choose_input_gradient(x.shape, w.shape, geometry), native_input_gradient, w, g, **static)
    dw = by_platform(choose_kernel_gradient(x.shape, w.shape, geometry), native_kernel_gradient, x, g, **static)
    return dx, dw


_conv.defvjp(_forward, _backward)


def by_platform(cpu: Callable, default: Callable, *arrays: jax.Array, **static: Any) -> jax.Array:
    """One of two functions of the arrays and of what is static; each is traced once for all layers that are alike."""

    def traced_once(function: Callable) -> Callable:
        return partial(jax.jit(function, static_argnames=tuple(static)), **static)

    return lax.platform_dependent(*arrays, cpu=traced_once(cpu), default=traced_once(default))


# The rules of choice, by static shape alone. `python launch/benchmarks/measure_conv.py` prints the table they rest on; from
# two cores of a Xeon with AVX-512, batch 128, milliseconds natively against the form chosen instead:
#   forward          1x1 16px 64->256 23, 11;  3x3 16px 64->64 17, 12;  3x3 4px 256->256 14, 5;
#                    3x3 2px 512->512 672, 7;  3x3 32px 3->64 19, 15;  depthwise 5x5 16px 144 254, 14
#   input gradient   1x1 16px 64->256 31, 10;  3x3 16px 64->64 16, 12;  3x3 4px 256->256 14, 7;
#                    3x3 2px 512->512 678, 7;  3x3 stride 2 4px 256->512 275, 5;
#                    3x3 stride 2 32px 64->128 91, 51;  depthwise 3x3 stride 2 32px 96 1346, 4
#   kernel gradient  1x1 16px 64->256 117, 20;  3x3 16px 64->64 68, 17;  3x3 4px 256->256 11, 7;
#                    3x3 32px 64->64 322, 66;  7x7 stride 2 64px 3->64 84, 47;  depthwise 3x3 32px 96 762, 82
# Elsewhere the native one is as fast, or faster: forward 3x3 stride 2 16px 64->128 11 against 8 in the next best form,
# and 3x3 16px 16->16 1.4 against 2.3.


def choose_forward(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> Callable:
    if geometry.groups > 1:
        return shifted_multiply_adds
    if is_pointwise(w_shape, geometry):
        return pointwise
    if is_tiny(x_shape, w_shape, geometry):
        return dense
    many_pixels = pixels(x_shape, w_shape, geometry) >= 16
    if fits_winograd(w_shape, geometry) and many_pixels and min(w_shape[2:]) >= 64:
        return winograd
    few_channels = math.prod(w_shape[:3]) <= 32
    small = column_bytes(x_shape, w_shape, geometry) <= MOST_BYTES
    return im2col if (not many_pixels or few_channels) and small else native


def choose_input_gradient(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> Callable:
    form = choose_forward(x_shape, w_shape, geometry)
    strided = geometry.strides != (1, 1)
    small = column_bytes(x_shape, w_shape, geometry) <= MOST_BYTES
    if form is native and strided and small:
        form = im2col
    return INPUT_GRADIENTS[form]


def choose_kernel_gradient(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> Callable:
    if geometry.groups > 1:
        return shifted_multiply_adds_kernel_gradient
    if is_pointwise(w_shape, geometry):
        return pointwise_kernel_gradient
    count = pixels(x_shape, w_shape, geometry)
    if count <= 4 and math.prod(w_shape[:2]) <= 9:
        return dense_kernel_gradient
    if fits_winograd(w_shape, geometry) and count >= 16 and math.prod(w_shape) >= 512:
        return winograd_kernel_gradient
    return chunked_kernel_gradient if count >= 64 and math.prod(w_shape) >= 4096 else native_kernel_gradient


def is_tiny(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> bool:
    return max(math.prod(x_shape[1:3]), pixels(x_shape, w_shape, geometry)) <= 4


def is_pointwise(w_shape: Shape, geometry: Geometry) -> bool:
    return w_shape[:2] == (1, 1) and geometry.padding == ((0, 0), (0, 0))


def fits_winograd(w_shape: Shape, geometry: Geometry) -> bool:
    return w_shape[:2] == (3, 3) and geometry.strides == (1, 1) and geometry.groups == 1


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
    # As matrices: over several axes XLA would first write one of the two anew, transposed.
    a, g = (x.reshape(-1, x.shape[-1]) for x in (a, g))
    dims = (((0,), (0,)), ((), ()))
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


def map_chunks(part: Callable, x: jax.Array, images: int) -> jax.Array:
    """`part` of chunks of so many images, taken as in `sum_over_chunks`, as one batch."""
    steps = x.shape[0] // images
    if steps == 1:
        return part(x)
    x = x.reshape(images, steps, *x.shape[1:])
    y = lax.map(lambda i: part(lax.dynamic_index_in_dim(x, i, 1, keepdims=False)), jnp.arange(steps))
    return y.swapaxes(0, 1).reshape(images * steps, *y.shape[2:])


# Maps of a few pixels: the convolution is one matrix from all values of the map to all of the result.


def pairs(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """For each place (i, j) of the kernel the (input, output) pixels that it connects, counted in row-major order."""
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


def matrix(w: jax.Array, x_shape: Shape, geometry: Geometry) -> jax.Array:
    """[H * W * C, H' * W' * D]."""
    places = {pair: place for place, of in pairs(x_shape, w.shape, geometry).items() for pair in of}
    nothing = jnp.zeros(w.shape[2:], w.dtype)
    rows = [
        jnp.stack([w[places[pixel, out]] if (pixel, out) in places else nothing for out in range(outputs)], 1)
        for outputs in [pixels(x_shape, w.shape, geometry)]
        for pixel in range(x_shape[1] * x_shape[2])
    ]
    return jnp.stack(rows).reshape(x_shape[1] * x_shape[2] * w.shape[2], -1)


def dense(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    y = matmul(x.reshape(len(x), -1), matrix(w, x.shape, geometry), geometry)
    return y.reshape(len(x), *output_size(x.shape, w.shape, geometry), w.shape[3])


def dense_input_gradient(w: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape) -> jax.Array:
    return matmul(g.reshape(len(g), -1), matrix(w, x_shape, geometry).T, geometry).reshape(x_shape)


def dense_kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape) -> jax.Array:
    x, g = x.reshape(len(x), -1, 1, x.shape[3]), g.reshape(len(g), -1, 1, g.shape[3])

    def place(of: list[tuple[int, int]]) -> jax.Array:
        if not of:
            return jnp.zeros(w_shape[2:], jnp.float32)
        ins, outs = zip(*of, strict=True)
        ins, outs = (jnp.stack([a[:, p] for p in where], 1) for a, where in ((x, ins), (g, outs)))
        return contract_pixels(ins, outs, geometry)

    places = [place(of) for of in pairs(x_shape, w_shape, geometry).values()]
    return jnp.stack(places).astype(g.dtype).reshape(w_shape)


# Winograd's F(4x4, 3x3) (Lavin and Gray, 2015, arXiv:1509.09308, section 4): 36 products for the 16 outputs of a tile,
# which take 144 otherwise. Kernel, input tile and output tile are multiplied on both sides by one matrix each.

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


def combine(weights: np.ndarray, arrays: Sequence[jax.Array]) -> jax.Array:
    return sum(float(weight) * array for weight, array in zip(weights, arrays, strict=True) if weight)


def to_tiles(x: jax.Array, m: np.ndarray) -> jax.Array:
    """m d m' of each window d of the images, as wide as `m` and `TILE` from the next: [36, N * th * tw, C]."""
    down, right = (range(0, size - m.shape[1] + 1, TILE) for size in x.shape[1:3])
    rows = [x[:, i : i + down[-1] + 1 : TILE] for i in range(m.shape[1])]
    x = jnp.stack([combine(weights, rows) for weights in m])
    columns = [x[:, :, :, j : j + right[-1] + 1 : TILE] for j in range(m.shape[1])]
    return jnp.stack([combine(weights, columns) for weights in m]).reshape(36, -1, x.shape[-1])


def from_tiles(tiles: jax.Array, shape: Shape, geometry: Geometry) -> jax.Array:
    """m' t m of each tile t of the products [36, N * th * tw, D], side by side: `shape` [N, 4 th, 4 tw, D]."""
    n, height, width, channels = shape
    y = matmul(np.kron(WINOGRAD_OUTPUT, WINOGRAD_OUTPUT), tiles.reshape(36, -1), geometry)
    y = y.reshape(TILE, TILE, n, height // TILE, width // TILE, channels)
    return y.transpose(2, 3, 1, 4, 0, 5).reshape(shape)


def both_sides(m: np.ndarray, w: jax.Array, geometry: Geometry) -> jax.Array:
    """m w m' over the first two axes of `w`: [a, a, C, D] to [b * b, C, D], columns first where rows were."""
    product = matmul(np.kron(m, m), w.swapaxes(0, 1).reshape(-1, w.shape[2] * w.shape[3]), geometry)
    return product.reshape(-1, *w.shape[2:])


def tiled(x_shape: Shape, geometry: Geometry) -> tuple[int, int]:
    """Tiles down and across that cover the outputs of a 3x3 kernel."""
    return tuple(-(-size // TILE) for size in output_size(x_shape, (3, 3), geometry))


def pad_to_tiles(x: jax.Array, geometry: Geometry) -> jax.Array:
    edges = (
        (low, TILE * count + 2 - low - size)
        for count, size, (low, _) in zip(tiled(x.shape, geometry), x.shape[1:3], geometry.padding, strict=True)
    )
    return pad(x, geometry._replace(padding=tuple(edges)))


def images_of_tiles(x_shape: Shape, channels: int, geometry: Geometry) -> int:
    return images_per_chunk(x_shape[0], TILE_BYTES // (4 * 36 * channels * math.prod(tiled(x_shape, geometry))))


def winograd(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    kernel = both_sides(WINOGRAD_KERNEL, w.astype(jnp.float32), geometry)
    height, width = output_size(x.shape, w.shape, geometry)
    down, right = tiled(x.shape, geometry)

    def part(x: jax.Array) -> jax.Array:
        tiles = to_tiles(pad_to_tiles(x.astype(jnp.float32), geometry), WINOGRAD_INPUT)
        shape = (len(x), TILE * down, TILE * right, w.shape[3])
        return from_tiles(matmul(tiles, kernel, geometry), shape, geometry)[:, :height, :width]

    images = images_of_tiles(x.shape, max(w.shape[2:]), geometry)
    return map_chunks(part, x, images).astype(x.dtype)


def winograd_input_gradient(
    w: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape
) -> jax.Array:
    turned = geometry._replace(padding=tuple((2 - low, 2 - high) for low, high in geometry.padding))
    return winograd(g, w[::-1, ::-1].swapaxes(2, 3), turned)


def winograd_kernel_gradient(
    x: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape
) -> jax.Array:
    height, width = tiled(x_shape, geometry)

    def part(x: jax.Array, g: jax.Array) -> jax.Array:
        x = to_tiles(pad_to_tiles(x.astype(jnp.float32), geometry), WINOGRAD_INPUT)
        below, right = TILE * height - g.shape[1], TILE * width - g.shape[2]
        g = jnp.pad(g.astype(jnp.float32), ((0, 0), (0, below), (0, right), (0, 0)))
        return jnp.einsum("ptc,ptd->pcd", x, to_tiles(g, WINOGRAD_OUTPUT.T), precision=geometry.precision)

    images = images_of_tiles(x_shape, sum(w_shape[2:]), geometry)
    total = sum_over_chunks(part, (36, *w_shape[2:]), x, g, images).reshape(6, 6, *w_shape[2:])
    return both_sides(WINOGRAD_KERNEL.T, total, geometry).reshape(w_shape).astype(g.dtype)


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


INPUT_GRADIENTS = {
    native: native_input_gradient,
    pointwise: pointwise_input_gradient,
    im2col: im2col_input_gradient,
    dense: dense_input_gradient,
    winograd: winograd_input_gradient,
    shifted_multiply_adds: shifted_multiply_adds_input_gradient,
}


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
        return sum(jnp.where(winner == i, view, 0) for i, view in enumerate(taps(x, (3, 3), geometry)))

    return jax.linear_transpose(pick, x)(g)[0]
