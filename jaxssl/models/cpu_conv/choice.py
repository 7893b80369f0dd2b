"""Choice of the fastest form of a convolution and of its gradients, by static shape alone.

`python launch/benchmarks/measure_conv.py` prints the table behind the rules. Two cores of a Xeon with AVX-512,
batch 128, milliseconds of the native form and of the chosen one:

- forward: 1x1 16px 64->256 23, 11; 3x3 16px 64->64 17, 12; 3x3 4px 256->256 14, 5; 3x3 2px 512->512 672, 7;
  3x3 32px 3->64 19, 15; depthwise 5x5 16px 144 254, 14
- input gradient: 1x1 16px 64->256 31, 10; 3x3 16px 64->64 16, 12; 3x3 4px 256->256 14, 7; 3x3 2px 512->512 678, 7;
  3x3 stride 2 4px 256->512 275, 5; 3x3 stride 2 32px 64->128 91, 51; depthwise 3x3 stride 2 32px 96 1346, 4
- kernel gradient: 1x1 16px 64->256 117, 20; 3x3 16px 64->64 68, 17; 3x3 4px 256->256 11, 7; 3x3 32px 64->64 322, 66;
  7x7 stride 2 64px 3->64 84, 47; depthwise 3x3 32px 96 762, 82

CPU milliseconds on an EPYC with AVX-512 BF16, columns in chunks against transposed ones and those in mixed precision:
kernel gradient, batch 256, 7x7 stride 2 64px 3->64 149, 91, 75; 3x3 stride 2 16px 64->128 36, 36, 26; 8px 128->256 30,
33, 21 (native 55); 3x3 32px 3->64 40, 18, 19 (Winograd 29). Forward in mixed precision, 3x3 stride 2, native and
columns: 8px 128->256 32, 20; batch 64, 12px 256->256 36, 24; but 24px 128->128 34, 38.

Elsewhere the native form is as fast, or faster: forward 3x3 stride 2 16px 64->128 takes 11, 8 in the next best form,
and 3x3 16px 16->16 takes 1.4, and 2.3.
"""

import math
from collections.abc import Callable

from jaxssl.models.cpu_conv.depthwise import (
    shifted_multiply_adds,
    shifted_multiply_adds_input_gradient,
    shifted_multiply_adds_kernel_gradient,
)
from jaxssl.models.cpu_conv.geometry import Geometry, Shape, column_bytes, count_pixels, is_pointwise
from jaxssl.models.cpu_conv.matmul import (
    chunked_kernel_gradient,
    dense,
    dense_input_gradient,
    dense_kernel_gradient,
    im2col,
    im2col_input_gradient,
    pointwise,
    pointwise_input_gradient,
    pointwise_kernel_gradient,
    transposed_kernel_gradient,
)
from jaxssl.models.cpu_conv.native import native, native_input_gradient, native_kernel_gradient
from jaxssl.models.cpu_conv.winograd import fits_winograd, winograd, winograd_input_gradient, winograd_kernel_gradient
from jaxssl.models.linear import MIXED

# Limit of the columns of a whole batch.
MAX_COLUMN_BYTES = 256 << 20
INPUT_GRADIENTS = {
    native: native_input_gradient,
    pointwise: pointwise_input_gradient,
    im2col: im2col_input_gradient,
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
    if fits_winograd(w_shape, geometry) and many_pixels and min(w_shape[2:]) >= 64:
        return winograd
    few_channels = math.prod(w_shape[:3]) <= 32
    small = column_bytes(x_shape, w_shape, geometry) <= MAX_COLUMN_BYTES
    if geometry.precision == MIXED and min(w_shape[2:]) >= 64:
        many_pixels = count_pixels(x_shape, w_shape, geometry) > 36
    return im2col if (not many_pixels or few_channels) and small else native


def choose_input_gradient(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> Callable:
    form = choose_forward(x_shape, w_shape, geometry)
    strided = geometry.strides != (1, 1)
    small = column_bytes(x_shape, w_shape, geometry) <= MAX_COLUMN_BYTES
    if form is native and strided and small:
        form = im2col
    return INPUT_GRADIENTS[form]


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
