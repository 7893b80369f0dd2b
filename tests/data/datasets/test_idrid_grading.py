"""IDRiD grading on tiny files of the same layout, and on a real copy of a part."""

import pytest

from jaxssl.data.datasets import idrid_grading
from jaxssl.errors import UserError
from tests.data import layouts

SIDES = {
    "train": ("a. Training Set", "a. IDRiD_Disease Grading_Training Labels.csv"),
    "test": ("b. Testing Set", "b. IDRiD_Disease Grading_Testing Labels.csv"),
}
GRADES = {"train": (3, 0, 4, 1, 2, 0), "test": (0, 4, 2)}


def labels(root, side, grades):
    head = ["Image name", "Retinopathy grade", "Risk of macular edema "] + [""] * 9
    rows = [[f"IDRiD_{i:03d}", grade, 0] + [""] * 9 for i, grade in enumerate(grades, 1)]
    layouts.table(root / "B. Disease Grading" / "2. Groundtruths" / SIDES[side][1], [head, *rows])


@pytest.fixture
def download(tmp_path):
    """The grading part, and beside it the segmentation part with its ids of two digits."""
    root = tmp_path / "download"
    for side, grades in GRADES.items():
        for i in range(1, len(grades) + 1):
            shade = 10 * i + 100 * (side == "test")
            layouts.picture(
                root / "B. Disease Grading" / "1. Original Images" / SIDES[side][0] / f"IDRiD_{i:03d}.jpg", shade
            )
            layouts.picture(root / "A. Segmentation" / "1. Original Images" / SIDES[side][0] / f"IDRiD_{i:02d}.jpg")
        labels(root, side, grades)
    return root


def test_tiny_download(download):
    layouts.litter(download)
    got = layouts.load(idrid_grading, download)
    assert got.ids.tolist() == [
        f"{side}/IDRiD_{i:03d}" for side, n in (("test", 3), ("train", 6)) for i in range(1, n + 1)
    ]
    assert got.labels.tolist() == [*GRADES["test"], *GRADES["train"]] and got.classes == ("0", "1", "2", "3", "4")
    assert got.official.tolist() == ["test"] * 3 + ["train"] * 6 and not got.groups_known
    want = [110, 120, 130, 10, 20, 30, 40, 50, 60]
    assert all(abs(image.mean() - shade) < 3 for image, shade in zip(got.images, want, strict=True))


def test_grade_that_is_none(download):
    labels(download, "test", (0, 5, 2))
    with pytest.raises(UserError, match=r"Testing Labels\.csv line 3: Retinopathy grade is '5', not one of 0, 1"):
        layouts.load(idrid_grading, download)


def test_image_without_file(download, caplog):
    next(download.rglob("B.*/*/a. Training Set/IDRiD_002.jpg")).unlink()
    with pytest.raises(UserError, match=r"^image train/IDRiD_002 \(the first of 1, of 9 listed\) not found .*H25W98"):
        layouts.load(idrid_grading, download)
    got = layouts.load(idrid_grading, download, on_bad_file="skip")
    assert len(got.ids) == 8 and "test/IDRiD_002" in got.ids and "train/IDRiD_002" not in got.ids
    assert "image train/IDRiD_002 (the first of 1" in caplog.text


def test_real_copy(shared_data, tmp_path):
    kw = {"manual_dir": str(shared_data / "idrid"), "cache_dir": str(tmp_path), "size": 8}
    with pytest.raises(UserError, match=r"of 61, of 516 listed\) not found"):
        idrid_grading.load(**kw)
    got = idrid_grading.load(**kw, on_bad_file="skip")
    assert layouts.counts(got, "train") == {"0": 104, "1": 18, "2": 133, "3": 71, "4": 49}
    assert layouts.counts(got, "test") == {"0": 14, "1": 5, "2": 31, "3": 19, "4": 11}
