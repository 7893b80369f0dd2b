"""Every objective on eight devices does what it does on one, however many of them share the parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import objectives
from jaxssl.models import autoencoder, vit
from jaxssl.objectives.distill import Teacher
from jaxssl.training import sharding
from tests import tiny

MADE = {
    "byol": {"hidden": 16, "projection": 8},
    "distill": {"on": "logits"},
    "inpaint": {"decoder_width": 4, "sides": (0.25, 0.5)},
    "mae": {"decoder_width": 8, "decoder_depth": 1, "decoder_heads": 2},
    "mutual": {},
    "ntxent": {"hidden": 16, "projection": 8},
    "pairs": {"hidden": 16, "projection": 8, "pairs_from": "labels"},
    "rotation": {},
    "supervised": {},
}
ENCODERS = {"inpaint": autoencoder.autoencoder(widths=(4, 8)), "mae": vit.vit_tiny(width=8, depth=1, heads=2, patch=4)}


def make_teacher():
    encoder = tiny.Encoder(5)
    variables = encoder.init(jax.random.key(3), jnp.zeros((1, 8, 8, 1)), train=False)
    head = {"linear": {"kernel": jax.random.normal(jax.random.key(4), (5, 3)), "bias": jnp.zeros(3)}}

    def apply(variables, image):
        return encoder.apply(variables, image, train=False)["pooled"]

    return Teacher("there", apply, variables, 1, head, ("a", "b", "c"), supervised=True)


def batch(views, size=16):
    rng = np.random.default_rng(1)
    images = tuple(rng.normal(size=(size, 8, 8, 1)).astype(np.float32) for _ in range(views))
    return {"views": images, "label": rng.integers(0, 3, size).astype(np.int32)}


@pytest.fixture
def quickly_compiled():
    """One step of each of so many programs is not worth optimising."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def close(a, b):
    # The order of sums differs, and so does what is left of large terms that nearly cancel.
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=max(1e-5, 1e-6 * np.abs(b).max(initial=0)))


# Those that take the longest to compile are slow tests.
SLOW = "distill", "inpaint", "mae", "mutual", "pairs"


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in objectives.available()],
)
def test_loss_gradients_and_statistics_are_those_of_one_device(name, monkeypatch, quickly_compiled):
    """The batch is the whole one for statistics, negatives and partners, and no parameter starts at 0 here."""
    monkeypatch.setattr(sharding, "MIN_SHARDED_SIZE", 1)
    context = {"classes": 3, "steps": 10, "teacher": make_teacher()}
    objective = objectives.make(name, ENCODERS.get(name, tiny.Encoder(8)), context, MADE[name])
    params, state, target = jax.jit(objective.init)(jax.random.key(0), batch(objective.views))
    params = jax.tree.map(lambda p: p + 0.3 * np.random.default_rng(p.size).normal(size=p.shape).astype("f"), params)
    found = []
    for shape in ((1, 1), (8, 1), (4, 2), (2, 4)):
        mesh = sharding.make_mesh(*shape)
        trees = jax.device_put((params, state, target), sharding.state_shardings(mesh, (params, state, target)))
        shared = sum(not p.is_fully_replicated for p in jax.tree.leaves(trees[0]))
        assert (shared > 0) == (shape[1] > 1)
        value_and_grad = jax.jit(jax.value_and_grad(objective.loss, has_aux=True))
        given = jax.device_put(batch(objective.views), sharding.batch_sharding(mesh))
        (value, (new, metrics)), gradient = value_and_grad(*trees, given, jax.random.key(1))
        found.append(jax.device_get((value, gradient, new, metrics)))
    for other in found[1:]:
        jax.tree.map(close, found[0], other)
