"""HAM10000 on tiny files of the same layout, and on a real copy."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxssl import data
from jaxssl.data import prepared, splits
from jaxssl.data.datasets import ham10000
from jaxssl.errors import UserError
from tests.data import layouts
from tests.refusals import refuses

COLUMNS = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]
ROWS = [
    (f"HAM_{i // 2:07d}", f"ISIC_{24306 + i:07d}", ham10000.DATASET.classes[i % 7], "histo", "80.0", "male", "back")
    for i in range(14)
]


def jpeg(path, shade, size=(60, 45)):
    layouts.picture(path, (shade, 2 * shade, 100), size=size, quality=95)


def metadata(path, rows=ROWS, tab=False):
    layouts.table(path, [COLUMNS, *rows], **({"delimiter": "\t", "quoting": csv.QUOTE_ALL} if tab else {}))


@pytest.fixture
def download(tmp_path):
    root = tmp_path / "download"
    for i, row in enumerate(ROWS):
        jpeg(root / f"HAM10000_images_part_{1 + i // 7}" / f"{row[1]}.jpg", 8 * i)
    metadata(root / "HAM10000_metadata.csv")
    return root


def load(download, cache="cache", **kw):
    return ham10000.load(
        manual_dir=str(download), cache_dir=str(download.parent / cache), **({"size": 16, "fit": "crop"} | kw)
    )


def test_the_cache_may_stand_in_the_home_folder(download, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(download)
    given = {"seed": 0, "dir": "", "manual_dir": str(download), "size": 16, "on_bad_file": "stop", "nan": "refuse"}
    data.load("ham10000", cache_dir="~/cache", options={}, **given)
    assert not Path("~").exists() and len(records(tmp_path / "home" / "download")) == 1


def records(download, cache="cache"):
    return sorted((download.parent / cache).rglob("*.array_record*"))


def check_tiny(got):
    order = np.argsort([row[1] for row in ROWS])
    assert got.ids.tolist() == [ROWS[i][1] for i in order]
    assert got.groups.tolist() == [ROWS[i][0] for i in order] and got.groups_known
    assert [got.classes[label] for label in got.labels] == [ROWS[i][2] for i in order]
    want = np.array([[8 * i, 16 * i, 100] for i in order])
    assert np.abs(got.images.mean((1, 2)) - want).max() < 4


def test_tiny_download(download):
    got = load(download)
    check_tiny(got)
    assert got.images.shape == (14, 16, 16, 3) and got.images.dtype == np.uint8
    assert got.classes == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc") and got.official is None


def test_is_silent_and_prepares_once(download, capfd):
    first = load(download)
    (record,) = records(download)
    stamp = record.stat().st_mtime_ns
    second = load(download)
    assert capfd.readouterr() == ("", "")
    assert records(download) == [record] and record.stat().st_mtime_ns == stamp
    assert first.fingerprint == second.fingerprint


def test_changed_download_is_prepared_again(download):
    load(download)
    jpeg(next(download.rglob("ISIC_0024306.jpg")), 77, size=(90, 90))
    got = load(download)
    assert len(records(download)) == 2 and np.abs(got.images[0].mean((0, 1)) - (77, 154, 100)).max() < 4
    metadata(download / "HAM10000_metadata.csv", [(*row[:2], "nv", *row[3:]) for row in ROWS])
    assert {got.classes[label] for label in load(download).labels} == {"nv"} and len(records(download)) == 3


def test_copy_of_the_download_elsewhere_is_the_same(download):
    load(download)
    download.rename(download.parent / "moved")
    check_tiny(load(download.parent / "moved"))
    assert len(records(download)) == 1


def test_preparation_that_was_cut_off_is_done_again(download, monkeypatch):
    whole = prepared._Builder._generate_examples

    def cut_off(self, split):
        yield next(whole(self, split))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(prepared._Builder, "_generate_examples", cut_off)
        with pytest.raises(KeyboardInterrupt):
            load(download)
    check_tiny(load(download))


def test_other_arrangements(download):
    (download / "HAM10000_metadata.csv").unlink()
    metadata(download / "HAM10000_metadata.tab", tab=True)
    check_tiny(load(download, "tab"))
    for part in download.glob("HAM10000_images_part_*"):
        for image in part.iterdir():
            jpeg(download / part.name.lower() / image.name, 0)
            jpeg(download / "__MACOSX" / part.name / image.name, 0)
    check_tiny(load(download, "twice"))
    for part in download.glob("ham10000_images_part_*"):
        shutil.rmtree(part)
    one = download / "archive" / "HAM10000_images"
    one.mkdir(parents=True)
    for part in sorted(download.glob("HAM10000_images_part_*")):
        for image in part.iterdir():
            image.rename(one / image.name)
    check_tiny(load(download, "one_folder"))


def test_missing_files_say_where_to_get_them(download, caplog):
    with pytest.raises(UserError, match=r"data\.manual_dir is empty: download HAM10000 from .*doi\.org"):
        ham10000.load(manual_dir="", cache_dir="", size=16)
    with pytest.raises(UserError, match=r"data\.manual_dir=/nowhere is not a folder"):
        ham10000.load(manual_dir="/nowhere", cache_dir="", size=16)
    next(download.rglob("ISIC_0024308.jpg")).unlink()
    next(download.rglob("ISIC_0024310.jpg")).unlink()
    with pytest.raises(UserError) as error:
        load(download)
    message = str(error.value)
    assert "ISIC_0024308 (the first of 2, of 14 listed) not found under data.manual_dir=" in message
    assert str(download) in message and "https://doi.org/10.7910/DVN/DBW86T" in message and "\n" not in message
    got = load(download, on_bad_file="skip")
    assert got.ids.tolist() == sorted({row[1] for row in ROWS} - {"ISIC_0024308", "ISIC_0024310"})
    assert "ISIC_0024308 (the first of 2" in caplog.text
    (download / "HAM10000_metadata.csv").unlink()
    with pytest.raises(UserError, match=r"^HAM10000_metadata\.csv not found under data\.manual_dir=.*doi\.org"):
        load(download)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([*ROWS[:3], ("HAM_1", "ISIC_1", "wart", "", "", "", "")], "line 5: dx is 'wart'"),
        ([*ROWS[:3], ("", "ISIC_1", "nv", "", "", "", "")], "line 5 lacks one of lesion_id"),
        ([], "has no rows"),
    ],
)
def test_metadata_that_is_wrong(download, rows, says):
    metadata(download / "HAM10000_metadata.csv", rows)
    with pytest.raises(UserError, match=rf"HAM10000_metadata\.csv.* {says}"):
        load(download)


def test_image_listed_twice(download):
    metadata(download / "HAM10000_metadata.csv", [*ROWS, ROWS[0]])
    with refuses("conflict", "data.manual_dir", "ISIC_0024306"):
        load(download)


def test_broken_image(download):
    next(download.rglob("ISIC_0024308.jpg")).write_bytes(b"\xff\xd8\xff nothing")
    with pytest.raises(UserError, match=r"1 of 14 files cannot be read: ISIC_0024308 \("):
        load(download)
    got = load(download, on_bad_file="skip")
    assert len(got.ids) == 13 and "ISIC_0024308" not in got.ids
    assert [ROWS[i][2] for i in range(14) if i != 2] == [got.classes[label] for label in got.labels]


def test_cache_that_cannot_be_written(download):
    (download.parent / "cache").write_text("a file")
    with pytest.raises(UserError, match=r"data\.cache_dir="):
        load(download)


def test_tensorflow_is_never_imported(download):
    """In a process of its own that takes TensorFlow for installed, and ends where anything imports it."""
    script = f"""
