"""ISIC of nine classes on tiny files of the same layout, and on a real copy."""

import pytest

from jaxssl.data import splits
from jaxssl.data.datasets import isic9
from jaxssl.errors import UserError
from tests.data import layouts

OUTER = "Skin cancer ISIC The International Skin Imaging Collaboration"


@pytest.fixture
def download(tmp_path):
    """Four training images and one test image a class."""
    root = tmp_path / "download"
    for c, name in enumerate(isic9.DATASET.classes):
        for i in range(5):
            side = "Test" if i == 4 else "Train"
            layouts.picture(root / OUTER / side / name / f"ISIC_{100 * c + i:07d}.jpg", 10 * c)
    return root


def test_tiny_download(download, caplog):
    layouts.litter(download)
    got = layouts.load(isic9, download)
    assert layouts.counts(got, "train") == dict.fromkeys(isic9.DATASET.classes, 4)
    assert layouts.counts(got, "test") == dict.fromkeys(isic9.DATASET.classes, 1)
    assert got.ids[0] == "ISIC_0000000.jpg" and not got.groups_known and not caplog.text
    assert abs(got.images[-1].mean() - 80) < 3 and got.classes[got.labels[-1]] == "vascular lesion"


def test_no_image_is_kept_twice(download, caplog):
    train, test = download / OUTER / "Train", download / OUTER / "Test"
    layouts.picture(train / "nevus" / "ISIC_0000000.jpg")  # Also in Train, actinic keratosis.
    layouts.picture(train / "nevus" / "ISIC_0000004.jpg")  # Also in Test, actinic keratosis.
    layouts.picture(train / "actinic keratosis" / "ISIC_0000004.jpg")
    layouts.picture(train / "melanoma" / "ISIC_0000304.jpg")  # Also in Test, melanoma.
    layouts.picture(test / "nevus" / "ISIC_0000104.jpg")  # Also in Test, basal cell carcinoma.
    got = layouts.load(isic9, download)
    label = dict(zip(got.ids, (got.classes[c] for c in got.labels), strict=True))
    assert len(got.ids) == 45 - 2 and {"ISIC_0000000.jpg", "ISIC_0000104.jpg"}.isdisjoint(label)
    assert label["ISIC_0000004.jpg"] == "actinic keratosis" and label["ISIC_0000304.jpg"] == "melanoma"
    assert set(got.ids[got.official == "test"]) >= {"ISIC_0000004.jpg", "ISIC_0000304.jpg"}
    assert "left out 3 of the 38 images in Train" in caplog.text and "1 of the 9 images in Test" in caplog.text


def test_class_that_is_missing(download):
    for image in (download / OUTER / "Test" / "nevus").iterdir():
        image.unlink()
    with pytest.raises(UserError, match=r"^Test/nevus/ .*not found under .*skin-cancer9-classesisic from Kaggle"):
        layouts.load(isic9, download)


def test_real_copy(shared_data, tmp_path, caplog):
    got = isic9.load(manual_dir=str(shared_data / "isic9"), cache_dir=str(tmp_path), size=8)
    assert "left out 155 of the 2102 images in Train" in caplog.text
    # 357 and 114 less 77, and 438 and 77 less 78: of these, 15 and 3 are the other copies of test images.
    assert layouts.counts(got, "train") == {
        "actinic keratosis": 114 - 62,
        "basal cell carcinoma": 376,
        "dermatofibroma": 95,
        "melanoma": 438 - 78,
        "nevus": 357 - 77,
        "pigmented benign keratosis": 462,
        "seborrheic keratosis": 77 - 75,
        "squamous cell carcinoma": 181,
        "vascular lesion": 139,
    }
    few = {"seborrheic keratosis": 3, "vascular lesion": 3}
    assert layouts.counts(got, "test") == dict.fromkeys(isic9.DATASET.classes, 16) | few
    parts = splits.split(got, seed=0, validation=0.1, test=0.1)
    assert sum(map(len, parts.values())) == len(got.ids) == 2065 and len(parts["test"]) == 118
