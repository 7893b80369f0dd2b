"""Matrix products of operands rounded to bfloat16, and `nn.Dense` as one product of matrices."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

MIXED = lax.DotAlgorithmPreset.BF16_BF16_F32
"""The `precision` of layers whose products are those of this file: float32 in and out, and for all between them."""


def unless_mixed(precision: Any) -> Any:
    """Return a precision for XLA, which is float32's own in place of `MIXED`."""
    return None if precision == MIXED else precision


def multiply(a: jax.Array, b: jax.Array) -> jax.Array:
    """[..., M, K] times [..., K, N], both rounded to bfloat16: float32, as are the sums.

    On CPUs this is what XLA computes with AMX or AVX-512 BF16, as long as `a` is not transposed. With a bfloat16 result
    it is slower than in float32.
    """
    return jnp.matmul(a.astype(jnp.bfloat16), b.astype(jnp.bfloat16), preferred_element_type=jnp.float32)


def multiply_transposed(a: jax.Array, b: jax.Array) -> jax.Array:
    """The transposed [..., M, K] times [..., M, N], as `multiply`: a gradient with respect to a right operand."""
    # Without the barrier XLA makes the transposition part of the product.
    return multiply(lax.optimization_barrier(a.astype(jnp.bfloat16).swapaxes(-1, -2)), b)


def multiply_by_transposed(a: jax.Array, b: jax.Array) -> jax.Array:
    """[M, K] times the transposed [N, K], as `multiply`: a gradient with respect to a left operand."""
    # Not `multiply(a, b.T)`: XLA would write the transposed `b`, and the product would take as long as in float32.
    a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    return lax.dot_general(a, b, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)


@jax.custom_vjp
def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """`multiply` of two matrices with its gradients in the same form."""
    return multiply(a, b)


def _forward(a, b):
    a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    return multiply(a, b), (a, b)


def _backward(operands, g):
    a, b = operands
    return multiply_by_transposed(g, b), multiply_transposed(a, g)


_product.defvjp(_forward, _backward)


def dot_general(lhs: jax.Array, rhs: jax.Array, dimension_numbers: Any, precision: Any = None, **kw: Any) -> jax.Array:
    """`lax.dot_general` of [..., K] and [K, D] over K, as `nn.Dense` calls it; with precision `MIXED` as `multiply`.

    It multiplies matrices: with several axes XLA first writes a transposed copy of the input for the kernel gradient,
    which takes as long as the product itself on a CPU.
    """
    dims = (((lhs.ndim - 1,), (0,)), ((), ()))
    if rhs.ndim != 2 or dimension_numbers != dims:
        raise ValueError(f"{dimension_numbers} of {lhs.shape} and {rhs.shape} is not the product of a dense layer")
    rows = lhs.reshape(-1, lhs.shape[-1])
    if precision == MIXED:
        y = _product(rows, rhs)
    else:
        y = lax.dot_general(rows, rhs, (((1,), (0,)), ((), ())), precision=precision, **kw)
    return y.reshape(*lhs.shape[:-1], rhs.shape[1])


Dense = partial(nn.Dense, dot_general=dot_general)
