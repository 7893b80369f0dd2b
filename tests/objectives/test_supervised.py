"""Supervised training, its frozen form, and the online probe."""

import math

import jax
import numpy as np
import pytest

from jaxssl.objectives import byol, supervised, with_online_probe
from tests import tiny

KW = {"classes": 3, "steps": 10}


def one_view():
    batch = tiny.two_views()
    return batch | {"views": batch["views"][:1]}


def test_the_first_loss_is_that_of_a_uniform_guess():
    objective = supervised.make(tiny.Encoder(), **KW)
    params, state, target = objective.init(jax.random.key(0), one_view())
    value, _ = objective.loss(params, state, target, one_view(), jax.random.key(1))
    assert value == pytest.approx(math.log(3), rel=1e-6)
    assert objective.first_loss(64) == pytest.approx(math.log(3))


def test_a_frozen_encoder_gets_no_gradient_and_keeps_its_statistics():
    objective = supervised.make(tiny.Encoder(), **KW, frozen=True)
    params, state, target = objective.init(jax.random.key(0), one_view())
    grad = jax.grad(objective.loss, has_aux=True)
    gradient, (new, _) = grad(params, state, target, one_view(), jax.random.key(1))
    jax.tree.map(lambda g: np.testing.assert_array_equal(g, 0), gradient["encoder"])
    assert np.abs(gradient["head"]["linear"]["kernel"]).max() > 0
    jax.tree.map(np.testing.assert_array_equal, new, state)


def test_frozen_batch_norm_trains_weights_on_the_statistics_it_came_with():
    objective = supervised.make(tiny.Encoder(), **KW, batch_norm="frozen")
    params, state, target = objective.init(jax.random.key(0), one_view())
    params["head"]["linear"]["kernel"] += 1.0 * np.eye(6, 3, dtype=np.float32)
    gradient, (new, _) = jax.grad(objective.loss, has_aux=True)(params, state, target, one_view(), jax.random.key(1))
    assert np.abs(gradient["encoder"]["linear"]["kernel"]).max() > 0
    jax.tree.map(np.testing.assert_array_equal, new, state)


def test_predictions_are_probabilities_of_the_head():
    objective = supervised.make(tiny.Encoder(), **KW)
    params, state, _ = objective.init(jax.random.key(0), one_view())
    params["head"]["linear"]["bias"] += np.log(np.array([0.2, 0.3, 0.5], np.float32))
    p = supervised.predict(tiny.Encoder(), 3, params, state, one_view()["views"][0])
    np.testing.assert_allclose(p, np.tile([0.2, 0.3, 0.5], (8, 1)), rtol=1e-5)


def test_the_online_probe_leaves_loss_and_gradients_of_the_objective_alone():
    plain = byol.make(tiny.Encoder(), **KW, hidden=5, projection=4)
    probed = with_online_probe(plain, 3)
    batch, key = tiny.two_views(), jax.random.key(3)
    params, state, target = probed.init(jax.random.key(0), batch)
    params["online_probe"]["linear"]["kernel"] += np.eye(6, 3, dtype=np.float32)
    inner = {k: v for k, v in params.items() if k != "online_probe"}
    value, _ = plain.loss(inner, state, target, batch, key)
    expected = jax.grad(plain.loss, has_aux=True)(inner, state, target, batch, key)[0]
    gradient, (_, metrics) = jax.grad(probed.loss, has_aux=True)(params, state, target, batch, key)
    assert metrics["loss"] == value
    assert np.abs(gradient.pop("online_probe")["linear"]["kernel"]).max() > 0
    jax.tree.map(np.testing.assert_array_equal, gradient, expected)


def test_the_online_probe_ignores_unknown_labels():
    probed = with_online_probe(byol.make(tiny.Encoder(), **KW, hidden=5, projection=4), 3)
    batch = tiny.two_views() | {"label": np.full(8, -1, np.int32)}
    params, state, target = probed.init(jax.random.key(0), batch)
    gradient, (_, metrics) = jax.grad(probed.loss, has_aux=True)(params, state, target, batch, jax.random.key(3))
    jax.tree.map(lambda g: np.testing.assert_array_equal(g, 0), gradient["online_probe"])
    assert metrics["online_probe_accuracy"] == 0
