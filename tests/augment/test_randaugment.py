"""RandAugment against torchvision's operations (tests/golden/make_randaugment.py), SciPy, closed forms, properties."""

from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.ndimage import affine_transform

from jaxssl.augment import randaugment, views
from jaxssl.training import sharding
from tests import tiny

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden/randaugment.npz"))
OPERATIONS = randaugment.OPERATIONS
ONE_WAY = ("identity", "solarize", "posterize", "autocontrast", "equalize")
GEOMETRIC = ("identity", "rotate", "shear_x", "shear_y", "translate_x", "translate_y")
apply = jax.jit(randaugment.apply, static_argnames="magnitude")


def images(size=4, side=20, channels=3, seed=0):
    return np.random.default_rng(seed).random((size, side, side, channels)).astype(np.float32)


def changed(x, name, sign=1, magnitude=9.0):
    operation = np.full(len(x), OPERATIONS.index(name))
    return np.asarray(apply(x, operation, np.full(len(x), sign, np.float32), magnitude=magnitude))


@pytest.mark.parametrize("case", [k for k in GOLDEN if k != "image" and not k.endswith("_inside")])
def test_each_operation_is_torchvisions(case):
    """To rounding: far closer than the 1/255 of one level, on 8-bit values, where the source is inside the image."""
    name, sign = case.rsplit("_", 1)
    expected = GOLDEN[case]
    x = GOLDEN["image"][None, ..., : expected.shape[-1]].astype(np.float32) / 255
    if expected.dtype == np.uint8:
        expected = expected / 255
    inside = GOLDEN.get(f"{case}_inside", np.ones(x.shape[1:3], bool))
    assert inside.mean() > 0.5 and np.abs(expected - x[0])[inside].max() > 0.05
    y = changed(x, name, 1 if sign == "plus" else -1)[0]
    np.testing.assert_allclose(y[inside], expected[inside], atol=1e-5)


def test_the_golden_cases_are_all_operations_but_the_one_that_does_nothing():
    assert {k.rsplit("_", 1)[0] for k in GOLDEN if k.endswith(("plus", "minus"))} == set(OPERATIONS) - {"identity"}


def test_affine_is_scipys_with_reflection():
    rng = np.random.default_rng(1)
    x = rng.random((6, 9, 14, 2)).astype(np.float32)
    linear = (np.eye(2) + rng.normal(0, 1, (6, 2, 2))).astype(np.float32)
    shift = rng.normal(0, 15, (6, 2)).astype(np.float32)
    y = jax.jit(randaugment.affine)(x, linear, shift)
    centre = np.array([4, 6.5])
    for i in range(6):
        offset = centre + shift[i] - linear[i] @ centre
        for c in range(2):
            oracle = affine_transform(x[i, ..., c].astype(float), linear[i], offset, order=1, mode="reflect")
            np.testing.assert_allclose(y[i, ..., c], oracle, atol=1e-4)


def test_moves_about_nothing_are_the_identity_and_moves_about_something_stay_in_the_range():
    x = 0.2 + 0.5 * images()
    np.testing.assert_array_equal(changed(x, "identity"), x)
    for name in GEOMETRIC[1:]:
        np.testing.assert_array_equal(changed(x, name, magnitude=0.0), x)
        y = changed(x, name)
        assert x.min() - 1e-6 <= y.min() and y.max() <= x.max() + 1e-6
        assert np.abs(y - x).mean() > 0.01
        # No corner is of a colour that the image has not: a constant one stays constant.
        np.testing.assert_allclose(changed(np.full_like(x, 0.7), name), 0.7, rtol=1e-6)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("magnitude", [0.0, 10.0])
def test_every_operation_stays_in_the_unit_interval(name, magnitude):
    x = np.concatenate([images(2), np.zeros((1, 20, 20, 3)), np.ones((1, 20, 20, 3))]).astype(np.float32)
    y = changed(x, name, -1, magnitude)
    assert np.isfinite(y).all() and y.min() >= 0 and y.max() <= 1 + 1e-6


