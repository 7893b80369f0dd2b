"""NT-Xent against a slow oracle, optax and a closed form."""

import math

import jax
import numpy as np
import optax
import pytest

from jaxssl.objectives import losses, ntxent
from tests import tiny
from tests.refusals import refuses


def embeddings(size=6, width=5, seed=0):
    return np.random.default_rng(seed).normal(size=(2, size, width)).astype(np.float32)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_loss_against_a_slow_loop_and_optax(temperature):
    first, second = embeddings()
    z = np.concatenate([first, second]).astype(np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    nats = []
    for i in range(12):
        similarity = [math.exp(z[i] @ z[j] / temperature) for j in range(12)]
        nats.append(-math.log(similarity[(i + 6) % 12] / (sum(similarity) - similarity[i])))
    oracle = [(nats[i] + nats[i + 6]) / 2 for i in range(6)]
    np.testing.assert_allclose(losses.ntxent(first, second, temperature), oracle, rtol=1e-5)
    labels = np.tile(np.arange(6), 2)
    published = optax.ntxent(np.concatenate([first, second]), labels, temperature)
    assert np.mean(oracle) == pytest.approx(float(published), rel=1e-4)


def test_equal_embeddings_cost_the_logarithm_of_the_others():
    same = np.ones((8, 4), np.float32)
    np.testing.assert_allclose(losses.ntxent(same, same, 0.1), math.log(15), rtol=1e-6)


def test_first_loss_is_that_of_equal_embeddings():
    objective = ntxent.make(tiny.Encoder())
    assert objective.first_loss(8) == pytest.approx(math.log(15))


def test_dense_loss_against_slow_loops():
    """DenseCL, equations 2 to 4, written as loops over images and places."""
    rng = np.random.default_rng(0)
    images, places, temperature = 3, 4, 0.3
    features, z = (rng.normal(size=(2, images, places, width)) for width in (5, 6))
    features, z = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (features, z))
    means = z.mean(2)
    means /= np.linalg.norm(means, axis=-1, keepdims=True)
    oracle = np.zeros(images)
    for view, other in ((0, 1), (1, 0)):
        for i in range(images):
            for s in range(places):
                similar = [features[view, i, s] @ features[other, i, t] for t in range(places)]
                partner = math.exp(z[view, i, s] @ z[other, i, int(np.argmax(similar))] / temperature)
                negatives = [math.exp(z[view, i, s] @ means[other, n] / temperature) for n in range(images) if n != i]
                oracle[i] -= math.log(partner / (partner + sum(negatives))) / (2 * places)
    scaled = [2.5 * x.astype(np.float32) for x in (*features, *z)]  # Lengths do not matter.
    np.testing.assert_allclose(losses.dense_ntxent(*scaled, temperature), oracle, rtol=1e-5)


def test_places_are_an_option():
    """Without it all is as before; with it a projector of its own learns, and images without a map are refused."""
    key, batch = jax.random.key(0), tiny.two_views()
    plain, mixed, dense = (ntxent.make(tiny.Encoder(), hidden=4, projection=3, dense=d) for d in (0.0, 0.25, 1.0))
    values = []
    for objective in (plain, mixed, dense):
        params, state, _ = objective.init(key, batch)
        value, (state, _) = objective.loss(params, state, {}, batch, key)
        values.append(float(value))
        assert ("dense" in params) == ("dense" in state) == (objective is not plain)
    assert values[1] == pytest.approx(0.75 * values[0] + 0.25 * values[2], rel=1e-5) and values[0] != values[2]
    assert mixed.first_loss(8) == pytest.approx(0.75 * math.log(15) + 0.25 * math.log(8))
    with refuses("conflict", "pretrain.options.dense"):
        ntxent.places_of({"tokens": np.zeros((1, 4, 2))})
    with refuses("out-of-range", "pretrain.options.temperature", "0"):
        ntxent.make(tiny.Encoder(), temperature=0.0)
    with refuses("out-of-range", "pretrain.options.dense", "1.5"):
        ntxent.make(tiny.Encoder(), dense=1.5)
