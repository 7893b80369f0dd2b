"""`conv_general_dilated`, a drop-in for `jax.lax.conv_general_dilated` that is fast on the CPU."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxssl.models.cpu_conv.choice import choose_forward, choose_input_gradient, choose_kernel_gradient
from jaxssl.models.cpu_conv.dispatch import by_platform
from jaxssl.models.cpu_conv.geometry import NHWC, Geometry, Shape, output_size
from jaxssl.models.cpu_conv.native import native, native_gradients, native_input_gradient, native_kernel_gradient
from jaxssl.models.cpu_conv.winograd import winograd_gradients, winograd_input_gradient, winograd_kernel_gradient
from jaxssl.models.linear import unless_mixed


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

    It takes the same arguments. `lhs` is [N, H, W, C], `rhs` [kh, kw, C / groups, D], the result [N, H', W', D].
    Everything else (dilation, groups that are not depthwise, other dimensions, further arguments) runs natively. What
    does not run natively is differentiable in reverse mode only.
    """
    supported = (
        lhs.ndim == 4
        and not kw
        and lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers) == NHWC
        and all(d == 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ())))
        and lhs.dtype == rhs.dtype
        and lhs.dtype in (jnp.float32, jnp.bfloat16)
        and (feature_group_count == 1 or feature_group_count == lhs.shape[3] == rhs.shape[3])
        and feature_group_count * rhs.shape[2] == lhs.shape[3]
    )
    if supported:
        vertical, horizontal = map(int, window_strides)
        strides = (vertical, horizontal)
        if isinstance(padding, str):
            padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], strides, padding)
        lhs, padding = limit_padding(lhs, rhs.shape, tuple((int(low), int(high)) for low, high in padding))
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
        precision=unless_mixed(precision),
        **kw,
    )


def limit_padding(x: jax.Array, w_shape: Shape, padding: tuple) -> tuple[jax.Array, tuple]:
    """Returns image and padding of the same convolution, with the padding between 0 and the kernel's size - 1.

    With negative padding XLA on the CPU reads past the image. Padding wider than the kernel becomes negative in the
    input gradient.
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
    input_gradient = choose_input_gradient(x.shape, w.shape, geometry)
    kernel_gradient = choose_kernel_gradient(x.shape, w.shape, geometry)
    if (input_gradient, kernel_gradient) == (winograd_input_gradient, winograd_kernel_gradient):
        return by_platform(winograd_gradients, native_gradients, x, w, g, **static)
    dx = by_platform(input_gradient, native_input_gradient, w, g, **static)
    dw = by_platform(kernel_gradient, native_kernel_gradient, x, g, **static)
    return dx, dw


_conv.defvjp(_forward, _backward)
