"""NT-Xent against a slow oracle, optax and a closed form."""

import math

import numpy as np
import optax
import pytest

from jaxssl.objectives import losses, ntxent
from tests import tiny


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
