"""BYOL against a NumPy oracle, and by what its gradients must not do."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.objectives import byol
from tests import tiny
from tests.refusals import refuses

KW = {"steps": 10, "hidden": 16, "projection": 4}


def linear(p, x):
    return x @ np.asarray(p["kernel"], np.float64) + (np.asarray(p["bias"], np.float64) if "bias" in p else 0)


def batch_norm(p, statistics, x):
    mean, var = x.mean(0), x.var(0)
    new = {"mean": 0.9 * statistics["mean"] + 0.1 * mean, "var": 0.9 * statistics["var"] + 0.1 * var}
    return (x - mean) / np.sqrt(var + 1e-5) * p["scale"] + p["bias"], new


def encoder(p, statistics, image):
    x, new = batch_norm(p["bn"], statistics["bn"], linear(p["linear"], image.reshape(len(image), -1)))
    return np.maximum(x, 0), {"bn": new}


def mlp(p, statistics, x):
    x, new = batch_norm(p["bn"], statistics["bn"], linear(p["linear1"], x))
    return linear(p["linear2"], np.maximum(x, 0)), {"bn": new}


def project(params, state, image):
    features, encoder_new = encoder(params["encoder"], state["encoder"]["batch_stats"], image)
    z, projector_new = mlp(params["projector"], state["projector"]["batch_stats"], features)
    return z, {"encoder": {"batch_stats": encoder_new}, "projector": {"batch_stats": projector_new}}


def regression(p, z):
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (p, z)]
    return ((unit[0] - unit[1]) ** 2).sum(1).mean()


@pytest.fixture(scope="module")
def made():
    """An objective whose target has drifted away from its online network."""
    objective, batch = byol.make(tiny.Encoder(), **KW), tiny.two_views()
    params, state, target = objective.init(jax.random.key(0), batch)
    target = jax.tree.map(lambda t: t + 0.3 * jax.random.normal(jax.random.key(1), t.shape), target)
    return objective, params, state, target, batch


def test_loss_and_statistics_against_the_oracle(made):
    objective, params, state, target, batch = made
    value, (new, metrics) = objective.loss(params, state, target, batch, jax.random.key(2))

    online, predictor, of_target = dict(state), state["predictor"]["batch_stats"], state["target"]
    predictions, projections = [], []
    for image in batch["views"]:
        z, online = project(params, online, image)
        p, predictor = mlp(params["predictor"], predictor, z)
        t, of_target = project(target, of_target, image)
        predictions.append(p)
        projections.append(t)
    oracle = regression(predictions[0], projections[1]) + regression(predictions[1], projections[0])
    assert value == pytest.approx(oracle, rel=1e-4)
    expected = online | {"predictor": {"batch_stats": predictor}, "target": of_target}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), new, expected)
    assert metrics["features"].shape == (8, 6)


def test_no_gradient_reaches_the_target(made):
    objective, params, state, target, batch = made
    gradient = jax.grad(lambda t: objective.loss(params, state, t, batch, jax.random.key(2))[0])(target)
    jax.tree.map(lambda g: np.testing.assert_array_equal(g, 0), gradient)
    online = jax.grad(lambda p: objective.loss(p, state, target, batch, jax.random.key(2))[0])(params)
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(online["encoder"]["linear"]["kernel"]))


def test_statistics_of_the_target_are_its_own(made):
    objective, params, state, target, batch = made
    _, (new, _) = objective.loss(params, state, target, batch, jax.random.key(2))
    _, (moved, _) = objective.loss(params, state, jax.tree.map(lambda t: t + 1, target), batch, jax.random.key(2))
    jax.tree.map(np.testing.assert_array_equal, moved["encoder"], new["encoder"])
    assert (
        np.abs(
            moved["target"]["encoder"]["batch_stats"]["bn"]["mean"]
            - new["target"]["encoder"]["batch_stats"]["bn"]["mean"]
        ).max()
        > 0.1
    )


@pytest.mark.parametrize(("step", "cosine"), [(0, 1.0), (5, 0.0), (10, -1.0)])
def test_moving_average_follows_the_paper(made, step, cosine):
    objective, params, _, target, _ = made
    tau = 1 - (1 - 0.996) * (cosine + 1) / 2
    assert math.isclose(math.cos(math.pi * step / 10), cosine, abs_tol=1e-9)
    for name in ("encoder", "projector"):
        jax.tree.map(
            lambda new, old, p: np.testing.assert_allclose(new, tau * old + (1 - tau) * p, rtol=1e-5, atol=1e-7),
            objective.advance(target, params, jnp.asarray(step))[name],
            target[name],
            params[name],
        )


def test_without_average_the_target_is_the_online_network(made):
    _, params, _, target, _ = made
    simsiam = byol.make(tiny.Encoder(), **KW, ema=0.0)
    for step in (0, 9):
        new = simsiam.advance(target, params, jnp.asarray(step))
        jax.tree.map(np.testing.assert_array_equal, new, {name: params[name] for name in new})


def test_the_first_target_is_an_equal_copy(made):
    objective, *_, batch = made
    params, state, target = objective.init(jax.random.key(0), batch)
    assert set(target) == {"encoder", "projector"}
    for name in target:
        jax.tree.map(np.testing.assert_array_equal, target[name], params[name])
        jax.tree.map(np.testing.assert_array_equal, state["target"][name], state[name])


@pytest.mark.parametrize("option", [{"ema": 2.0}, *({"predictor_rate": r} for r in (0.0, -1.0, math.inf, math.nan))])
def test_options_out_of_their_range_are_refused(option):
    ((name, value),) = option.items()
    with refuses("out-of-range", f"pretrain.options.{name}", str(value)):
        byol.make(tiny.Encoder(), steps=1, **option)
