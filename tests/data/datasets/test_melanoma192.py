"""Melanoma at 192 pixels on tiny files of the same layout."""

import numpy as np
import pytest

from jaxssl.data import splits
from jaxssl.data.datasets import melanoma192
from jaxssl.errors import UserError
from tests.data import layouts

COLUMNS = ["image_name", "patient_id", "sex", "age_approx", "anatom_site_general_challenge", "diagnosis"]
COLUMNS += ["benign_malignant", "target", "tfrecord", "width", "height"]


def row(i, target=None, tfrecord=None):
    target = int(i % 4 == 0) if target is None else target
    tfrecord = (-1 if i % 5 == 4 else i % 15) if tfrecord is None else tfrecord
    name = f"ISIC_{i:07d}"
    return [name, f"IP_{i // 2:07d}", "", "45.0", "torso", "unknown", "benign", target, tfrecord, 6000, 4000]


@pytest.fixture
def download(tmp_path):
    """Ten training images, of which 4 and 9 are duplicates, and two test images of one patient."""
    root = tmp_path / "download"
    for i in range(10):
        layouts.picture(root / "train" / f"ISIC_{i:07d}.jpg", 20 * i)
    for i in range(10, 12):
        layouts.picture(root / "test" / f"ISIC_{i:07d}.jpg")
    layouts.table(root / "train.csv", [COLUMNS, *map(row, range(10))])
    layouts.table(root / "test.csv", [COLUMNS[:5], *(row(i)[:5] for i in range(10, 12))])
    return root


def test_tiny_download(download):
    layouts.litter(download)
    got = layouts.load(melanoma192, download)
    kept = [0, 1, 2, 3, 5, 6, 7, 8, 10, 11]
    assert got.ids.tolist() == [f"ISIC_{i:07d}" for i in kept]
    assert got.groups.tolist() == [f"IP_{i // 2:07d}" for i in kept] and got.groups_known
    assert got.labels.tolist() == [-1 if i > 9 else int(i % 4 == 0) for i in kept]
    assert got.classes == ("benign", "malignant") and got.official is None
    shades = [20 * i if i < 10 else 0 for i in kept]
    assert all(abs(x.mean() - shade) < 3 for shade, x in zip(shades, got.images, strict=True))


def test_images_without_label_are_for_training_alone(download):
    got = layouts.load(melanoma192, download)
    for seed in range(3):
        parts = splits.split(got, seed=seed, validation=0, test=0.4)
        assert len(parts["test"]) and set(np.flatnonzero(got.labels < 0)) <= set(parts["train"])


def test_download_of_the_training_images_alone(download):
    for path in [*(download / "test").iterdir(), download / "test.csv"]:
        path.unlink()
    assert (layouts.load(melanoma192, download).labels >= 0).all()


@pytest.mark.parametrize(
    ("gone", "says"), [("test.csv", r"^test\.csv not found"), ("test/ISIC_0000011.jpg", "_0000011")]
)
def test_half_of_what_tells_of_the_test_images(download, gone, says):
    (download / gone).unlink()
    with pytest.raises(UserError, match=says):
        layouts.load(melanoma192, download)


def test_table_without_the_mark_of_duplicates(download):
    """As that of the competition itself is."""
    at = COLUMNS.index("tfrecord")
    layouts.table(download / "train.csv", [r[:at] for r in (COLUMNS, *map(row, range(10)))])
    with pytest.raises(UserError, match=r"train\.csv has no column 'tfrecord' among image_name, patient_id"):
        layouts.load(melanoma192, download)


def test_target_that_is_none(download):
    layouts.table(download / "train.csv", [COLUMNS, row(0), row(1, target=7)])
    with pytest.raises(UserError, match=r"train\.csv line 3: target is '7', not one of 0, 1"):
        layouts.load(melanoma192, download)
