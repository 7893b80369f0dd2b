"""Batch normalisation against flax's, and views in one pass against one pass a view."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxssl import models
from jaxssl.models.norm import BatchNorm
from jaxssl.objectives import deinterleave, interleave

SMALLEST = {
    "resnet18": {"width": 8, "stages": (1, 1), "stem": "small"},
    "resnet34": {"width": 4, "stages": (2,), "stem": "small"},
    "resnet50": {"width": 4, "stages": (1,), "stem": "small"},
    "efficientnet_lite0": {"width": 0.2, "depth": 0.1, "stem": "small"},
    "conv_attention": {"widths": (8, 8), "heads": 2},
    "autoencoder": {"widths": (4, 8)},
    "convnext_tiny": {"widths": (4, 8), "depths": (1, 1)},
    "convnext_small": {"widths": (4, 8), "depths": (1, 1), "stem": "small", "layer_scale": 1.0},
    "vit_tiny": {"width": 16, "depth": 1, "heads": 2, "patch": 4},
    "vit_small": {"width": 16, "depth": 1, "heads": 2, "patch": 8},
    "vit_base": {"width": 16, "depth": 1, "heads": 4, "patch": 4},
    "vit_large": {"width": 16, "depth": 1, "heads": 4, "patch": 4, "layer_scale": 0.1, "positions": "learnt"},
}


def weighed(y):
    """The sum of an array, each number of which weighs differently."""
    return (y * jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)).sum()


@pytest.mark.parametrize("shape", [(12, 5), (6, 4, 3, 5)])
@pytest.mark.parametrize("views", [1, 2, 3])
def test_it_is_flax_batch_norm_of_one_view_after_the_other(shape, views):
    x = 3 + 2 * jax.random.normal(jax.random.key(0), shape)
    ours = BatchNorm(True, views, momentum=0.8, epsilon=1e-3)
    flax = nn.BatchNorm(use_running_average=False, momentum=0.8, epsilon=1e-3)
    variables = flax.init(jax.random.key(1), x)
    assert jax.tree.structure(ours.init(jax.random.key(1), x)) == jax.tree.structure(variables)
    variables["params"] = {"scale": jnp.arange(1.0, 6), "bias": jnp.arange(5.0)}

    def predict_iter(params, x):
        state, out = variables["batch_stats"], []
        for view in deinterleave(x, views):
            y, new = flax.apply({"params": params, "batch_stats": state}, view, mutable=["batch_stats"])
            state = new["batch_stats"]
            out.append(y)
        y = interleave(out)
        return weighed(y), (y, state)

    def at_once(params, x):
        y, new = ours.apply({**variables, "params": params}, x, mutable=["batch_stats"])
        return weighed(y), (y, new["batch_stats"])

    found, expected = (
        jax.jit(jax.grad(form, (0, 1), has_aux=True))(variables["params"], x) for form in (at_once, predict_iter)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, expected)
    _, (_, state) = expected
    averages = flax.clone(use_running_average=True).apply({**variables, "batch_stats": state}, x)
    ours = ours.clone(train=False).apply({**variables, "batch_stats": state}, x)
    np.testing.assert_allclose(ours, averages, rtol=1e-5, atol=1e-5)


def test_a_constant_channel_has_no_variance_and_half_precision_stays_half():
    x = jnp.full((8, 4), 1e4 + 1 / 3)
    ours = BatchNorm(True, dtype=jnp.bfloat16)
    y, new = ours.init_with_output(jax.random.key(0), x)
    assert y.dtype == jnp.bfloat16 and np.isfinite(np.asarray(y, np.float32)).all()
    assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {jnp.dtype(jnp.float32)}


def test_every_encoder_is_here():
    assert set(SMALLEST) == set(models.available())


# Two encoders with batch statistics in the default run; the others take a minute, and those without such statistics
# give each image the same, whatever the views.
@pytest.mark.parametrize(
    "name",
    [
        name if name in ("resnet18", "conv_attention") else pytest.param(name, marks=pytest.mark.slow)
        for name in SMALLEST
    ],
)
def test_views_in_one_pass_are_one_pass_a_view(name):
    encoder = models.find(name)(**SMALLEST[name])
    views = tuple(2 * jax.random.normal(jax.random.key(i), (4, 16, 16, 3)) + i for i in range(2))
    variables = encoder.init(jax.random.key(9), views[0], train=False)

    @jax.jit
    def both(variables):
        out, new = encoder.apply(variables, interleave(views), train=True, views=2, mutable=["batch_stats"])
        predict_iter, state = [], variables
        for view in views:
            y, updated = encoder.apply(state, view, train=True, mutable=["batch_stats"])
            state = {**state, **updated}
            predict_iter.append(y["pooled"])
        return deinterleave(out["pooled"], 2), new, predict_iter, {k: state[k] for k in new}

    pooled, new, expected, state = both(variables)
    np.testing.assert_allclose(pooled, expected, rtol=1e-3, atol=1e-3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), new, state)
