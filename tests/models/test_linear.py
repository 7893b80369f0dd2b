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
