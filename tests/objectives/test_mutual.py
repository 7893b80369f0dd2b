"""Deep mutual learning against a NumPy oracle, and by its gradients."""

import math

import jax
import numpy as np
import optax
import pytest

from jaxssl.objectives import mutual
from tests import tiny
from tests.objectives import test_byol as oracle

NETWORKS = (("encoder", "head"), ("peer_encoder", "peer_head"))


def one_view(size=8):
    batch = tiny.two_views(size)
    return batch | {"views": batch["views"][:1]}


@pytest.fixture(scope="module")
def made():
    """An objective whose two heads have come to disagree."""
    objective = mutual.make(tiny.Encoder(), classes=3)
    params, state, target = objective.init(jax.random.key(0), one_view())
    for i, (_, head) in enumerate(NETWORKS):
        noise = jax.random.normal(jax.random.key(i), params[head]["linear"]["kernel"].shape)
        params[head]["linear"]["kernel"] += noise
    return objective, params, state, target


@pytest.mark.parametrize("unlabelled", [[], [1, 4], list(range(8))])
def test_loss_and_statistics_against_the_oracle(made, unlabelled):
    objective, params, state, target = made
    batch = one_view()
    batch["label"][unlabelled] = -1
    log_p, new = [], {}
    for encoder, head in NETWORKS:
        pooled, statistics = oracle.encoder(params[encoder], state[encoder]["batch_stats"], batch["views"][0])
        logits = oracle.linear(params[head]["linear"], pooled)
        log_p.append(logits - np.log(np.exp(logits).sum(1, keepdims=True)))
        new[encoder] = {"batch_stats": statistics}
    expected, right = 0.0, []
    for i, label in enumerate(batch["label"]):
        for own, other in (log_p, log_p[::-1]):
            expected += sum(math.exp(b) * (b - a) for a, b in zip(own[i], other[i], strict=True)) / 8
            expected -= own[i][label] / 8 if label >= 0 else 0.0
        if label >= 0:
            right.append(log_p[0][i].argmax() == label)

    value, (state_after, metrics) = objective.loss(params, state, target, batch, jax.random.key(2))
    assert value == pytest.approx(expected, rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), state_after, new)
    assert metrics["accuracy"] == pytest.approx(np.mean(right) if right else 0.0)
    np.testing.assert_allclose(
        metrics["features"],
        oracle.encoder(params["encoder"], state["encoder"]["batch_stats"], batch["views"][0])[0],
        rtol=1e-4,
        atol=1e-5,
    )


def test_each_network_has_the_gradient_of_its_own_loss_against_a_peer_held_constant(made):
    objective, params, state, target = made
    batch = one_view()
    gradient, _ = jax.grad(objective.loss, has_aux=True)(params, state, target, batch, jax.random.key(2))

    def logits_of(of, encoder, head):
        variables = {"params": of[encoder], **state[encoder]}
        out, _ = tiny.Encoder().apply(variables, batch["views"][0], train=True, mutable=["batch_stats"])
        return out["pooled"] @ of[head]["linear"]["kernel"] + of[head]["linear"]["bias"]

    for own, other in (NETWORKS, NETWORKS[::-1]):
        soft = jax.nn.softmax(logits_of(params, *other))

        def alone(of, own=own, soft=soft):
            logits = logits_of(of, *own)
            hard = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
            return (hard + optax.kl_divergence(jax.nn.log_softmax(logits), soft)).mean()

        expected = jax.grad(alone)({name: params[name] for name in own})
        for name in own:
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), gradient[name], expected[name]
            )


def test_two_networks_start_apart_and_guess_alike():
    objective = mutual.make(tiny.Encoder(), classes=3)
    params, state, target = objective.init(jax.random.key(0), one_view())
    assert set(params) == {"encoder", "head", "peer_encoder", "peer_head"} and set(state) == {"encoder", "peer_encoder"}
    assert np.abs(params["encoder"]["linear"]["kernel"] - params["peer_encoder"]["linear"]["kernel"]).min() > 0
    value, _ = objective.loss(params, state, target, one_view(), jax.random.key(1))
    assert value == pytest.approx(2 * math.log(3), rel=1e-6)
    assert objective.first_loss(64) == pytest.approx(2 * math.log(3))
    assert objective.supervised and not objective.constant_target
