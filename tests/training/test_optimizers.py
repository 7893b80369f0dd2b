"""LARS by hand, schedules by closed form, and what must not move."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl.training import optimizers

PARAMS = {"encoder": {"kernel": jnp.full((2, 3), 2.0), "bias": jnp.full(3, 2.0)}, "head": {"kernel": jnp.ones((3, 2))}}
GRADS = {
    "encoder": {"kernel": jnp.full((2, 3), 0.5), "bias": jnp.full(3, 0.5)},
    "head": {"kernel": jnp.full((3, 2), 3.0)},
}


def steps(tx, count, grads=GRADS):
    state, params = tx.init(PARAMS), PARAMS
    for _ in range(count):
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_lars_two_steps_by_hand():
    """You et al., equation 6: rate x 0.001 |w| / |g + wd w| x (g + wd w), with momentum; plain momentum for biases."""
    rate, decay, momentum = 0.1, 0.01, 0.9
    tx = optimizers.make("lars", learning_rate=rate, steps=10, decay="constant", weight_decay=decay, momentum=momentum)
    w, b, velocity_w, velocity_b = np.full((2, 3), 2.0), np.full(3, 2.0), 0.0, 0.0
    for _ in range(2):
        g = 0.5 + decay * w
        velocity_w = momentum * velocity_w + rate * 0.001 * np.linalg.norm(w) / np.linalg.norm(g) * g
        velocity_b = momentum * velocity_b + rate * np.full(3, 0.5)
        w, b = w - velocity_w, b - velocity_b
    # A schedule without warm-up starts at its peak.
    moved = steps(tx, 2)["encoder"]
    np.testing.assert_allclose(moved["kernel"], w, rtol=1e-6)
    np.testing.assert_allclose(moved["bias"], b, rtol=1e-6)


def test_schedule_warms_up_linearly_and_falls_along_a_cosine():
    rate = optimizers.schedule(2.0, steps=30, warmup_steps=10, decay="cosine")
    expected = [2 / 11, 12 / 11, 2.0, 1.0, 0.0]
    np.testing.assert_allclose([rate(s) for s in (0, 5, 10, 20, 30)], expected, atol=1e-6)
    both = [optimizers.schedule(2.0, 30, 10, decay) for decay in ("cosine", "constant")]
    np.testing.assert_allclose(*([of(s) for s in range(11)] for of in both), rtol=1e-6)
    constant = optimizers.schedule(2.0, steps=30, warmup_steps=0, decay="constant")
    np.testing.assert_allclose([constant(s) for s in (0, 29)], 2.0)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_decay_moves_kernels_but_no_bias(name):
    tx = optimizers.make(name, learning_rate=0.1, steps=10, weight_decay=0.1)
    still = jax.tree.map(jnp.zeros_like, GRADS)
    moved = steps(tx, 2, still)["encoder"]
    assert (moved["kernel"] < 2).all()
    np.testing.assert_array_equal(moved["bias"], 2)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_a_frozen_encoder_keeps_every_bit_under_decay_and_moves_afterwards(name):
    tx = optimizers.make(name, learning_rate=0.1, steps=10, weight_decay=0.1, frozen_steps=3)
    held, freed = steps(tx, 3), steps(tx, 4)
    jax.tree.map(np.testing.assert_array_equal, held["encoder"], PARAMS["encoder"])
    assert (held["head"]["kernel"] != 1).all()
    assert (freed["encoder"]["kernel"] != 2).all()


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_an_encoder_that_was_frozen_moves_as_a_new_one_does(name):
    """Its moments and their count begin when it is unfrozen, and the schedule goes on."""
    options = {"learning_rate": 0.1, "steps": 12, "decay": "cosine", "weight_decay": 0.1}
    frozen = optimizers.make(name, frozen_steps=4, **options)
    state, params = frozen.init(PARAMS), PARAMS
    for _ in range(6):
        updates, state = frozen.update(GRADS, state, params)
        params = optax.apply_updates(params, updates)
    rate = optimizers.schedule(0.1, 12, 0, "cosine")
    new = optimizers._chain(name, lambda count: rate(count + 4), 0.1, 0.9)
    state, expected = new.init(PARAMS["encoder"]), PARAMS["encoder"]
    for _ in range(2):
        updates, state = new.update(GRADS["encoder"], state, expected)
        expected = optax.apply_updates(expected, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params["encoder"], expected)
    head = steps(optimizers.make(name, **options), 6)["head"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params["head"], head)
