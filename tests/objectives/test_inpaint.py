"""Inpainting: its holes, its loss against NumPy, what it cannot see, and which encoders serve."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.models import autoencoder, resnet, vit
from jaxssl.objectives import inpaint
from tests.refusals import refuses

ENCODER = autoencoder.autoencoder(widths=(3, 4))
KW = {"decoder_width": 3, "sides": (0.25, 0.5)}
KEY = jax.random.key(5)


def batch(size=4, side=8, channels=2):
    rng = np.random.default_rng(0)
    return {"views": (rng.normal(0.3, 2.0, (size, side, side, channels)).astype(np.float32),)}


@functools.cache
def made(encoder=ENCODER, on="hole"):
    """An objective, its loss compiled, and parameters whose decoder no longer says 0."""
    objective = inpaint.make(encoder, **KW, on=on)
    objective = objective._replace(loss=jax.jit(objective.loss))
    params, state, target = jax.jit(objective.init)(jax.random.key(0), batch())
    kernel = params["decoder"]["image"]["kernel"]
    params["decoder"]["image"]["kernel"] = kernel + 0.3 * jax.random.normal(KEY, kernel.shape)
    return objective, params, state, target


def holes_of(kw=KW, size=4):
    return np.asarray(inpaint.random_holes(KEY, (size, 8, 8, 2), kw["sides"], kw.get("holes", 1)))


@pytest.mark.parametrize("shape", [(3000, 96, 96, 3), (3000, 20, 40, 1)])
def test_holes_are_rectangles_of_every_size_and_place(shape):
    sides = (5 / 96, 29 / 96)
    hole = np.asarray(inpaint.random_holes(KEY, shape, sides, 1))[..., 0]
    spans = []
    for axis, length in ((1, shape[1]), (2, shape[2])):
        line = hole.any(3 - axis)
        size, first = line.sum(1), line.argmax(1)
        last = length - 1 - line[:, ::-1].argmax(1)
        np.testing.assert_array_equal(last - first + 1, size)
        low, high = max(1, round(5 / 96 * length)), round(29 / 96 * length)
        assert set(size) == set(range(low, high + 1))
        counts = np.bincount(size)[low:]
        expected = 3000 / (high - low + 1)
        assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
        assert first.min() == 0 and last.max() == length - 1
        spans.append(size)
    np.testing.assert_array_equal(hole.sum((1, 2)), spans[0] * spans[1])
    assert abs(np.corrcoef(*spans)[0, 1]) < 0.1


def test_more_holes_cover_what_each_covers():
    one, three = (np.asarray(inpaint.random_holes(KEY, (500, 32, 32, 1), (0.2, 0.3), n)).mean() for n in (1, 3))
    assert one < three < 3 * one


@pytest.mark.parametrize("on", ["hole", "image"])
def test_loss_against_numpy(on):
    objective, params, state, target = made(on=on)
    (image,) = batch()["views"]
    hole = holes_of()

    @jax.jit
    def fill(params, seen):
        out = ENCODER.apply({"params": params["encoder"]}, seen, train=False)
        return autoencoder.Decoder(3).apply({"params": params["decoder"]}, out["map"], (8, 8, 2))

    picture = fill(params, image * ~hole)
    error = (np.asarray(picture, np.float64) - image) ** 2
    expected = np.mean([error[b][hole[b, ..., 0]].mean() if on == "hole" else error[b].mean() for b in range(4)])
    value, (new, metrics) = objective.loss(params, state, target, batch(), KEY)
    assert value == pytest.approx(expected, rel=1e-4)
    assert new == {"encoder": {}} and metrics["features"].shape == (4, 4)


def test_the_first_prediction_is_zero():
    objective, params, state, target = made(on="image")
    params = jax.jit(objective.init)(jax.random.key(0), batch())[0]
    value, _ = objective.loss(params, state, target, batch(), KEY)
    assert value == pytest.approx((batch()["views"][0] ** 2).mean(), rel=1e-5)
    assert objective.first_loss is None


def test_the_network_cannot_see_the_hole():
    _, params, state, _ = made()
    (image,) = batch()["views"]
    hole = holes_of()

    def total(image):
        filled, pooled, _ = inpaint.fill(ENCODER, autoencoder.Decoder(3), params, state, image, hole, train=True)
        return jnp.sin(filled).sum() + jnp.sin(pooled).sum()

    gradient = np.asarray(jax.jit(jax.grad(total))(image))
    inside = np.broadcast_to(hole, image.shape)
    np.testing.assert_array_equal(gradient[inside], 0)
    assert (gradient[~inside] != 0).mean() > 0.9


def test_reconstructions_stand_in_the_holes_alone():
    _, params, state, _ = made()
    (images,) = batch()["views"]
    kw = {name: KW[name] for name in ("sides", "decoder_width")} | {"holes": 1, "on": "hole"}
    drawn = jax.jit(functools.partial(inpaint.reconstruct, ENCODER, **kw))(params, state, images, KEY)
    hole = holes_of()
    fill = functools.partial(inpaint.fill, ENCODER, autoencoder.Decoder(3), train=False)
    said, _, _ = jax.jit(fill)(params, state, images, hole)
    np.testing.assert_array_equal(drawn["mask"], hole)
    np.testing.assert_array_equal(drawn["masked"], np.where(hole, 0, images))
    np.testing.assert_allclose(drawn["image"], np.where(hole, said, images), rtol=1e-5, atol=1e-6)


def test_each_step_has_its_own_holes():
    objective, params, state, target = made()
    values = {float(objective.loss(params, state, target, batch(), jax.random.key(i))[0]) for i in range(3)}
    assert len(values) == 3


def test_serves_a_resnet():
    encoder = resnet.resnet18(stages=(1,), width=4, stem="small")
    objective, params, state, target = made(encoder)
    gradient, (new, metrics) = jax.jit(jax.grad(objective.loss, has_aux=True))(params, state, target, batch(), KEY)
    assert metrics["features"].shape == (4, 4)
    assert np.abs(gradient["encoder"]["conv1"]["kernel"]).max() > 0
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), new, state)
    assert max(jax.tree.leaves(moved)) > 0


def test_refuses_an_encoder_without_a_map_by_name():
    encoder = vit.vit_tiny(width=8, depth=1, heads=2, patch=4)
    with refuses("mismatch", "model.name", "ViT"):
        inpaint.make(encoder, **KW).init(jax.random.key(0), batch())


@pytest.mark.parametrize(
    ("kw", "code", "value"),
    [
        ({"on": "hole_only"}, "unknown-name", "'hole_only'"),
        ({"holes": 0}, "out-of-range", "0"),
        ({"sides": (0.5, 0.2)}, "out-of-range", "(0.5, 0.2)"),
        ({"sides": (0.0, 0.2)}, "out-of-range", "(0.0, 0.2)"),
    ],
)
def test_refuses_options_out_of_range(kw, code, value):
    with refuses(code, f"pretrain.options.{next(iter(kw))}", value):
        inpaint.make(ENCODER, **KW | kw)
