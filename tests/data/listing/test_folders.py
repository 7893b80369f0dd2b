"""Layouts of folders as people have them."""

from pathlib import Path

import pytest

from jaxssl.data.audit import items
from jaxssl.data.datasets import folder
from jaxssl.data.listing import folders
from tests.data import layouts
from tests.refusals import refuses

ROOT = Path("data")


def tree(*sides, classes=("cats", "dogs")):
    return [f"{side}/{name}/{i}.png" for side in sides for name in classes for i in range(2)]


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")


@pytest.mark.parametrize(
    ("train", "other", "side"),
    [
        ("training_set", "test_set", "test"),
        ("seg_train/seg_train", "seg_test/seg_test", "test"),
        ("train", "dev", "validation"),
        ("train", "eval", "validation"),
        ("Training", "Test data", "test"),
        ("a. Training Set", "b. Testing Set", "test"),
    ],
)
def test_folders_that_are_plainly_a_split(train, other, side):
    paths = tree(train, other)
    found = folders.read_layout(ROOT, paths)
    assert found.official == ["train"] * 4 + [side] * 4 and set(found.classes) == {"cats", "dogs"}


@pytest.mark.parametrize("other", ["extra", "imagenet", "more"])
def test_other_folders_beside_train_are_asked_about(other):
    with refuses("conflict", "data.dir", other, "train"):
        folders.read_layout(ROOT, tree("train", other))


def test_two_folders_of_one_side_are_asked_about():
    with refuses("conflict", "data.dir", "test_a", "test_b"):
        folders.read_layout(ROOT, tree("train", "test_a", "test_b"))


def test_a_class_that_is_called_train_is_a_class():
    found = folders.read_layout(ROOT, [f"{name}/{i}.png" for name in ("train", "car") for i in range(2)])
    assert found.official is None and set(found.classes) == {"train", "car"}


@pytest.mark.parametrize("name", ["unlabeled", "unlabelled_images", "Unsupervised"])
def test_unlabelled_folder_is_no_class(name):
    found = folders.read_layout(ROOT, [*tree("train"), f"{name}/0.png", f"{name}/1.png"])
    assert found.official == ["train"] * 6 and found.classes[4:] == ["", ""] and name in found.unread[0]
    found = folders.read_layout(ROOT, ["a/0.png", "b/0.png", f"{name}/0.png"])
    assert found.official is None and found.classes == ["a", "b", ""] and name in found.unread[0]


def test_flat_test_folder_is_unlabelled():
    found = folders.read_layout(ROOT, [*tree("train"), "test/0.png", "test/1.png"])
    assert found.official == ["train"] * 6 and found.classes[4:] == ["", ""] and "test has no class" in found.unread[0]


def test_flat_train_folder_is_refused():
    with refuses("conflict", "data.dir", "train/0.png"):
        folders.read_layout(ROOT, ["train/0.png", *tree("test")])


def test_class_spelt_otherwise_in_test():
    found = folders.read_layout(ROOT, [*tree("train"), *tree("test", classes=("Cats", "DOGS"))])
    assert set(found.classes) == {"cats", "dogs"}


def test_deeper_folders_are_said_to_be_unused():
    found = folders.read_layout(ROOT, ["a/p1/0.png", "a/p2/0.png", "b/p3/0.png"])
    assert found.classes == ["a", "a", "b"] and "p1, p2, p3" in found.unread[0]


def test_masks_are_left_out_and_said(tmp_path):
    for name in ("benign", "malignant"):
        for i in range(3):
            layouts.picture(tmp_path / name / f"{name} ({i}).png", 10 * i)
            layouts.picture(tmp_path / name / f"{name} ({i})_mask.png", 255)
        layouts.picture(tmp_path / name / f"{name} (0)_mask_1.png", 255)
    got = folder.load(dir=str(tmp_path), size=8)
    assert len(got.ids) == 6 and "8 files named as masks of others" in got.unread[0]
    assert len(folder.load(dir=str(tmp_path), size=8, ignore_masks=False).ids) == 14
    got = folder.load(dir=str(tmp_path), size=8, exclude_pattern=r"\(0\)")
    assert len(got.ids) == 4 and "6 images that data.options.exclude_pattern leaves out" in got.unread[0]
    listed = items.list_folder(str(tmp_path))
    assert sum(item.used for item in listed.items) == 6 and "masks" in listed.unread[0]


def test_a_file_that_only_ends_like_a_mask_is_an_image(tmp_path):
    for path in ("a/face_mask.png", "a/1_mask.png", "b/face.png", "b/2.png"):
        layouts.picture(tmp_path / path)
    assert len(folder.load(dir=str(tmp_path), size=8).ids) == 4


def test_class_of_formats_that_are_not_read_is_refused(tmp_path):
    for path in ("a/0.png", "b/0.png"):
        layouts.picture(tmp_path / path)
    touch(tmp_path, "c/0.heic", "c/1.heic", "notes/readme.txt")
    with refuses("unsupported", "data.dir", "2 .heic"):
        folder.load(dir=str(tmp_path), size=8)
    (tmp_path / "c").rename(tmp_path / ".c")
    assert folder.load(dir=str(tmp_path), size=8).unread == ("1 files that are not images: 1 .txt",)
