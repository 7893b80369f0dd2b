"""The small convolutional network with attention: its shapes, its layers against NumPy, and how far it sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import models, objectives
from jaxssl.models import conv_attention
from jaxssl.run import prepare
from tests import tiny_config
from tests.models.test_vit import dense, layer_norm, positions, trained
from tests.refusals import refuses

SMALL = {"widths": (4, 8), "heads": 2}


def image(height=10, width=9, channels=3, batch=2, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, height, width, channels)).astype(np.float32)


def shapes_of(encoder, height, width, channels=1):
    """Shapes of the output and of the variables."""
    x = jnp.zeros((2, height, width, channels))
    return jax.eval_shape(lambda key: encoder.init_with_output(key, x, train=False), jax.random.key(0))


def moved(encoder, x):
    """Variables away from their start: no bias and mean is 0, no scale and variance 1."""
    variables = jax.jit(lambda: encoder.init(jax.random.key(0), x, train=False))()
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda v: v + rng.uniform(0.0, 0.3, v.shape).astype(np.float32), variables)


def attention(p, x, heads):
    """One picture's map [H, W, D], head by head and query by query."""
    height, width, channels = x.shape
    x, of_head = x.reshape(-1, channels), channels // heads
    qkv = dense(p["qkv"], x + positions(height, width, channels))
    mixed = np.zeros_like(x)
    for h in range(heads):
        q, k, v = (qkv[:, part * channels + h * of_head :][:, :of_head] for part in range(3))
        for t in range(len(x)):
            weight = np.exp(k @ q[t] / np.sqrt(of_head))
            mixed[t, h * of_head : (h + 1) * of_head] = weight @ v / weight.sum()
    return layer_norm(p["norm"], x + dense(p["proj"], mixed)).reshape(height, width, channels)


def stage(variables, name, x):
    """One picture [H, W, C] through a stage, window by window."""
    params, stats = variables["params"], variables["batch_stats"][f"{name}_bn"]
    kernel, norm = np.asarray(params[f"{name}_conv"]["kernel"], np.float64), params[f"{name}_bn"]
    height, width = x.shape[:2]
    x = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    x = sum(x[i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3))
    x = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * norm["scale"] + norm["bias"]
    rows, columns = range(height // 2), range(width // 2)
    windows = [[x[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] for j in columns] for i in rows]
    return np.maximum([[window.max((0, 1)) for window in row] for row in windows], 0)


def test_as_the_project_described_it():
    encoder = models.make("conv_attention", {"stem": "imagenet", "dtype": jnp.dtype("float32")})
    out, variables = shapes_of(encoder, 150, 150)
    assert out["map"].shape == (2, 18, 18, 256) and out["pooled"].shape == (2, 256)
    widths = [variables["params"][f"stage{i}_conv"]["kernel"].shape for i in (1, 2, 3)]
    assert widths == [(3, 3, 1, 64), (3, 3, 64, 128), (3, 3, 128, 256)]
    assert variables["params"]["attention"]["qkv"]["kernel"].shape == (256, 768)
    assert encoder.heads == 8 and encoder.smallest_image == 8


@pytest.mark.parametrize(("height", "width"), [(8, 8), (15, 9), (65, 130)])
def test_an_odd_row_or_column_is_dropped_at_each_pool(height, width):
    out, _ = shapes_of(models.find("conv_attention")(), height, width, channels=5)
    assert out["map"].shape == (2, height // 8, width // 8, 256)
    assert out["map"].dtype == out["pooled"].dtype == jnp.float32


def test_attention_against_numpy():
    module = conv_attention.Attention(heads=2)
    x = image(3, 5, channels=8)
    params = trained(module, x)
    out = jax.jit(module.apply)({"params": params}, x)
    for b in range(2):
        np.testing.assert_allclose(out[b], attention(params, x[b].astype(np.float64), 2), rtol=1e-4, atol=1e-5)


def test_the_whole_against_numpy():
    encoder = models.find("conv_attention")(**SMALL)
    variables = moved(encoder, image())
    out = jax.jit(lambda x: encoder.apply(variables, x, train=False))(image())
    for b in range(2):
        x = stage(variables, "stage2", stage(variables, "stage1", image()[b].astype(np.float64)))
        x = attention(variables["params"]["attention"], x, 2)
        assert x.shape == (2, 2, 8)
        np.testing.assert_allclose(out["map"][b], x, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(out["pooled"][b], x.mean((0, 1)), rtol=1e-4, atol=1e-5)


def test_a_position_sees_pixels_that_its_convolutions_do_not():
    """Two stages let the first position of the map see 7 pixels a side; with attention it sees most of 32."""
    encoder = models.find("conv_attention")(**SMALL)
    x = image(32, 32)
    variables = moved(encoder, x)

    def corner(x, of):
        _, between = encoder.apply(variables, x, train=False, capture_intermediates=True, mutable=["intermediates"])
        before = between["intermediates"]["stage2_bn"]["__call__"][0][:, :2, :2]
        after = between["intermediates"]["attention"]["__call__"][0][:, 0, 0]
        return jnp.sin({"before": before, "after": after}[of]).sum()

    reach = {
        of: np.abs(jax.jit(jax.grad(corner), static_argnums=1)(x, of)).sum((0, 3)) > 0 for of in ("before", "after")
    }
    assert reach["before"][:7, :7].any() and not reach["before"][7:].any() and not reach["before"][:, 7:].any()
    assert reach["after"][24:, 24:].any() and reach["after"].mean() > 0.5


def test_attention_knows_where_a_pixel_is():
    """A shifted map does not give the shifted result, as it would without positions."""
    module = conv_attention.Attention(heads=2)
    x = image(4, 4, channels=8)
    params = trained(module, x)
    out, shifted = (jax.jit(module.apply)({"params": params}, v) for v in (x, np.roll(x, 1, 2)))
    assert np.abs(np.roll(out, 1, 2) - shifted).max() > 0.01


def test_batch_statistics_change_in_training_alone():
    encoder = models.find("conv_attention")(**SMALL)
    variables = moved(encoder, image())

    @jax.jit
    def both(x):
        return [encoder.apply(variables, x, train=t, mutable=["batch_stats"])[1]["batch_stats"] for t in (True, False)]

    new, same = both(image())
    jax.tree.map(np.testing.assert_array_equal, same, variables["batch_stats"])
    assert all(np.abs(a - b).max() > 0 for a, b in zip(*map(jax.tree.leaves, (new, same)), strict=True))


def test_training_mode_must_be_said():
    with pytest.raises(TypeError, match="train"):
        models.find("conv_attention")().init(jax.random.key(0), image())


def test_half_precision_computes_in_it_and_answers_in_full():
    exact, coarse = (models.find("conv_attention")(**SMALL, dtype=jnp.dtype(d)) for d in ("float32", "bfloat16"))
    variables = moved(coarse, image())
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    a, b = (jax.jit(lambda v: e.apply(v, image(), train=False)["map"])(variables) for e in (exact, coarse))
    assert b.dtype == jnp.float32
    assert 0 < np.abs(a - b).max() < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "heads=3"),
        ({"widths": (8, 6), "heads": 1}, "width=6"),
        ({"widths": ()}, "widths="),
        ({"widths": (0, 8)}, "widths="),
    ],
)
def test_refuses_attributes_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        models.find("conv_attention")(**options)


