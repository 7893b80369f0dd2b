"""Augmentation against SciPy, closed forms and properties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, rotate

from jaxssl.augment import randaugment
from jaxssl.augment import views as augment
from jaxssl.training import sharding
from tests import tiny

UNIT = augment.Pixels(0.0, 255.0, (0.0,), (1.0,))
COLOUR = augment.Pixels(0.0, 255.0, (0.0,) * 3, (1.0,) * 3)


def views(batch, pixels=UNIT, key=0, size=8, count=2, **options):
    return jax.jit(augment.make(pixels, size=size, views=count, **options))(jax.random.key(key), batch)["views"]


def test_without_options_a_view_is_what_evaluation_sees():
    batch = tiny.batch(4, side=8)
    for view in views(batch, tiny.PIXELS):
        np.testing.assert_allclose(view, (batch["image"] / 255 - 0.5) / 0.25, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(view, augment.eval_transform(batch["image"], tiny.PIXELS, 8), rtol=1e-4, atol=1e-6)


def test_evaluation_shrinks_what_is_stored_larger():
    batch = tiny.batch(2, side=16)
    assert augment.eval_transform(batch["image"], UNIT, 8).shape == (2, 8, 8, 1)
    (view,) = views(batch, count=1)
    np.testing.assert_allclose(view, augment.eval_transform(batch["image"], UNIT, 8), rtol=1e-5)


def test_rotations_are_the_eight_symmetries_of_the_square():
    batch = tiny.batch(1, side=8)
    batch = {k: np.repeat(v, 400, 0) for k, v in batch.items()}
    image = batch["image"][0] / 255
    symmetries = [np.rot90(m, k) for m in (image, image[::-1]) for k in range(4)]
    (view,) = views(batch, count=1, rotate90=True)
    counts = [sum(np.allclose(v, s, atol=1e-6) for v in view) for s in symmetries]
    assert sum(counts) == 400 and min(counts) > 25


def test_a_crop_of_everything_is_the_image():
    x = np.random.default_rng(0).random((3, 8, 8, 2), np.float32)
    np.testing.assert_allclose(augment.resized_crop(jax.random.key(0), x, 8, (1.0, 1.0), (1.0, 1.0)), x, atol=1e-5)


def test_a_crop_shows_a_share_of_the_area_and_stays_inside():
    """On an image that holds its own coordinates, what a crop spans is seen from its values."""
    side = 64
    ramp = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1)[None].astype(np.float32)
    crops = augment.resized_crop(jax.random.key(1), np.repeat(ramp, 300, 0), 32, (0.25, 0.5), (0.75, 4 / 3))
    low, high = crops[:, 0, 0], crops[:, -1, -1]
    # The centres of the outermost pixels lie one output pixel less apart than the borders.
    sides = (high - low) * 32 / 31
    area = sides.prod(-1) / side**2
    ratio = sides[:, 1] / sides[:, 0]
    assert 0.24 < area.min() < 0.28 and 0.46 < area.max() < 0.52
    assert 0.74 < ratio.min() < 0.8 and 1.25 < ratio.max() < 1.36
    assert low.min() >= 0 and high.max() <= side - 1
    assert low[:, 0].std() > 5


def test_blur_is_a_gaussian_away_from_the_border():
    x = np.random.default_rng(2).random((3, 33, 33, 2)).astype(np.float32)
    sigma = np.array([0.5, 1.0, 2.0], np.float32)
    blurred = augment.gaussian_blur(x, sigma)
    for i in range(3):
        oracle = gaussian_filter(x[i].astype(np.float64), (sigma[i], sigma[i], 0), truncate=7)
        np.testing.assert_allclose(blurred[i, 14:19, 14:19], oracle[14:19, 14:19], atol=1e-4)
    np.testing.assert_allclose(augment.gaussian_blur(np.ones((1, 9, 9, 1), np.float32), sigma[2:]), 1, rtol=1e-5)


def test_jitter_of_no_strength_changes_nothing_and_of_some_keeps_colour_in_range():
    x = np.random.default_rng(3).random((5, 6, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(augment.jitter(jax.random.key(0), x, 0.0, 0.0, 0.0, 0.0), x, atol=1e-6)
    changed = augment.jitter(jax.random.key(0), x, 0.8, 0.8, 0.8, 0.2)
    assert changed.min() >= 0 and changed.max() <= 1
    assert np.abs(changed - x).mean(axis=(1, 2, 3)).min() > 0.01


def test_brightness_is_a_factor_within_its_strength():
    x = np.random.default_rng(4).random((500, 4, 4, 1)).astype(np.float32) + 0.1
    factor = (augment.jitter(jax.random.key(0), x, 0.4, 0.0, 0.0, 0.0) / x)[:, 0, 0, 0]
    assert 0.6 <= factor.min() < 0.65 and 1.35 < factor.max() <= 1.4


def test_each_view_has_its_own_probability_of_solarizing():
    batch = tiny.batch(64, side=8)
    first, second = views(batch, solarize_probability=(0.0, 1.0))
    x = batch["image"] / 255
    np.testing.assert_allclose(first, x, atol=1e-6)
    np.testing.assert_allclose(second, np.where(x < 0.5, x, 1 - x), atol=1e-6)


def test_grey_has_three_equal_channels():
    (view,) = views(tiny.batch(8, side=8, channels=3), COLOUR, count=1, grey_probability=1.0)
    np.testing.assert_array_equal(view[..., 0], view[..., 1])
    np.testing.assert_array_equal(view[..., 0], view[..., 2])


def halves(size, low, high):
    """Images of two values, so that noise and range are both plain to see."""
    x = np.full((size, 16, 16, 1), low, np.uint16)
    x[:, 8:] = high
    return {"image": x}


@pytest.mark.parametrize(("low", "high"), [(0, 50000), (20000, 20200)])
def test_noise_is_a_share_of_the_range_of_the_image_itself(low, high):
    (view,) = views(halves(400, low, high), augment.Pixels(0.0, 1.0, (0.0,), (1.0,)), count=1, size=16, noise=0.1)
    share = (np.asarray(view)[:, :8] - low).std(axis=(1, 2, 3)) / (high - low)
    # Uniform between 0 and the largest.
    assert 0 < share.min() < 0.005 and 0.09 < share.max() < 0.13
    assert share.mean() == pytest.approx(0.05, abs=0.006)


def test_noise_takes_the_range_over_all_channels_and_spares_an_image_of_one_value():
    x = np.zeros((200, 8, 8, 3), np.uint8)
    x[..., 2] = 200
    x[100:] = 77
    (view,) = views({"image": x}, COLOUR, count=1, noise=0.1)
    assert np.asarray(view)[:100, ..., 0].std(axis=(1, 2)).max() > 0.05
    np.testing.assert_allclose(view[100:], 77 / 255, rtol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"noise": 0.2},
        {"blur_probability": (1.0,)},
        {"rotation": 180.0},
        {"noise": 0.2, "blur_probability": (0.5,), "crop_area": (0.3, 1.0), "rotation": 30.0, "flip_vertical": True},
    ],
)
def test_a_view_of_a_scaled_and_shifted_image_is_scaled_and_shifted_likewise(options):
    x = np.random.default_rng(6).random((16, 8, 8, 2)).astype(np.float32)
    pixels = augment.Pixels(0.0, 1.0, (0.0, 0.0), (1.0, 1.0))
    (view,) = views({"image": x}, pixels, count=1, **options)
    assert np.abs(view - x).max() > 0.1
    for scale, shift in ((0.01, 0.0), (3.0, -1.0)):
        (other,) = views({"image": scale * x + shift}, pixels, count=1, **options)
        np.testing.assert_allclose((other - shift) / scale, view, atol=2e-4)


def angles(view, x):
    """The angle of each view of one image, in degrees: that of the nearest of SciPy's rotations, and how near it is."""
    tried = np.arange(-180, 180, 2.0)
    turned = [rotate(x, a, (0, 1), reshape=False, order=1, mode="reflect") for a in tried]
    distance = np.abs(np.asarray(view)[:, None] - np.stack(turned)).mean(axis=(2, 3, 4))
    return tried[distance.argmin(1)], distance.min(1)


