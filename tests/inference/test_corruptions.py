"""Corruptions of images against what they are by definition."""

import numpy as np
import pytest

from jaxssl.augment.views import Pixels
from jaxssl.inference.corruptions import CORRUPTIONS, corrupt

IMAGES = np.random.default_rng(0).integers(60, 180, (2, 112, 112, 3)).astype(np.uint8)
PIXELS = Pixels(0.0, 255.0, (0.5,), (0.25,))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_higher_severity_changes_an_image_more(name):
    changes = []
    for severity in (1, 5):
        changed = corrupt(IMAGES, name, severity, PIXELS)
        assert changed.dtype == np.uint8 and changed.shape == IMAGES.shape
        np.testing.assert_array_equal(changed, corrupt(IMAGES, name, severity, PIXELS))
        changes.append(np.abs(changed.astype(float) - IMAGES).mean())
    assert 0 < changes[0] < changes[1]


def test_strengths_are_those_of_imagenet_c():
    brighter = corrupt(IMAGES, "brightness", 1, PIXELS).astype(int)
    np.testing.assert_array_equal(brighter, np.rint(np.minimum(IMAGES / 255 + 0.1, 1) * 255))
    flatter = corrupt(IMAGES, "contrast", 1, PIXELS)
    assert flatter.std() == pytest.approx(0.4 * IMAGES.std(), rel=0.02)
    noise = corrupt(np.full((1, 200, 200, 1), 128, np.uint8), "noise", 1, PIXELS)
    assert noise.std() == pytest.approx(0.08 * 255, rel=0.02)


def test_a_blur_follows_the_size_of_the_image():
    # The variance of the image of a point is that of the Gaussian, 4 of 224 pixels at severity 4.
    point = np.zeros((1, 112, 112, 1), np.float32)
    point[0, 56, 56] = 1
    p = corrupt(point, "blur", 4, Pixels(0.0, 1.0, (0.5,), (0.25,)))[0, ..., 0].astype(float)
    place = np.arange(112) - 56
    assert (p.sum(0) @ place**2) / p.sum() == pytest.approx(2.0**2, rel=0.1)


def test_values_of_any_range_keep_it():
    images = IMAGES.astype(np.float32) * 10 - 500
    changed = corrupt(images, "jpeg", 1, Pixels(-500.0, 2050.0, (0.5,), (0.25,)))
    assert changed.dtype == np.float32 and np.abs(changed - images).max() < 2550 and changed.min() >= -500
