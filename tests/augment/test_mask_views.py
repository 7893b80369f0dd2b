"""Masks move with their images: the image holds the coordinates of its own pixels, which tell where each came from."""

import jax
import numpy as np
import pytest

from jaxssl.augment import views

SIDE, IMAGES = 32, 6
RNG = np.random.default_rng(0)
MASK = RNG.integers(0, 4, (IMAGES, SIDE, SIDE)).astype(np.uint8)
PLACE = np.stack(np.mgrid[:SIDE, :SIDE], axis=-1).astype(np.float32)
COORDINATES = np.broadcast_to(PLACE, (IMAGES, SIDE, SIDE, 2))
AS_STORED = views.Pixels(0.0, 1.0, (0.0, 0.0), (1.0, 1.0))


def move(size, count=2, **options):
    """Return the views, as coordinates, and the masks of each."""
    augment = jax.jit(views.make(AS_STORED, size=size, views=count, **options))
    batch = augment(jax.random.key(1), {"image": COORDINATES, "mask": MASK})
    return [np.asarray(view) for view in batch["views"]], [np.asarray(mask) for mask in batch["masks"]]


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (24, {"crop_area": (0.2, 0.9), "rotate90": True}),
        (32, {"rotation": 180.0, "flip_horizontal": True}),
        pytest.param(32, {"rotate90": True}, marks=pytest.mark.slow),
        pytest.param(40, {"crop_area": (0.1, 0.5), "flip_vertical": True}, marks=pytest.mark.slow),
    ],
)
def test_each_pixel_has_the_class_of_where_it_came_from(size, options):
    for view, mask in zip(*move(size, **options), strict=True):
        assert mask.shape == (IMAGES, size, size) and mask.dtype == np.uint8
        row, column = np.moveaxis(view, -1, 0)
        nearest = np.rint(view).astype(int)
        # Half way between two pixels either is right, and at the edge of the image coordinates are not linear.
        sure = (np.abs(view - nearest) < 0.49).all(-1)
        sure &= (row > 1) & (row < SIDE - 2) & (column > 1) & (column < SIDE - 2)
        assert sure.mean() > 0.5
        image = np.arange(IMAGES)[:, None, None]
        np.testing.assert_array_equal(mask[sure], MASK[image, nearest[..., 0] % SIDE, nearest[..., 1] % SIDE][sure])
        assert len(np.unique(view.reshape(IMAGES, -1), axis=0)) > 1  # The images moved differently.


def test_colour_leaves_masks_as_they_are():
    (_,), (mask,) = move(SIDE, 1, noise=0.5, blur_probability=(1.0,), jitter_probability=1.0, brightness=0.5)
    np.testing.assert_array_equal(mask, MASK)


def test_views_are_the_same_with_and_without_masks():
    augment = jax.jit(views.make(AS_STORED, size=24, views=1, crop_area=(0.2, 0.9), rotate90=True, noise=0.1))
    with_mask, without = (
        augment(jax.random.key(1), batch)["views"][0]
        for batch in ({"image": COORDINATES, "mask": MASK}, {"image": COORDINATES})
    )
    np.testing.assert_array_equal(with_mask, without)
