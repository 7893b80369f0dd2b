"""MAE against NumPy, by gradients that must not be, and by its first loss."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.models import resnet, vit
from jaxssl.objectives import mae, with_online_probe
from tests.models.test_vit import block, dense, layer_norm, moved, patches_of, positions
from tests.refusals import refuses

ENCODER = vit.vit_tiny(width=8, depth=1, heads=2, patch=4)
DECODER = {"decoder_width": 12, "decoder_depth": 1, "decoder_heads": 3}
KEY = jax.random.key(5)


def batch(size=4, side=16, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.normal(0.3, 2.0, size=(size, side, side, channels)).astype(np.float32)
    return {"views": (images,), "label": rng.integers(0, 3, size).astype(np.int32)}


@functools.cache
def first(normalise=True):
    """An objective as it starts, with its compiled loss and gradient."""
    objective = mae.make(ENCODER, **DECODER, normalise_targets=normalise)
    value_and_grad = jax.jit(jax.value_and_grad(objective.loss, has_aux=True))
    return objective, value_and_grad, *jax.jit(objective.init)(jax.random.key(0), batch())


def made(normalise=True):
    """The same with parameters away from their start."""
    _, value_and_grad, params, state, target = first(normalise)
    return value_and_grad, moved(params), state, target


@jax.jit
def predict(params, state, images):
    return mae.predict(ENCODER, vit.Decoder(12, 1, 3), params, state, images, KEY, 0.75, train=True)


def masked_error(patches, mask, images, normalise):
    """The mean over masked patches of the mean squared error of each, patch by patch."""
    errors = []
    for said, hidden, picture in zip(np.asarray(patches, np.float64), mask, images, strict=True):
        for t, true in enumerate(patches_of(picture, 4)):
            if hidden[t]:
                goal = (true - true.mean()) / np.sqrt(true.var() + 1e-6) if normalise else true
                errors.append(np.mean((said[t] - goal) ** 2))
    return np.mean(errors)


@pytest.mark.parametrize("normalise", [True, False])
def test_loss_against_numpy(normalise):
    value_and_grad, params, state, target = made(normalise)
    (images,) = batch()["views"]
    said = predict(params, state, images)
    (value, (new, metrics)), _ = value_and_grad(params, state, target, batch(), KEY)
    assert value == pytest.approx(masked_error(said.patches, said.mask, images, normalise), rel=1e-4)
    assert new == state == {"encoder": {}}
    assert metrics["features"].shape == (4, 8)


def test_decoder_against_numpy():
    rng = np.random.default_rng(0)
    decoder = vit.Decoder(12, 2, 3)
    cls, tokens = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 8), (2, 2, 8)))
    place = np.array([[3, 1, 2, 0, 5, 4], [0, 5, 4, 3, 2, 1]])
    arguments = (cls, tokens, place, (2, 3), 7)
    patches, variables = jax.jit(lambda: decoder.init_with_output(jax.random.key(0), *arguments))()
    np.testing.assert_array_equal(patches, 0)
    params = moved(variables["params"])
    patches = jax.jit(lambda: decoder.apply({"params": params}, *arguments))()
    for b in range(2):
        x = np.tile(np.asarray(params["mask_token"][0], np.float64), (6, 1))
        for t, i in enumerate(place[b]):
            if i < 2:
                x[t] = dense(params["embed"], tokens[b, i])
        x = np.concatenate([dense(params["embed"], cls[b])[None], x + positions(2, 3, 12)])
        for i in range(2):
            x = block(params[f"blocks_{i}"], x, 3)
        x = dense(params["predict"], layer_norm(params["norm"], x))
        np.testing.assert_allclose(patches[b], x[1:], rtol=1e-3, atol=1e-4)


def test_the_network_cannot_see_masked_pixels():
    _, params, state, _ = made()
    (images,) = batch()["views"]
    mask = predict(params, state, images).mask

    def total(images):
        said = predict(params, state, images)
        return jnp.sin(said.patches).sum() + jnp.sin(said.pooled).sum()

    gradient = np.asarray(jax.jit(jax.grad(total))(images))
    assert mask.sum() == 4 * 12
    for b in range(4):
        for hidden, of_patch in zip(mask[b], patches_of(gradient[b], 4), strict=True):
            assert np.all(of_patch == 0) if hidden else np.all(of_patch != 0)


def test_the_loss_does_not_ask_for_visible_patches():
    """Its gradient by the prediction is 0 there: changing what is said of them changes nothing."""
    value_and_grad, params, state, target = made(normalise=False)
    (images,) = batch()["views"]
    said = predict(params, state, images)
    # The last bias is added to every patch: with errors e, the gradient by it is the sum of 2 e over the masked alone.
    _, gradient = value_and_grad(params, state, target, batch(), KEY)
    error = np.asarray(said.patches) - np.stack([patches_of(picture, 4) for picture in images])
    expected = 2 * error[np.asarray(said.mask)].sum(0) / (said.mask.sum() * 48)
    np.testing.assert_allclose(gradient["decoder"]["predict"]["bias"], expected, rtol=1e-3, atol=1e-5)


def test_the_first_loss_is_the_variance_of_the_targets():
    objective, value_and_grad, params, state, target = first()
    (value, _), _ = value_and_grad(params, state, target, batch(), KEY)
    assert value == pytest.approx(1.0, abs=1e-5) and objective.first_loss(64) == 1.0
    raw, value_and_grad, *_ = first(normalise=False)
    assert raw.first_loss is None
    (value, _), _ = value_and_grad(params, state, target, batch(), KEY)
    mask = predict(params, state, batch()["views"][0]).mask
    assert value == pytest.approx(masked_error(np.zeros((4, 16, 48)), mask, batch()["views"][0], False), rel=1e-5)


def test_patches_of_one_colour_cost_nothing_and_stay_finite():
    value_and_grad, params, state, target = made()
    flat = batch() | {"views": (np.full((4, 16, 16, 3), 0.7, np.float32),)}
    _, gradient = value_and_grad(params, state, target, flat, KEY)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
    (value, _), _ = value_and_grad(first()[2], state, target, flat, KEY)
    assert value == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("ratio", "visible"), [(0.75, 16), (0.6, 26), (0.999, 1), (0.001, 63)])
def test_masks_are_drawn_anew_for_each_image_at_the_ratio(ratio, visible):
    keep, place = map(np.asarray, mae.random_mask(KEY, 200, 64, ratio))
    assert keep.shape == (200, visible) and place.shape == (200, 64)
    np.testing.assert_array_equal(np.sort(place, axis=1), np.tile(np.arange(64), (200, 1)))
    for b in range(200):
        np.testing.assert_array_equal(place[b, keep[b]], np.arange(visible))
    # Each patch is as likely visible as any other: within five standard deviations of the binomial.
    share, seen = visible / 64, (place < visible).mean(0)
    assert np.abs(seen - share).max() < 5 * np.sqrt(share * (1 - share) / 200)
    assert len({tuple(np.sort(row)) for row in keep}) > 50


def test_reconstructions_are_in_the_scale_of_the_image():
    """Predictions get the moments of the true patch, and stand only where the mask is."""
    _, params, state, _ = made()
    (images,) = batch()["views"]
    options = DECODER | {"mask_ratio": 0.75}
    reconstruct = jax.jit(functools.partial(mae.reconstruct, ENCODER, **options), static_argnames="normalise_targets")
    drawn = reconstruct(params, state, images, KEY, normalise_targets=True)
    said = predict(params, state, images)
    for b in range(4):
        for t, true in enumerate(patches_of(images[b], 4)):
            r, c = 4 * (t // 4), 4 * (t % 4)
            square = (b, slice(r, r + 4), slice(c, c + 4))
            hidden = bool(said.mask[b, t])
            assert np.all(np.asarray(drawn["mask"])[square] == hidden)
            expected = np.asarray(said.patches)[b, t] * np.sqrt(true.var() + 1e-6) + true.mean() if hidden else true
            np.testing.assert_allclose(drawn["image"][square], expected.reshape(4, 4, 3), rtol=1e-4, atol=1e-4)
            np.testing.assert_array_equal(drawn["masked"][square], 0 if hidden else images[square])
    raw = reconstruct(params, state, images, KEY, normalise_targets=False)["image"]
    whole = vit.unpatchify(said.patches, 4, 16, 16)
    np.testing.assert_allclose(raw, np.where(drawn["mask"], whole, images), rtol=1e-4, atol=1e-5)


def test_a_few_steps_lower_the_loss_beside_a_probe():
    """Images that one number describes: what is visible tells what is masked."""
    objective = with_online_probe(mae.make(ENCODER, **DECODER, normalise_targets=False), 3)
    level = np.linspace(-2, 2, 16, dtype=np.float32)[:, None, None, None]
    data = {"views": (np.broadcast_to(level, (16, 8, 8, 1)),), "label": np.zeros(16, np.int32)}
    params, state, target = jax.jit(objective.init)(jax.random.key(0), data)
    step = jax.jit(jax.value_and_grad(objective.loss, has_aux=True))
    descend = jax.jit(lambda params, gradient: jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient))
    losses = []
    for i in range(30):
        (_, (state, metrics)), gradient = step(params, state, target, data, jax.random.key(i))
        params = descend(params, gradient)
        losses.append(metrics["loss"])
    assert losses[-1] < 0.2 * losses[0]


def test_refuses_an_encoder_without_patches_by_name():
    with refuses("mismatch", "model.name", "ResNet", "'vit_tiny'"):
        mae.make(resnet.resnet18())


@pytest.mark.parametrize(
    ("kw", "code", "field", "value"),
    [
        ({"mask_ratio": 1.0}, "out-of-range", "mask_ratio", "mask_ratio=1.0"),
        ({"mask_ratio": 0.0}, "out-of-range", "mask_ratio", "mask_ratio=0.0"),
        ({"decoder_heads": 5}, "conflict", "decoder_width", "decoder_heads=5"),
    ],
)
def test_refuses_options_out_of_range(kw, code, field, value):
    with refuses(code, f"pretrain.options.{field}", value):
        mae.make(ENCODER, **kw)


@pytest.mark.parametrize(("side", "mend"), [(18, "16"), (4, "8"), (3, "8")])
def test_refuses_images_that_do_not_divide_into_patches(side, mend):
    with refuses("mismatch", "data.image_size", f"={side} ", "model.options.patch=4", f"set data.image_size={mend}"):
        mae.make(ENCODER).init(jax.random.key(0), batch(side=side))