def test_a_config_with_too_small_an_image_is_refused():
    c = tiny_config.get_config()
    c.model.name, c.model.options = "conv_attention", {"widths": [4, 8, 8], "heads": 2}
    c.data.image_size = 8
    assert prepare.make_encoder(c).widths == (4, 8, 8)
    c.data.image_size = 7
    with refuses("out-of-range", "data.image_size", "image_size=7", "conv_attention"):
        prepare.make_encoder(c)


@pytest.mark.parametrize("name", ["byol", "inpaint", "rotation", "supervised"])
def test_serves_the_objectives(name):
    objective = objectives.make(name, models.find("conv_attention")(**SMALL), {"classes": 3, "steps": 10}, {})
    batch = {"views": (jnp.zeros((4, 8, 8, 3)),) * objective.views, "label": jnp.zeros(4, jnp.int32)}
    key = jax.random.key(0)
    params, state, target = jax.eval_shape(objective.init, key, batch)
    gradient, (new, metrics) = jax.eval_shape(jax.grad(objective.loss, has_aux=True), params, state, target, batch, key)
    assert metrics["features"].shape == (4, 8)
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, state)
    assert jax.tree.map(jnp.shape, gradient) == jax.tree.map(jnp.shape, params)


def test_a_step_of_ntxent_moves_every_parameter():
    objective = objectives.make(
        "ntxent", models.find("conv_attention")(**SMALL), {"classes": 3, "steps": 10}, {"hidden": 8}
    )
    batch = {"views": (image(8, 8, batch=4), image(8, 8, batch=4, seed=1)), "label": np.zeros(4, np.int32)}
    params, state, target = jax.jit(objective.init)(jax.random.key(0), batch)
    value_and_grad = jax.jit(jax.value_and_grad(objective.loss, has_aux=True))
    (value, _), gradient = value_and_grad(params, state, target, batch, jax.random.key(1))
    assert np.isfinite(value)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient["encoder"]):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, path
