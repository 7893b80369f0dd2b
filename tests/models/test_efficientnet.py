"""EfficientNet-Lite0 against timm's stored output, by its published sizes, and under the objectives."""

import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util

from jaxssl import models, objectives
from jaxssl.models import efficientnet
from tests.golden import make_efficientnet

GOLDEN = Path(__file__).parents[1] / "golden" / "efficientnet.npz"
SMALL = {"width": 0.1, "depth": 0.3, "stem": "small"}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def image(batch=4, side=16, channels=3, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, side, side, channels)).astype(np.float32)


def shapes_of(encoder, side=64, channels=3):
    """Shapes of the output and of the variables."""
    x = jnp.zeros((2, side, side, channels))
    return jax.eval_shape(lambda key: encoder.init_with_output(key, x, train=False), jax.random.key(0))


def parameters(encoder):
    return sum(p.size for p in jax.tree.leaves(shapes_of(encoder)[1]["params"]))


def timm_name(path):
    """("params", "blocks_0_0", "conv_dw", "kernel") -> "blocks.0.0.conv_dw.weight"."""
    *modules, leaf = path[1:]
    return ".".join([re.sub(r"blocks_(\d+)_(\d+)", r"blocks.\1.\2", m) for m in modules] + [LEAVES[leaf]])


def golden_value(path, leaf):
    if len(leaf.shape) < 4:
        return make_efficientnet.values(timm_name(path), leaf.shape)
    height, width, inputs, outputs = leaf.shape
    made = make_efficientnet.values(timm_name(path), (outputs, inputs, height, width))
    return made.transpose(2, 3, 1, 0)


def filled(encoder, side):
    """Variables as the golden output was computed with."""
    return traverse_util.path_aware_map(golden_value, shapes_of(encoder, side)[1])


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as stored:
        return dict(stored)


def assert_near(ours, theirs, tolerance=1e-4):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize("size", make_efficientnet.SIZES)
def test_as_timm(golden, size):
    encoder = models.find("efficientnet_lite0")(stem="imagenet", dtype=jnp.dtype("float32"))
    variables = filled(encoder, size)
    assert sorted(map(timm_name, traverse_util.flatten_dict(variables))) == golden["names"].tolist()
    x = make_efficientnet.images(size)
    pooled = jax.jit(lambda v: encoder.apply(v, x, train=False)["pooled"])(variables)
    assert_near(pooled, golden[f"pooled_{size}"])
    weight = make_efficientnet.values("classifier.weight", (1000, 1280))
    bias = make_efficientnet.values("classifier.bias", (1000,))
    assert_near(pooled @ weight.T + bias, golden[f"logits_{size}"])


def test_as_timm_in_training(golden):
    encoder = models.find("efficientnet_lite0")()
    x = make_efficientnet.images(64)
    out, _ = jax.jit(lambda v: encoder.apply(v, x, train=True, mutable=["batch_stats"]))(filled(encoder, 64))
    # Statistics over the eight pixels of the last maps magnify the rounding.
    assert_near(out["pooled"], golden["trained_64"], 1e-3)


@pytest.mark.parametrize(
    ("width", "depth", "published"),
    [
        (1.0, 1.0, 4_652_008),
        (1.0, 1.1, 5_416_680),
        (1.1, 1.2, 6_092_072),
        (1.2, 1.4, 8_197_096),
        (1.4, 1.8, 13_006_568),
    ],
)
def test_as_many_parameters_as_lite0_to_lite4_less_their_head(width, depth, published):
    encoder = models.find("efficientnet_lite0")(width=width, depth=depth)
    assert parameters(encoder) == published - (1280 * 1000 + 1000)


@pytest.mark.parametrize(("stem", "side", "smallest"), [("imagenet", 3, 32), ("small", 5, 16)])
def test_shapes_for_any_number_of_channels(stem, side, smallest):
    encoder = models.find("efficientnet_lite0")(**SMALL | {"stem": stem})
    out, _ = shapes_of(encoder, 65, channels=5)
    assert out["pooled"].shape == (2, 1280) and out["map"].shape == (2, side, side, 1280)
    assert out["pooled"].dtype == out["map"].dtype == jnp.float32
    assert encoder.smallest_image == smallest
    assert shapes_of(encoder, smallest)[0]["map"].shape[1:3] == (1, 1)