def test_equalize_makes_levels_equally_frequent_in_each_channel():
    x = images(2, 64) ** np.array([1, 1.5, 2], np.float32)
    quarters = np.array([0.25, 0.5, 0.75])
    assert np.abs(np.quantile(x[..., 2], quarters, axis=(1, 2)) - quarters[:, None]).max() > 0.15
    y = jax.jit(randaugment.equalize)(x)
    np.testing.assert_allclose(
        np.quantile(y, quarters, axis=(1, 2)), np.broadcast_to(quarters[:, None, None], (3, 2, 3)), atol=0.04
    )


def drawn(x, count, operations):
    """One image, augmented so many times, and its mean distance to each of the images in `x`."""
    repeated = np.repeat(x[:1], count, 0)
    y = jax.jit(randaugment.randaugment, static_argnums=(2, 3))(jax.random.key(1), repeated, operations, 9.0)
    return np.abs(np.asarray(y)[:, None] - x).mean(axis=(2, 3, 4))


def each_way(x):
    """Each image after every operation in every direction: [ways * B, H, W, C], names and shares expected."""
    ways = [(o, sign) for o in OPERATIONS for sign in ((1,) if o in ONE_WAY else (1, -1))]
    operation = np.repeat([OPERATIONS.index(o) for o, _ in ways], len(x))
    sign = np.repeat([sign for _, sign in ways], len(x)).astype(np.float32)
    shares = [1 / 14 if o in ONE_WAY else 1 / 28 for o, _ in ways]
    return np.asarray(apply(np.tile(x, (len(ways), 1, 1, 1)), operation, sign, magnitude=9.0)), np.array(shares)


def test_each_image_has_its_own_operation_and_all_occur_in_both_directions():
    ways, shares = each_way(images(1, 18))
    distance = drawn(ways, 1000, 1)
    assert distance.min(1).max() < 1e-5
    seen = np.bincount(distance.argmin(1), minlength=len(ways))
    assert (np.abs(seen - 1000 * shares) < 4 * np.sqrt(1000 * shares)).all()


def test_two_operations_are_one_after_the_other():
    ways, _ = each_way(images(1, 18))
    twice, _ = each_way(ways)
    # Where rounding falls the other way, a pixel is one level off.
    distance = drawn(twice, 100, 2)
    assert distance.min(1).max() < 1e-3
    assert len(np.unique(distance.argmin(1))) > 70


def test_images_of_other_than_three_channels_go_without_colour_alone():
    x = np.repeat(images(1, 18, 5), 500, 0)
    y = jax.jit(randaugment.randaugment, static_argnums=(2, 3))(jax.random.key(0), x, 1, 9.0)
    assert y.shape == x.shape
    kept = (np.abs(y - x).max(axis=(1, 2, 3)) < 1e-6).mean()
    assert kept == pytest.approx(1 / 13, abs=0.035)


def test_a_channel_of_one_value_stays():
    x = images()
    x[..., 1] = 0.3
    for name, atol in (("autocontrast", 0), ("equalize", 1 / 500)):
        np.testing.assert_allclose(changed(x, name)[..., 1], x[..., 1], atol=atol)


def test_one_device_and_eight_draw_alike_and_another_key_otherwise():
    batch = tiny.batch(16, side=18)
    # Scaled so that values leave [0, 1], to which they are clipped.
    pixels = views.Pixels(30.0, 200.0, (0.0,), (1.0,))
    view = jax.jit(views.make(pixels, size=18, views=1, randaugment_operations=2))
    (one,) = view(jax.random.key(0), batch)["views"]
    assert one.min() >= 0 and one.max() <= 1
    sharded = jax.device_put(batch, sharding.batch_sharding(sharding.make_mesh(8, 1)))
    (eight,) = view(jax.random.key(0), sharded)["views"]
    np.testing.assert_allclose(one, jax.device_get(eight), atol=1e-5)
    np.testing.assert_array_equal(one, view(jax.random.key(0), batch)["views"][0])
    (other,) = view(jax.random.key(1), batch)["views"]
    assert (np.abs(one - other).max(axis=(1, 2, 3)) > 1e-3).sum() > 8
