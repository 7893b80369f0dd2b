"""Static shapes of a convolution, its padding, and the shifted views that its kernel multiplies."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxssl.models.linear import unless_mixed

Shape = tuple[int, ...]
NHWC = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))


class Geometry(NamedTuple):
    """Static arguments of a convolution; `padding` is explicit, `groups` is 1 or the number of channels.

    With precision `MIXED` products have bfloat16 operands, of kernel gradients only those of transposed columns: the
    others are no faster so. XLA's own convolution has no such form.
    """

    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    groups: int
    precision: Any

    @property
    def of_float32(self) -> Any:
        """Precision of what is computed in float32 also where that of products is `MIXED`."""
        return unless_mixed(self.precision)


def is_pointwise(w_shape: Shape, geometry: Geometry) -> bool:
    return w_shape[:2] == (1, 1) and geometry.padding == ((0, 0), (0, 0))


def output_size(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> tuple[int, int]:
    def along(axis: int) -> int:
        padding = sum(geometry.padding[axis])
        return (x_shape[1 + axis] + padding - w_shape[axis]) // geometry.strides[axis] + 1

    return along(0), along(1)


def count_pixels(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> int:
    height, width = output_size(x_shape, w_shape, geometry)
    return height * width


def column_bytes(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> int:
    return 4 * x_shape[0] * count_pixels(x_shape, w_shape, geometry) * math.prod(w_shape[:3])


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
