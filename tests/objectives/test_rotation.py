"""Rotation prediction: exact turns, the first loss, and what must not tell the answer."""

import math

import jax
import numpy as np
import pytest

from jaxssl.augment import views as augment
from jaxssl.objectives import rotation
from tests import tiny
from tests.refusals import refuses


def batch(size=16, side=4, seed=0):
    rng = np.random.default_rng(seed)
    return {"views": (rng.normal(size=(size, side, side, 1)).astype(np.float32),), "label": np.zeros(size, np.int32)}


def test_turns_are_exact():
    image = np.random.default_rng(0).normal(size=(8, 5, 5, 3)).astype(np.float32)
    turns = np.arange(8) % 4
    turned = rotation.rotate(image, turns)
    for b in range(8):
        np.testing.assert_array_equal(turned[b], np.rot90(image[b], turns[b]))


def test_the_first_loss_is_that_of_four_equal_guesses():
    objective = rotation.make(tiny.Encoder())
    params, state, target = objective.init(jax.random.key(0), batch())
    value, _ = objective.loss(params, state, target, batch(), jax.random.key(1))
    assert value == pytest.approx(math.log(4), rel=1e-6)
    assert objective.first_loss(64) == pytest.approx(math.log(4))


def test_the_answer_is_the_turn_that_was_made():
    """A head that reads one bright corner is always right; without it, each turn is as likely as any other."""
    objective = rotation.make(tiny.Encoder(width=4))
    image = np.zeros((400, 2, 2, 1), np.float32)
    image[:, 0, 0] = 1.0
    corner = batch() | {"views": (image,)}
    params, state, target = objective.init(jax.random.key(0), corner)
    params["encoder"]["linear"]["kernel"] = np.eye(4, dtype=np.float32)
    # Turned anticlockwise, the upper left corner goes to the lower left, the lower right and the upper right.
    kernel = np.zeros((4, 4), np.float32)
    kernel[[0, 2, 3, 1], [0, 1, 2, 3]] = 20.0
    params["head"]["linear"]["kernel"] = kernel
    value, (_, metrics) = objective.loss(params, state, target, corner, jax.random.key(1))
    assert metrics["accuracy"] == 1 and value < 0.01
    counts = np.bincount(np.asarray(metrics["features"]).argmax(1), minlength=4)
    assert np.abs(counts - 100).max() < 5 * math.sqrt(400 * 3 / 16)
    wrong = params | {"head": {"linear": params["head"]["linear"] | {"kernel": np.roll(kernel, 1, 1)}}}
    assert objective.loss(wrong, state, target, corner, jax.random.key(1))[1][1]["accuracy"] == 0


def test_crop_and_resampling_treat_all_four_sides_alike():
    """Views of white noise, where only a trace of the making could tell a turn: no side or axis differs in energy."""
    noise = np.random.default_rng(0).integers(0, 256, (4000, 12, 12, 1), np.uint8)
    view = augment.make(tiny.PIXELS, size=8, views=1, crop_area=(0.3, 1.0))
    (x,) = jax.jit(view)(jax.random.key(0), {"image": noise})["views"]
    x = np.asarray(x)[..., 0]
    edges = np.stack(
        [(x[:, 0] ** 2).mean(1), (x[:, -1] ** 2).mean(1), (x[:, :, 0] ** 2).mean(1), (x[:, :, -1] ** 2).mean(1)]
    )
    axes = np.stack([(x[:, 1:] * x[:, :-1]).mean((1, 2)), (x[:, :, 1:] * x[:, :, :-1]).mean((1, 2))])
    # Each is a mean over 4000 images of one number an image: they differ by less than five standard errors.
    for energy in (edges, axes):
        error = energy.std(1) / math.sqrt(4000)
        assert np.ptp(energy.mean(1)) < 5 * math.sqrt(2) * error.max()


def test_refuses_views_that_are_not_square():
    views = (np.zeros((2, 4, 6, 1), np.float32),)
    with refuses("mismatch", "pretrain.objective", "(4, 6)"):
        rotation.make(tiny.Encoder()).init(jax.random.key(0), batch() | {"views": views})