def test_initial_kernels_keep_the_size_of_activations():
    """He's deviation by fan out, where a channel of a depthwise kernel has one output."""
    conv = partial(nn.Conv, kernel_init=efficientnet.he_normal)
    block = efficientnet.MBConv(192, 5, 1, 6, conv, partial(nn.BatchNorm, use_running_average=True))
    params = jax.jit(lambda: block.init(jax.random.key(0), jnp.zeros((1, 1, 1, 192))))()["params"]
    for name, outputs in (("conv_pw", 1152), ("conv_dw", 25), ("conv_pwl", 192)):
        assert np.std(params[name]["kernel"]) == pytest.approx(np.sqrt(2 / outputs), rel=0.02)


def test_training_mode_must_be_said():
    with pytest.raises(TypeError, match="train"):
        models.find("efficientnet_lite0")().init(jax.random.key(0), image())


@pytest.mark.parametrize(("name", "value"), [("width", 0), ("depth", -1.0), ("momentum", 1.0)])
def test_refuses_attributes_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        models.find("efficientnet_lite0")(**{name: value})


def test_batch_statistics_move_once_in_training_and_rest_otherwise():
    encoder = models.find("efficientnet_lite0")(**SMALL)
    x = image()
    variables = filled(encoder, 16)

    @jax.jit
    def both(variables):
        return [encoder.apply(variables, x, train=t, mutable=["batch_stats"])[1]["batch_stats"] for t in (True, False)]

    new, same = both(variables)
    jax.tree.map(np.testing.assert_array_equal, same, variables["batch_stats"])
    kernel, padded = np.asarray(variables["params"]["conv_stem"]["kernel"]), np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    stem = sum(padded[:, i : i + 16, j : j + 16] @ kernel[i, j] for i in range(3) for j in range(3))
    old = variables["batch_stats"]["bn1"]
    np.testing.assert_allclose(new["bn1"]["mean"], 0.99 * old["mean"] + 0.01 * stem.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(new["bn1"]["var"], 0.99 * old["var"] + 0.01 * stem.var((0, 1, 2)), atol=1e-6)


def test_half_precision_computes_in_it_and_answers_in_full():
    exact, coarse = (models.find("efficientnet_lite0")(**SMALL, dtype=jnp.dtype(d)) for d in ("float32", "bfloat16"))
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes_of(coarse)[1])} == {jnp.dtype("float32")}
    variables = filled(exact, 16)
    a, b = (jax.jit(lambda v: e.apply(v, image(), train=False)["map"])(variables) for e in (exact, coarse))
    assert b.dtype == jnp.float32
    assert 0 < np.abs(a - b).max() < 0.2


def test_relu6_and_its_gradient():
    x = jnp.array([-1.0, 0.0, 1e-3, 5.9, 6.0, 7.0])
    np.testing.assert_allclose(efficientnet.relu6(x), [0, 0, 1e-3, 5.9, 6, 6])
    np.testing.assert_array_equal(jax.grad(lambda x: efficientnet.relu6(x).sum())(x), [0, 0, 1, 1, 0, 0])


@pytest.mark.parametrize("name", ["byol", "inpaint", "ntxent", "rotation", "supervised"])
def test_serves_the_objectives(name):
    objective = objectives.make(name, models.find("efficientnet_lite0")(**SMALL), {"classes": 3, "steps": 10}, {})
    views = tuple(jnp.zeros((4, 16, 16, 3)) for _ in range(objective.views))
    batch = {"views": views, "label": jnp.zeros(4, jnp.int32)}
    key = jax.random.key(0)
    params, state, target = jax.eval_shape(objective.init, key, batch)
    (value, (new, metrics)), gradient = jax.eval_shape(
        jax.value_and_grad(objective.loss, has_aux=True), params, state, target, batch, key
    )
    assert value.shape == () and metrics["features"].shape == (4, 1280)
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, state)
    assert jax.tree.map(jnp.shape, gradient) == jax.tree.map(jnp.shape, params)


def test_on_the_cpu_no_depthwise_convolution_runs_natively():
    encoder = models.find("efficientnet_lite0")(**SMALL)
    variables = shapes_of(encoder, 16)[1]

    def loss(params, stats, x):
        variables = {"params": params, "batch_stats": stats}
        out, new = encoder.apply(variables, x, train=True, mutable=["batch_stats"])
        return out["pooled"].sum(), new

    step = jax.jit(jax.grad(loss, has_aux=True)).trace(variables["params"], variables["batch_stats"], image())
    found = {
        platform: set(
            re.findall(r"(?:feature|batch)_group_count = (\d+)", step.lower(lowering_platforms=(platform,)).as_text())
        )
        for platform in ("cpu", "cuda")
    }
    assert found["cpu"] <= {"1"} < found["cuda"]
