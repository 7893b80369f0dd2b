"""XLA's own convolution and its gradients."""

import jax
from jax import lax

from jaxssl.models.cpu_conv.geometry import NHWC, Geometry, Shape


def native(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        w,
        geometry.strides,
        geometry.padding,
        dimension_numbers=NHWC,
        feature_group_count=geometry.groups,
        precision=geometry.of_float32,
    )


def native_input_gradient(w: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape) -> jax.Array:
    x = jax.ShapeDtypeStruct(x_shape, g.dtype)
    return jax.linear_transpose(lambda x: native(x, w, geometry), x)(g)[0]


def native_kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape) -> jax.Array:
    w = jax.ShapeDtypeStruct(w_shape, g.dtype)
    return jax.linear_transpose(lambda w: native(x, w, geometry), w)(g)[0]


def native_gradients(
    x: jax.Array, w: jax.Array, g: jax.Array, geometry: Geometry, x_shape: Shape, w_shape: Shape
) -> tuple[jax.Array, jax.Array]:
    shapes = (geometry, x_shape, w_shape)
    return native_input_gradient(w, g, *shapes), native_kernel_gradient(x, g, *shapes)
