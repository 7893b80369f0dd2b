"""What the audit says of scale and shape."""

import numpy as np
import pytest
from PIL import Image

from jaxssl.data import source
from jaxssl.data.audit import items
from jaxssl.data.audit.report import audit_files, audit_source

RNG = np.random.default_rng(0)


def make(highs, classes=("a", "b"), labels=None, dtype=np.float32):
    images = np.stack([RNG.random((16, 16, 1)) * high for high in highs]).astype(dtype)
    for image, high in zip(images, highs, strict=True):
        image[0, 0] = high
    labels = np.arange(len(highs)) % len(classes) if labels is None else labels
    return source.make(images, labels, [f"i{k:03d}" for k in range(len(highs))], classes)


def found(*args, **kw):
    lines = audit_source(make(*args, **kw))["findings"]
    return next((line for line in lines if line.startswith("images differ in scale")), "")


@pytest.mark.parametrize(
    ("highs", "says"),
    [
        ([1023] * 2 + [4095] * 6 + [65535] * 2, "1,023 (2, such as i000), 4,095 (6, such as i002), 65,535 (2"),
        ([1.0] * 5 + [255.0] * 5, "1 (5, such as i000), 255 (5"),
        ([0.998, 0.97, 0.99, 1.0, 254, 255, 250, 253], "1 (4"),
        ([4095] * 9 + [65535], "65,535 (1"),
    ],
)
def test_scales_that_leave_a_gap(highs, says):
    assert says in found(highs)


@pytest.mark.parametrize(
    "highs",
    [
        [255] * 8,
        [40, *[255] * 9],  # One dark image.
        [80, 82, 90, *[4000] * 9],  # Dark images, far from a full scale.
        list(np.linspace(200, 4095, 30)),
        [700, 900, 1500, 2500, 4095],
    ],
)
def test_dark_images_are_no_scale(highs):
    assert not found(highs)


def test_scale_that_goes_with_the_class():
    assert "goes with the class" in found([1.0] * 4 + [255.0] * 4, labels=[0] * 4 + [1] * 4)
    assert "goes with the class" not in found([1.0] * 4 + [255.0] * 4)


def test_share_that_crop_would_lose(tmp_path):
    for i, size in enumerate([(32, 32), (30, 32), (32, 16), (10, 40)]):
        place = tmp_path / "ab"[i % 2] / f"{i}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, size, np.uint8)).save(place)
    report = audit_files(items.list_folder(str(tmp_path)))
    assert report["not_square"] == {
        "images": 3,
        "over_tenth": 2,
        "mean_share": pytest.approx((0.0625 + 0.5 + 0.75) / 3, abs=1e-3),
    }
    assert any("not square: 3 of 4" in line for line in report["findings"])