import importlib.machinery, os, sys
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tensorflow":
            return importlib.machinery.ModuleSpec(name, self)
    def create_module(self, spec):
        os._exit(9)
    def exec_module(self, module):
        os._exit(9)
sys.meta_path.insert(0, Guard())
from jaxssl.data.datasets import ham10000
for _ in range(2):
    assert len(ham10000.load(manual_dir={str(download)!r}, cache_dir={str(download / "cache")!r}, size=16).ids) == 14
assert "tensorflow" not in sys.modules
"""
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_real_copy(shared_data, tmp_path):
    got = ham10000.load(manual_dir=str(shared_data / "ham10000"), cache_dir=str(tmp_path), size=16)
    counts = dict(zip(got.classes, np.bincount(got.labels).tolist(), strict=True))
    assert counts == {"nv": 6705, "mel": 1113, "bkl": 1099, "bcc": 514, "akiec": 327, "vasc": 142, "df": 115}
    assert len(set(got.groups)) == 7470 and got.groups_known and got.images.shape == (10015, 16, 16, 3)
    parts = splits.split(got, seed=0, validation=0.15, test=0.15)
    lesions = [set(got.groups[parts[side]]) for side in ("train", "validation", "test")]
    assert sum(map(len, lesions)) == len(set.union(*lesions)) == 7470
    for side, share in (("train", 0.7), ("validation", 0.15), ("test", 0.15)):
        seen = np.bincount(got.labels[parts[side]])
        assert np.abs(seen - share * np.bincount(got.labels)).max() <= 5
