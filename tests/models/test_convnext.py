"""ConvNeXt by its published sizes, its shapes and its block in NumPy; tests/weights compares it with timm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import models, objectives
from jaxssl.models import convnext
from jaxssl.models.shapes import count_parameters, shapes_of
from tests.models.test_vit import trained

SMALL = {"widths": (8, 16), "depths": (1, 1)}


@pytest.mark.parametrize(("name", "published"), [("convnext_tiny", 28_589_128), ("convnext_small", 50_223_688)])
def test_size_as_published(name, published):
    """timm's counts, less the classifier of 1000 classes."""
    shapes = shapes_of(models.find(name)(), 64, 3)
    assert count_parameters(shapes["params"]) == published - (768 * 1000 + 1000)


@pytest.mark.parametrize(("stem", "size", "side"), [("imagenet", 33, 4), ("small", 33, 8)])
def test_shapes(stem, size, side):
    encoder = convnext.convnext_tiny(**SMALL, stem=stem)
    out = jax.eval_shape(
        lambda: encoder.init_with_output(jax.random.key(0), jnp.zeros((2, size, size, 5)), train=False)[0]
    )
    assert out["pooled"].shape == (2, 16) and out["map"].shape == (2, side, side, 16)
    assert encoder.smallest_image == {"imagenet": 8, "small": 4}[stem]


def test_a_block_against_numpy():
    block = convnext.Block(1.0)
    x = np.random.default_rng(0).normal(size=(1, 9, 8, 4)).astype(np.float32)
    p = trained(block, x)
    padded = np.pad(x[0], ((3, 3), (3, 3), (0, 0)))
    kernel = np.asarray(p["conv_dw"]["kernel"])[:, :, 0]
    y = np.array([[(padded[i : i + 7, j : j + 7] * kernel).sum((0, 1)) for j in range(8)] for i in range(9)])
    y = y + p["conv_dw"]["bias"]
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6) * p["norm"]["scale"] + p["norm"][
        "bias"
    ]
    hidden = jax.nn.gelu(y @ p["fc1"]["kernel"] + p["fc1"]["bias"], approximate=False)
    expected = x[0] + (hidden @ p["fc2"]["kernel"] + p["fc2"]["bias"]) * p["gamma"]
    np.testing.assert_allclose(block.apply({"params": p}, x)[0], expected, rtol=1e-4, atol=1e-4)


def test_attributes_that_do_not_fit():
    with pytest.raises(ValueError, match="one number per stage"):
        convnext.convnext_tiny(widths=(8, 16), depths=(1,))


def test_a_step_of_an_objective_moves_every_parameter():
    objective = objectives.make("ntxent", convnext.convnext_tiny(**SMALL, layer_scale=1.0), {}, {"hidden": 8})
    views = tuple(np.random.default_rng(i).normal(size=(4, 16, 16, 3)).astype(np.float32) for i in range(2))
    batch = {"views": views, "label": np.zeros(4, np.int32)}
    params, state, target = jax.jit(objective.init)(jax.random.key(0), batch)
    gradient = jax.jit(jax.grad(lambda p: objective.loss(p, state, target, batch, jax.random.key(1))[0]))(params)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient["encoder"]))
