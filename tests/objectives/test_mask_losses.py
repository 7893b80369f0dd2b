"""Dice and cross-entropy against NumPy, and what training changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import models, objectives
from jaxssl.models.decoder import UNetDecoder
from jaxssl.objectives import segmentation
from jaxssl.objectives.segmentation import UNKNOWN

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(3, 6, 5, 4))
MASK = RNG.choice([0, 1, 2, 3, UNKNOWN], (3, 6, 5)).astype(np.uint8)
P = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)


def test_losses_are_those_of_numpy():
    known = MASK != UNKNOWN
    nats = [-np.log(P[i, y, x, MASK[i, y, x]]) for i, y, x in np.argwhere(known)]
    np.testing.assert_allclose(segmentation.cross_entropy(LOGITS, MASK), np.mean(nats), rtol=1e-5)
    dice = []
    for c in (1, 2, 3):
        p, t = P[..., c][known], np.equal(MASK, c)[known]
        dice.append((2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1))
    np.testing.assert_allclose(segmentation.soft_dice(P, MASK), np.mean(dice), rtol=1e-5)


def test_unknown_pixels_have_no_gradient():
    def loss(logits):
        return segmentation.cross_entropy(logits, MASK) - segmentation.soft_dice(jax.nn.softmax(logits), MASK)

    gradient = np.abs(jax.grad(loss)(jnp.asarray(LOGITS))).max(-1)
    assert not gradient[MASK == UNKNOWN].any() and (gradient[MASK != UNKNOWN] > 0).all()
    nothing = jnp.full_like(MASK, UNKNOWN)
    assert segmentation.cross_entropy(LOGITS, nothing) == 0 and segmentation.soft_dice(P, nothing) == 1


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_a_frozen_encoder_has_no_gradient(frozen):
    encoder = models.make("resnet18", {"stem": "small", "dtype": jnp.float32}, {"width": 4, "stages": (1, 1)})
    objective = segmentation.make(encoder, UNetDecoder(4), frozen=frozen)
    batch = {"views": (jnp.asarray(RNG.normal(size=(2, 8, 8, 1)), jnp.float32),), "masks": (MASK[:2, :, :5],)}
    batch["masks"] = (jnp.asarray(RNG.integers(0, 4, (2, 8, 8)), jnp.uint8),)
    params, state, target = objective.init(jax.random.key(0), batch)
    assert {*params} == {*state} == {"encoder", "decoder"}
    # At first the last layer is 0, through which nothing reaches the layers below.
    params["decoder"]["linear"] = jax.tree.map(jnp.ones_like, params["decoder"]["linear"])
    params["decoder"]["linear"]["kernel"] *= jnp.arange(4.0)
    gradient = jax.jit(jax.grad(objective.loss, has_aux=True))
    of, (new, metrics) = gradient(params, state, target, batch, jax.random.key(1))
    assert all(jnp.abs(g).max() > 0 for g in jax.tree.leaves(of["decoder"]))
    moved = [bool(jnp.abs(g).max() > 0) for g in jax.tree.leaves(of["encoder"])]
    assert not any(moved) if frozen else all(moved)
    same = jax.tree.all(jax.tree.map(jnp.array_equal, new["encoder"], state["encoder"]))
    assert bool(same) == frozen and 0 <= metrics["dice"] <= 1


def test_it_is_no_objective_of_pretraining():
    assert "segmentation" not in objectives.available()
