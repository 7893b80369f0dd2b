"""The dense layer against flax's own: values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxssl.models import linear


@pytest.mark.parametrize("shape", [(5, 3), (4, 5, 3), (2, 4, 5, 3)])
def test_it_is_the_dense_layer_of_flax(shape):
    x = jax.random.normal(jax.random.key(0), shape)
    theirs = nn.Dense(7)
    variables = theirs.init(jax.random.key(1), x)

    def gradients(layer):
        return jax.value_and_grad(lambda v, x: jnp.sin(layer.apply(v, x)).sum(), argnums=(0, 1))(variables, x)

    ours, expected = jax.tree.leaves(gradients(linear.Dense(7))), jax.tree.leaves(gradients(theirs))
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_of_several_axes_it_is_one_product_of_matrices_in_each_direction():
    x = jnp.ones((4, 5, 3))
    variables = linear.Dense(7).init(jax.random.key(1), x)
    both = jax.jit(jax.grad(lambda v, x: linear.Dense(7).apply(v, x).sum(), argnums=(0, 1)))
    products = [line for line in both.lower(variables, x).as_text().splitlines() if "dot_general" in line]
    assert products and all("tensor<4x5x" not in line for line in products)


def test_another_product_is_refused():
    with pytest.raises(ValueError, match="not the product of a dense layer"):
        linear.dot_general(jnp.ones((2, 3)), jnp.ones((2, 3)), (((1,), (1,)), ((), ())))


ROUNDING = 2.0**-9  # Half of the largest relative error of rounding to bfloat16: sums stay within half their bound.


@pytest.mark.parametrize("shape", [(40, 24), (2, 3, 5, 24)])
def test_in_mixed_precision_value_and_gradients_are_within_the_error_of_rounded_operands(shape):
    """|fl(a) fl(b) - a b| <= (2 u + u^2) |a| |b|, for each element of each of the three products."""
    rng = np.random.default_rng(0)
    x, w, g = (rng.normal(size=s) for s in (shape, (24, 16), (*shape[:-1], 16)))

    def multiply(x, w):
        return linear.dot_general(x, w, (((x.ndim - 1,), (0,)), ((), ())), precision=linear.MIXED)

    y, pullback = jax.vjp(multiply, jnp.asarray(x, jnp.float32), jnp.asarray(w, jnp.float32))
    found, rows, out = (y, *pullback(jnp.asarray(g, jnp.float32))), x.reshape(-1, 24), g.reshape(-1, 16)
    for value, (a, b) in zip(found, ((rows, w), (out, w.T), (rows.T, out)), strict=True):
        error, bound = np.abs(np.reshape(value, (len(a), -1)) - a @ b), np.abs(a) @ np.abs(b)
        assert value.dtype == jnp.float32
        assert (error <= (2 * ROUNDING + ROUNDING**2 + 1e-5) * bound).all()
        assert (error > 1e-4 * bound).mean() > 0.5, "nothing was rounded"


def test_in_mixed_precision_every_product_has_bfloat16_operands_and_a_float32_result():
    x, w = jnp.ones((32, 24)), jnp.ones((24, 16))

    def loss(w, x):
        return jnp.square(linear.dot_general(x, w, (((1,), (0,)), ((), ())), precision=linear.MIXED)).sum()

    text = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(w, x).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) == 3
    for line in products:
        operands, result = line.rsplit(" : ", 1)[1].split(" -> ")
        assert operands.count("bf16") == 2 and "f32" in result and "bf16" not in result
        assert "contracting_dims = [1]" in line, "the left operand is transposed"
