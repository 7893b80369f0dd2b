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


def test_crops_show_lesions_more_often():
    """One pixel is of class 1 and a quarter of class 2: a crop shows a pixel of a class that is drawn first."""
    mask = np.zeros((400, SIDE, SIDE), np.uint8)
    mask[:, 16:, 16:] = 2
    mask[:, 3, 5] = 1
    mask[:50] = 0  # Empty: nothing to be placed on.
    mask[50:100] = 255
    image, options = np.zeros((400, SIDE, SIDE, 2), np.float32), {"crop_area": (0.05, 0.05), "crop_ratio": (1.0, 1.0)}
    shares = []
    for lesions in (0.0, 0.5, 1.0):
        augment = jax.jit(views.make(AS_STORED, size=16, views=1, crop_lesions=lesions, **options))
        (found,) = augment(jax.random.key(0), {"image": image, "mask": mask})["masks"]
        assert not found[:50].any() and (found[50:100] == 255).all()
        shares.append([float((found[100:] == kind).any((1, 2)).mean()) for kind in (1, 2)])
    without, half, always = np.array(shares)
    assert without[0] < 0.1 and abs(always[0] - 0.5) < 0.09 and always[1] > 0.45  # 300 images: 3 errors are .087.
    assert abs(half[0] - (without[0] + always[0]) / 2) < 0.09


def test_lesions_are_anywhere_in_their_crops():
    mask = np.zeros((300, SIDE, SIDE), np.uint8)
    mask[:, 15, 14] = 1
    options = {"crop_area": (0.25, 0.25), "crop_ratio": (1.0, 1.0), "crop_lesions": 1.0}
    augment = jax.jit(views.make(AS_STORED, size=SIDE // 2, views=1, **options))
    batch = augment(jax.random.key(0), {"image": COORDINATES[:1].repeat(300, 0), "mask": mask})
    (view,), (found,) = batch["views"], batch["masks"]
    rows, columns = np.array([np.argwhere(one)[0] for one in found]).T
    assert {*rows.tolist()} == {*range(16)} and {*columns.tolist()} == {*range(15)}  # As crops stay within the image.
    assert np.abs(np.asarray(view)[np.arange(300), rows, columns] - [15, 14]).max() <= 0.5 + 1e-4  # They moved as one.
