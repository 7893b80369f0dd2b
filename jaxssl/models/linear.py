"""`nn.Dense` for inputs of more than two axes, as one matrix product."""

from functools import partial
from typing import Any

import jax
from flax import linen as nn
from jax import lax


def dot_general(lhs: jax.Array, rhs: jax.Array, dimension_numbers: Any, **kw: Any) -> jax.Array:
    """`lax.dot_general` of [..., K] and [K, D] over K, as `nn.Dense` calls it.

    It multiplies matrices: with several axes XLA first writes a transposed copy of the input for the kernel gradient,
    which takes as long as the product itself on a CPU.
    """
    dims = (((lhs.ndim - 1,), (0,)), ((), ()))
    if rhs.ndim != 2 or dimension_numbers != dims:
        raise ValueError(f"{dimension_numbers} of {lhs.shape} and {rhs.shape} is not the product of a dense layer")
    y = lax.dot_general(lhs.reshape(-1, lhs.shape[-1]), rhs, (((1,), (0,)), ((), ())), **kw)
    return y.reshape(*lhs.shape[:-1], rhs.shape[1])


Dense = partial(nn.Dense, dot_general=dot_general)
