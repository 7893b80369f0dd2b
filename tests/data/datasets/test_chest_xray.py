"""Chest x-rays on tiny files of the same layout, and on a real copy of a part."""

import shutil

import pytest

from jaxssl.data import splits
from jaxssl.data.datasets import chest_xray
from jaxssl.errors import UserError
from tests.data import layouts

FILES = {
    "train/NORMAL/IM-0115-0001.jpeg": "train/NORMAL/115",
    "train/NORMAL/IM-0429-0001-0002.jpeg": "train/NORMAL/429",
    "train/NORMAL/NORMAL2-IM-0429-0001.jpeg": "train/NORMAL/429",
    "train/PNEUMONIA/person115_bacteria_1.jpeg": "train/PNEUMONIA/115",
    "train/PNEUMONIA/person1946_virus_7.jpeg": "train/PNEUMONIA/1946",
    "val/NORMAL/NORMAL2-IM-0115-0001.jpeg": "train/NORMAL/115",
    "val/PNEUMONIA/person1946_bacteria_4875.jpeg": "train/PNEUMONIA/1946",
    "test/NORMAL/IM-0115-0001.jpeg": "test/NORMAL/115",
    "test/PNEUMONIA/person115_bacteria_1.jpeg": "test/PNEUMONIA/115",
}


@pytest.fixture
def download(tmp_path):
    for i, name in enumerate(sorted(FILES)):
        layouts.picture(tmp_path / "download" / "chest_xray" / name, 20 * i, mode="L")
    return tmp_path / "download"


def check_tiny(got, names):
    assert got.ids.tolist() == names and got.groups.tolist() == [FILES[name] for name in names] and got.groups_known
    assert got.official.tolist() == ["test" if name.startswith("test") else "train" for name in names]
    assert [got.classes[label] for label in got.labels] == [name.split("/")[1] for name in names]


def test_tiny_download(download):
    got = layouts.load(chest_xray, download)
    check_tiny(got, sorted(FILES))
    assert got.images.shape == (9, 8, 8, 1) and all(abs(x.mean() - 20 * i) < 3 for i, x in enumerate(got.images))
    parts = splits.split(got, seed=0, validation=0.3, test=0.3)
    assert [got.ids[i].split("/")[0] for i in parts["test"]] == ["test"] * 2 and len(parts["validation"])


def test_archive_that_holds_everything_twice(download):
    shutil.copytree(download / "chest_xray", download / "chest_xray" / "chest_xray")
    layouts.litter(download)
    check_tiny(layouts.load(chest_xray, download), sorted(FILES))


def test_nested_and_without_val(download):
    shutil.rmtree(download / "chest_xray" / "val")
    (download / "chest_xray").rename(download / "inner")
    (download / "chest_xray").mkdir()
    (download / "inner").rename(download / "chest_xray" / "chest_xray")
    check_tiny(layouts.load(chest_xray, download), sorted(name for name in FILES if not name.startswith("val")))


def test_files_that_are_missing_or_named_otherwise(download):
    layouts.picture(download / "chest_xray" / "train" / "NORMAL" / "person3_virus_1.jpeg", mode="L")
    with pytest.raises(UserError, match=r"train/NORMAL/person3_virus_1\.jpeg: no patient in the file's name"):
        layouts.load(chest_xray, download)
    shutil.rmtree(download / "chest_xray" / "test")
    with pytest.raises(UserError, match=r"^test/NORMAL/ .*not found under .*Mendeley rscbjbr9sj"):
        layouts.load(chest_xray, download)


def test_real_copy(shared_data, tmp_path):
    got = chest_xray.load(manual_dir=str(shared_data / "chest_xray"), cache_dir=str(tmp_path), size=8)
    assert layouts.counts(got, "train") == {"NORMAL": 354, "PNEUMONIA": 1022}
    assert layouts.counts(got, "test") == {"NORMAL": 234, "PNEUMONIA": 390}
    parts = splits.split(got, seed=0, validation=0.1, test=0.1)
    patients = {side: set(got.groups[rows]) for side, rows in parts.items()}
    assert sum(map(len, patients.values())) == len(set.union(*patients.values())) < len(got.ids)
    assert len(parts["test"]) == 624 and abs(len(parts["validation"]) - 0.1 * 1376) < 5