@pytest.mark.parametrize("largest", [30.0, 180.0])
def test_each_image_is_turned_by_its_own_angle_up_to_the_largest(largest):
    smooth = gaussian_filter(np.random.default_rng(7).random((16, 16, 1)), (2, 2, 0)).astype(np.float32)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    batch = {"image": np.repeat(smooth[None], 300, 0)}
    (view,) = views(batch, augment.Pixels(0.0, 1.0, (0.0,), (1.0,)), count=1, size=16, rotation=largest)
    angle, distance = angles(view, smooth)
    assert distance.max() < 0.02
    assert -largest <= angle.min() < -0.9 * largest and 0.9 * largest < angle.max() <= largest
    assert abs(angle.mean()) < 4 * largest / np.sqrt(3 * 300)
    assert np.abs(angle).mean() == pytest.approx(largest / 2, rel=0.15)
    # Bilinear and reflected: nothing darker or brighter than the image comes in.
    assert view.min() >= 0 and view.max() <= 1 + 1e-6


def test_rotation_is_scipys_and_right_angles_are_exact():
    x = np.random.default_rng(8).random((6, 9, 9, 2)).astype(np.float32)
    degrees = np.array([0, 90, 180, -90, 37, -140], np.float32)
    y = randaugment.rotate(x, np.radians(degrees))
    np.testing.assert_array_equal(y[0], x[0])
    for i, quarters in ((1, 1), (2, 2), (3, 3)):
        np.testing.assert_allclose(y[i], np.rot90(x[i], quarters), atol=1e-5)
    for i in (4, 5):
        oracle = rotate(x[i].astype(float), degrees[i], (0, 1), reshape=False, order=1, mode="reflect")
        np.testing.assert_allclose(y[i], oracle, atol=1e-5)


