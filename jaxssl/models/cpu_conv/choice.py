"""Choice of the fastest form of a convolution and of its gradients, by static shape alone.

`python launch/benchmarks/measure_conv.py` prints the table behind the rules. Two cores of an EPYC with AVX-512 BF16,
wall time in milliseconds, batch 256: the native form, the chosen one, and the chosen one in mixed precision
(`--mixed`).

- forward: 7x7 stride 2 64px 3->64 58, 49, 45; 3x3 16px 64->64 47, 19, 14; 8px 128->128 24, 16, 10; 4px 256->256 27, 11,
  7; 2px 512->512 2164, 12, 7; 3x3 stride 2 16px 64->128 26, 17, 11; 4px 256->512 16, 13, 7; 1x1 stride 2 16px 64->128
  3.8, 2.2, 1.8
- input gradient: 3x3 16px 64->64 46, 22, 14; 2px 512->512 2097, 13, 7; 3x3 stride 2 16px 64->128 24, 17, 9; 4px
  256->512 513, 14, 9
- kernel gradient: 7x7 stride 2 64px 3->64 109, 52, 34; 3x3 16px 64->64 199, 19, 19; 4px 256->256 34, 11, 11; 3x3 stride
  2 16px 64->128 36, 18, 12

With few channels and stride 1, batch 128: 64px 3->32 45, 21; 28px 1->16 2.7, 1.5; but 32px 3->64 9.5, 15. Depthwise, on
two cores of a Xeon: 5x5 16px 144 254, 14; its input gradient at 3x3 stride 2 32px 96 1346, 4; its kernel gradient at
3x3 32px 96 762, 82. Elsewhere the native form is as fast or faster: 3x3 16px 16->16 takes 1.6, and 1.8 in the next
best.

XLA runs the native form and many small products in one thread: with more cores the chosen forms gain more.
"""

import math
from collections.abc import Callable

from jaxssl.models.cpu_conv.depthwise import (
    shifted_multiply_adds,
    shifted_multiply_adds_input_gradient,
    shifted_multiply_adds_kernel_gradient,
)
from jaxssl.models.cpu_conv.geometry import Geometry, Shape, count_pixels, is_pointwise
from jaxssl.models.cpu_conv.matmul import (
    chunked_kernel_gradient,
    dense,
    dense_input_gradient,
    dense_kernel_gradient,
    im2col,
    im2col_input_gradient,
    joined_im2col,
    pointwise,
    pointwise_input_gradient,
    pointwise_kernel_gradient,
    transposed_kernel_gradient,
)
from jaxssl.models.cpu_conv.native import native, native_input_gradient, native_kernel_gradient
from jaxssl.models.cpu_conv.winograd import fits_winograd, winograd, winograd_input_gradient, winograd_kernel_gradient
from jaxssl.models.linear import MIXED

INPUT_GRADIENTS = {
    native: native_input_gradient,
    pointwise: pointwise_input_gradient,
    im2col: im2col_input_gradient,
    joined_im2col: im2col_input_gradient,
    dense: dense_input_gradient,
    winograd: winograd_input_gradient,
    shifted_multiply_adds: shifted_multiply_adds_input_gradient,
}


def choose_forward(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> Callable:
    if geometry.groups > 1:
        return shifted_multiply_adds
    if is_pointwise(w_shape, geometry):
        return pointwise
    if is_tiny(x_shape, w_shape, geometry):
        return dense
    many_pixels = count_pixels(x_shape, w_shape, geometry) >= 16
    if fits_winograd(w_shape, geometry) and many_pixels and min(w_shape[2:]) >= 32:
        return winograd
    taps, strided = math.prod(w_shape[:2]), geometry.strides != (1, 1)
    if strided and many_pixels and w_shape[2] <= 4:
        return joined_im2col
    few_channels = taps * w_shape[2] <= 32 and w_shape[3] < 64
    return im2col if few_channels or not many_pixels or (strided and taps <= 9) else native


def choose_input_gradient(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> Callable:
    form = choose_forward(x_shape, w_shape, geometry)
    return INPUT_GRADIENTS[im2col if form is native and geometry.strides != (1, 1) else form]


def choose_kernel_gradient(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> Callable:
    if geometry.groups > 1:
        return shifted_multiply_adds_kernel_gradient
    if is_pointwise(w_shape, geometry):
        return pointwise_kernel_gradient
    count = count_pixels(x_shape, w_shape, geometry)
    if count <= 4 and math.prod(w_shape[:2]) <= 9:
        return dense_kernel_gradient
    if w_shape[2] <= 4 and w_shape[3] >= 32 and count >= 16:
        return transposed_kernel_gradient
    if fits_winograd(w_shape, geometry) and count >= 16 and math.prod(w_shape) >= 512:
        return winograd_kernel_gradient
    size = math.prod(w_shape)
    if (count >= 64 and size >= 4096) or (count >= 16 and size >= 1 << 16):
        return transposed_kernel_gradient if geometry.precision == MIXED else chunked_kernel_gradient
    return native_kernel_gradient


def is_tiny(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> bool:
    return max(math.prod(x_shape[1:3]), count_pixels(x_shape, w_shape, geometry)) <= 4
