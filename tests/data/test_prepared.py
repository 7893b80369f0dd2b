"""What the builders share, on a dataset of arrays, and on what each of them says of itself."""

import functools
import hashlib
import importlib
import inspect
import pkgutil

import numpy as np
import pytest

import jaxssl.data
from jaxssl.data import datasets, downloads, prepared
from jaxssl.errors import UserError
from tests.data import layouts

ARRAYS = downloads.Dataset("arrays", "arrays", ("a", "b"), "", "none", "nowhere", "arrays", "@misc{arrays}")
NAMES = sorted({m.name for m in pkgutil.iter_modules(datasets.__path__)} - {"folder", "lenses", "npz"})


def examples(download):
    return [
        downloads.Example(path.stem, path, "ab"[i % 2], split=("train", "test")[i // 3])
        for i, path in enumerate(download.root / file for file in download.files if file.endswith(".npy"))
    ]


def load(root, dtype="float32", read=lambda example: np.load(example.path), **kw):
    module = ARRAYS._replace(read=read, dtype=dtype)
    loader = functools.partial(prepared.load, module, examples)
    return loader(manual_dir=str(root), cache_dir=str(root.parent / "cache"), **({"size": 9} | kw))


def write(root, dtype="float32", sizes=(9, 9, 12, 9, 9), channels=1):
    root.mkdir()
    rng = np.random.default_rng(0)
    arrays = [(60000 * rng.random((side, side, channels)) - 300).astype(dtype) for side in sizes]
    for i, array in enumerate(arrays):
        np.save(root / f"{i}.npy", array)
    return arrays


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_arrays_come_back_as_they_were(tmp_path, dtype, channels):
    arrays = write(tmp_path / "download", dtype, channels=channels)
    for _ in range(2):
        got = load(tmp_path / "download", dtype)
        assert got.images.dtype == dtype and got.images.shape == (5, 9, 9, channels)
        assert all((got.images[i] == arrays[i]).all() for i in (0, 1, 3, 4))
        assert got.labels.tolist() == [0, 1, 0, 1, 0] and got.ids.tolist() == list("01234") == got.groups.tolist()
        assert got.official.tolist() == ["train"] * 3 + ["test"] * 2 and not got.groups_known


def test_arrays_are_read_once_and_one_at_a_time(tmp_path):
    write(tmp_path / "download")
    read = []

    def reader(example):
        read.append(example.id)
        return np.load(example.path)

    first = load(tmp_path / "download", read=reader)
    assert sorted(read) == list("01234")
    assert load(tmp_path / "download", read=reader).fingerprint == first.fingerprint and len(read) == 5


def test_files_deleted_from_the_cache_are_made_anew(tmp_path):
    write(tmp_path / "download")
    expected = load(tmp_path / "download")
    prepared = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    for gone in ([file] for file in prepared), [prepared]:
        for files in gone:
            for file in files:
                file.unlink(missing_ok=True)
            got = load(tmp_path / "download")
            assert (np.asarray(got.images[:]) == np.asarray(expected.images[:])).all()


def test_what_a_killed_run_left_is_taken_away(tmp_path):
    write(tmp_path / "download")
    load(tmp_path / "download")
    (folder,) = (tmp_path / "cache").glob("*/arrays")
    (folder / "1.0.0").rename(folder / "incomplete.ABCDEF_1.0.0")
    load(tmp_path / "download")
    assert [found.name for found in folder.iterdir()] == ["1.0.0"]


def test_broken_array_is_stopped_at_or_skipped_whichever_came_first(tmp_path):
    write(tmp_path / "download")
    (tmp_path / "download" / "1.npy").write_bytes(b"\x93NUMPY broken")
    for _ in range(2):
        with pytest.raises(UserError, match=r"1 of 5 files cannot be read: 1 \(.*(magic|header|EOF|version)"):
            load(tmp_path / "download")
        assert load(tmp_path / "download", on_bad_file="skip").ids.tolist() == list("0234")


def test_file_that_could_not_be_read_for_a_moment(tmp_path):
    arrays = write(tmp_path / "download")

    def reader(example):
        if example.id == "1":
            raise OSError("the disk is away")
        return np.load(example.path)

    with pytest.raises(UserError, match=r"1 of 5 files cannot be read: 1 \(the disk is away\)"):
        load(tmp_path / "download", read=reader)
    assert (load(tmp_path / "download").images[1] == arrays[1]).all()


def test_array_of_another_dtype_is_a_bad_file(tmp_path):
    write(tmp_path / "download", "float64")
    np.save(tmp_path / "download" / "3.npy", np.zeros((9, 9), np.uint8))
    with pytest.raises(UserError, match=r"1 of 5 files cannot be read: 3 \(holds uint8, not float32\)"):
        load(tmp_path / "download")


def test_holes_in_arrays(tmp_path):
    arrays = write(tmp_path / "download")
    arrays[1][2, 3, 0] = np.nan
    np.save(tmp_path / "download" / "1.npy", arrays[1])
    with pytest.raises(UserError, match=r"1: 1 of its values are NaN"):
        load(tmp_path / "download")
    want = arrays[1].copy()
    want[2, 3, 0] = 0
    assert (load(tmp_path / "download", nan="zero").images[1] == want).all()


def test_other_classes_are_another_state_of_the_cache(tmp_path):
    """Else the labels of one would be read as those of the other."""
    write(tmp_path / "download")
    load(tmp_path / "download")
    swapped = ARRAYS._replace(read=lambda example: np.load(example.path), dtype="float32", classes=("b", "a"))
    got = prepared.load(
        swapped, examples, manual_dir=str(tmp_path / "download"), cache_dir=str(tmp_path / "cache"), size=9
    )
    assert [got.classes[label] for label in got.labels] == list("ababa")


def test_other_keywords_of_read_are_another_state_of_the_cache(tmp_path):
    """Nothing else tells two readers of the same files apart."""
    arrays = write(tmp_path / "download", sizes=(9, 9))

    def times(example, factor):
        return factor * np.load(example.path)

    for memory_mib in (1, 0):
        for factor in (1, 2):
            reader = functools.partial(times, factor=np.float32(factor))
            got = load(tmp_path / "download", read=reader, memory_mib=memory_mib).images[:]
            np.testing.assert_array_equal(got, factor * np.array(arrays))


def test_archive_is_held_against_its_published_checksum(tmp_path):
    write(tmp_path / "download")
    (tmp_path / "download" / "part.zip").write_bytes(b"archive")
    right = hashlib.md5(b"archive").hexdigest()
    dataset = ARRAYS._replace(read=lambda example: np.load(example.path), dtype="float32")
    kw = {"manual_dir": str(tmp_path / "download"), "cache_dir": str(tmp_path / "cache"), "size": 9}
    with pytest.raises(UserError, match=rf"part\.zip has md5 {right}, published is 123"):
        prepared.load(dataset._replace(checksums=(("part.zip", "123"),)), examples, **kw)
    assert len(prepared.load(dataset._replace(checksums=(("part.zip", right),)), examples, **kw).ids) == 5


def test_examples_without_labels(tmp_path):
    write(tmp_path / "download")
    dataset = ARRAYS._replace(read=lambda example: np.load(example.path), dtype="float32", classes=())
    got = prepared.load(
        dataset,
        lambda download: [example._replace(label=None) for example in examples(download)],
        manual_dir=str(tmp_path / "download"),
        cache_dir=str(tmp_path / "cache"),
        size=9,
    )
    assert got.labels.tolist() == [-1] * 5 and got.classes == ()


def test_folds_of_the_dataset(tmp_path):
    write(tmp_path / "download")
    dataset = ARRAYS._replace(read=lambda example: np.load(example.path), dtype="float32")
    kw = {"manual_dir": str(tmp_path / "download"), "cache_dir": str(tmp_path / "cache"), "size": 9}
    got = prepared.load(dataset, lambda d: [e._replace(fold=4 - i) for i, e in enumerate(examples(d))], **kw)
    assert got.folds.tolist() == [4, 3, 2, 1, 0] and load(tmp_path / "download").folds is None


def test_table(tmp_path):
    path = tmp_path / "table.csv"
    layouts.table(path, [["name", " kind ", "", ""], ["x", " 1", "", ""], ["", "", "", ""], ["y", "2"]])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert downloads.read_table(path, ("name", "kind")) == [
        (f"{path} line 2", {"name": "x", "kind": "1"}),
        (f"{path} line 4", {"name": "y", "kind": "2"}),
    ]
    with pytest.raises(UserError, match=r"table\.csv has no column 'grade' among name, kind: download it again"):
        downloads.read_table(path, ("name", "grade"))
    path.write_bytes(b"\xff\xfe\0")
    with pytest.raises(UserError, match=r"table\.csv is not text"):
        downloads.read_table(path, ("name",))


@pytest.mark.parametrize("name", NAMES)
def test_every_builder_describes_itself(name):
    module = importlib.import_module(f"jaxssl.data.datasets.{name}")
    described = module.DATASET
    assert described.name == name and name in jaxssl.data.names()
    for field in ("title", "license", "homepage", "download", "citation"):
        assert getattr(described, field).strip(), field
    assert described.title == " ".join(described.title.split()) and described.citation.startswith("@")
    assert not {"read_mask", "mask_classes"} & set(jaxssl.data.options(name))
    takes = set(inspect.signature(module.load).parameters)
    assert "arguments" in takes or takes >= {"manual_dir", "cache_dir", "size", "on_bad_file", "memory_mib"}


@pytest.mark.parametrize("name", NAMES)
def test_empty_folder_names_a_file_and_the_place_to_get_it(name, tmp_path):
    module = importlib.import_module(f"jaxssl.data.datasets.{name}")
    with pytest.raises(UserError) as error:
        layouts.load(module, tmp_path)
    message = str(error.value)
    assert f" not found under data.manual_dir={tmp_path}: download {module.DATASET.download}" in message
    assert "\n" not in message