def test_rotation_changes_no_draw_of_the_others():
    batch = halves(32, 0, 50)
    pixels = augment.Pixels(0.0, 100.0, (0.0,), (1.0,))
    options = {"count": 1, "size": 16, "flip_vertical": True, "noise": 0.1}
    (without,) = views(batch, pixels, **options)
    (turned,) = views(batch, pixels, rotation=1e-6, **options)
    np.testing.assert_allclose(turned, without, atol=1e-5)


def test_views_differ_between_images_views_and_keys_and_not_between_devices():
    batch = tiny.batch(16, side=8)
    batch["image"][:] = batch["image"][0]
    options = {"crop_area": (0.3, 0.8), "flip_horizontal": True, "noise": 0.1, "blur_probability": (0.5,)}
    options["rotation"] = 45.0
    first, second = views(batch, **options)
    assert len(np.unique(np.round(first, 5), axis=0)) == 16
    assert np.abs(first - second).max() > 0.1
    assert np.abs(first - views(batch, key=1, **options)[0]).max() > 0.1
    mesh = sharding.make_mesh(8, 1)
    sharded = views(jax.device_put(batch, sharding.batch_sharding(mesh)), **options)
    for one, eight in zip((first, second), sharded, strict=True):
        np.testing.assert_allclose(one, jax.device_get(eight), atol=1e-5)


def test_float_images_keep_values_above_one():
    batch = {"image": jnp.full((2, 8, 8, 1), 3.0)}
    (view,) = views(batch, augment.Pixels(0.0, 1.0, (0.0,), (1.0,)), count=1, jitter_probability=1.0)
    np.testing.assert_allclose(view, 3.0, rtol=1e-6)


@pytest.mark.parametrize("strength", [0.5, 8.0, 100.0])
def test_asinh_stretch_against_astropy(strength):
    visualization = pytest.importorskip("astropy.visualization", reason="astropy comes with the extra [fits]")
    stored = np.linspace(10, 30, 41, dtype=np.float32)[None, None, :, None]
    got = augment.to_unit(stored, augment.Pixels(10.0, 30.0, (0.0,), (1.0,), strength))
    want = visualization.AsinhStretch(1 / strength)(np.linspace(0, 1, 41))
    np.testing.assert_allclose(np.asarray(got).ravel(), want, atol=1e-6)
