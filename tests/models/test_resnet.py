"""ResNets: published sizes, shapes, precision, and the sum they are made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import models


def parameters(encoder, size, channels=3):
    image = jnp.zeros((1, size, size, channels))
    shapes = jax.eval_shape(lambda key: encoder.init(key, image, train=False), jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


@pytest.mark.parametrize(
    ("name", "published"), [("resnet18", 11_689_512), ("resnet34", 21_797_672), ("resnet50", 25_557_032)]
)
def test_as_many_parameters_as_torchvision_less_its_head(name, published):
    width = 2048 if name == "resnet50" else 512
    assert parameters(models.find(name)(), 64) == published - (width * 1000 + 1000)


@pytest.mark.parametrize(("stem", "side"), [("imagenet", 2), ("small", 8)])
def test_shapes_for_any_number_of_channels(stem, side):
    encoder = models.find("resnet18")(stem=stem, width=8)
    image = jnp.zeros((2, 64, 64, 5))
    out = jax.eval_shape(lambda key: encoder.init_with_output(key, image, train=False)[0], jax.random.key(0))
    assert out["pooled"].shape == (2, 64) and out["map"].shape == (2, side, side, 64)


def test_training_mode_must_be_said():
    encoder = models.find("resnet18")(width=4, stages=(1,))
    with pytest.raises(TypeError, match="train"):
        encoder.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))


def test_half_precision_computes_in_it_and_answers_in_full():
    """Parameters, statistics and output are float32, and the output is near that of float32."""
    image = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))
    outs = []
    for dtype in (jnp.float32, jnp.bfloat16):
        encoder = models.find("resnet18")(stem="small", width=8, stages=(1, 1), dtype=dtype)
        variables = encoder.init(jax.random.key(0), image, train=False)
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
        outs.append(encoder.apply(variables, image, train=False)["pooled"])
    assert outs[1].dtype == jnp.float32
    assert 0 < np.abs(outs[0] - outs[1]).max() < 0.05 * np.abs(outs[0]).max()


def test_batch_statistics_change_in_training_alone():
    encoder = models.find("resnet18")(stem="small", width=4, stages=(1,))
    image = jax.random.normal(jax.random.key(1), (4, 8, 8, 1))
    variables = encoder.init(jax.random.key(0), image, train=False)
    _, new = encoder.apply(variables, image, train=True, mutable=["batch_stats"])
    _, same = encoder.apply(variables, image, train=False, mutable=["batch_stats"])
    jax.tree.map(np.testing.assert_array_equal, same["batch_stats"], variables["batch_stats"])
    assert np.abs(new["batch_stats"]["bn1"]["mean"]).max() > 0
