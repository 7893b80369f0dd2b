"""Losses against NumPy, closed forms and properties."""

import doctest
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl.objectives import losses


def test_regression_is_two_minus_two_cosines():
    rng = np.random.default_rng(0)
    p, z = rng.normal(size=(2, 5, 7)).astype(np.float32)
    oracle = [2 - 2 * p[i] @ z[i] / math.sqrt(p[i] @ p[i]) / math.sqrt(z[i] @ z[i]) for i in range(5)]
    np.testing.assert_allclose(losses.regression(p, z), oracle, rtol=1e-5)
    np.testing.assert_allclose(losses.regression(p, 3 * p), 0, atol=1e-6)
    np.testing.assert_allclose(losses.regression(p, -p), 4, rtol=1e-6)


def test_gradient_of_a_zero_vector_is_finite():
    gradient = jax.grad(lambda p: losses.regression(p, jnp.ones((1, 3))).sum())(jnp.zeros((1, 3)))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_against_a_slow_loop(smoothing):
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(6, 4)).astype(np.float32), np.array([0, 3, 1, -1, 2, 0])
    for i, value in enumerate(losses.cross_entropy(logits, labels, smoothing)):
        log_p = [logits[i, c] - math.log(sum(math.exp(v) for v in logits[i])) for c in range(4)]
        share = [smoothing / 4 + (1 - smoothing) * (c == labels[i]) for c in range(4)]
        oracle = -sum(s * p for s, p in zip(share, log_p, strict=True)) if labels[i] >= 0 else 0.0
        assert value == pytest.approx(oracle, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kl_divergence_against_a_slow_loop_and_optax(temperature):
    target, logits = np.random.default_rng(3).normal(scale=4, size=(2, 5, 4)).astype(np.float32)
    found = losses.kl_divergence(target, logits, temperature)
    for i, value in enumerate(found):
        p, q = ([math.exp(v / temperature) for v in row] for row in (target[i], logits[i]))
        oracle = sum(a / sum(p) * math.log(a / sum(p) / (b / sum(q))) for a, b in zip(p, q, strict=True))
        assert value == pytest.approx(temperature**2 * oracle, rel=1e-4)
    soft = jax.nn.softmax(target / temperature)
    published = optax.kl_divergence(jax.nn.log_softmax(logits / temperature), soft)
    np.testing.assert_allclose(found, temperature**2 * published, rtol=1e-4)
    np.testing.assert_allclose(losses.kl_divergence(target, target + 7, temperature), 0, atol=1e-5)


def test_kl_divergence_at_high_temperature_compares_centred_logits():
    """Hinton et al., equation 4: half the mean square of what is left of the difference without its mean."""
    target, logits = np.random.default_rng(4).normal(size=(2, 5, 4)).astype(np.float32)
    difference = target - logits
    limit = np.square(difference - difference.mean(1, keepdims=True)).mean(1) / 2
    np.testing.assert_allclose(losses.kl_divergence(target, logits, 40.0), limit, rtol=0.05)


def test_kl_divergence_at_low_temperature_compares_the_guesses():
    """What is left is by how much the target's guess falls short of the best."""
    target = np.array([[0.0, 3.0, 1.0], [0.0, 3.0, 1.0]], np.float32)
    logits = np.array([[1.0, 2.0, 4.0], [1.0, 4.0, 2.0]], np.float32)
    np.testing.assert_allclose(losses.kl_divergence(target, logits, 0.05) / 0.05, [2, 0], atol=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_gradient_of_kl_divergence_is_the_difference_of_the_predictions(temperature):
    target, logits = np.random.default_rng(5).normal(size=(2, 5, 4)).astype(np.float32)
    gradient = jax.grad(lambda x: losses.kl_divergence(target, x, temperature).sum())(logits)
    p, q = (np.exp(x / temperature) / np.exp(x / temperature).sum(1, keepdims=True) for x in (target, logits))
    np.testing.assert_allclose(gradient, temperature * (q - p), rtol=1e-4, atol=1e-5)


def test_accuracy_counts_those_whose_label_is_known():
    logits = np.eye(4, 3, dtype=np.float32)
    assert losses.accuracy(logits, np.array([0, 2, -1, 1])) == pytest.approx(1 / 3)
    assert losses.accuracy(logits, np.full(4, -1)) == 0


def test_uniform_logits_cost_the_logarithm_of_the_classes():
    np.testing.assert_allclose(losses.cross_entropy(np.zeros((2, 9)), np.array([4, 8])), math.log(9), rtol=1e-6)


def test_embedding_std_is_zero_when_collapsed_and_one_when_isotropic():
    isotropic = np.random.default_rng(2).normal(size=(4000, 16)).astype(np.float32)
    assert losses.embedding_std(isotropic) == pytest.approx(1, abs=0.02)
    assert losses.embedding_std(np.ones((50, 16), np.float32)) == pytest.approx(0, abs=1e-4)


def test_examples():
    assert doctest.testmod(losses).failed == 0
