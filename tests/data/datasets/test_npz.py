"""npz archives in the layout of MedMNIST and without a split."""

import numpy as np
import pytest

from jaxssl.data import records
from jaxssl.data.datasets import npz
from jaxssl.data.source import UNLABELLED
from jaxssl.errors import UserError
from tests.refusals import refuses

RNG = np.random.default_rng(0)


def noise(*shape):
    return RNG.integers(0, 256, shape).astype(np.uint8)


def medmnist(**other):
    arrays = {}
    for side, n in (("train", 5), ("val", 2), ("test", 3)):
        arrays[f"{side}_images"] = noise(n, 28, 28)
        arrays[f"{side}_labels"] = (np.arange(n) % 2).astype(np.uint8)[:, None]
    return arrays | other


def save(tmp_path, arrays):
    np.savez(tmp_path / "x.npz", **arrays)
    return str(tmp_path / "x.npz")


def test_medmnist_layout(tmp_path):
    arrays = medmnist()
    got = npz.load(dir=save(tmp_path, arrays), size=28)
    assert got.images.dtype == np.uint8 and got.images.shape == (10, 28, 28, 1)
    for side, official in (("train", "train"), ("val", "validation"), ("test", "test")):
        rows = np.flatnonzero(got.official == official)
        assert (got.images[rows, ..., 0] == arrays[f"{side}_images"]).all()
        assert (got.labels[rows] == arrays[f"{side}_labels"][:, 0]).all()
        assert got.ids[rows].tolist() == [f"{side}/{i:04d}" for i in range(len(rows))]
    assert got.classes == ("0", "1") and not got.groups_known


def test_plain_layout_with_and_without_labels(tmp_path):
    images, labels = noise(4, 9, 9, 3), np.array([2, 0, 1, 0])
    got = npz.load(dir=save(tmp_path, {"images": images, "labels": labels}), size=9, classes=("a", "b", "c"))
    assert (got.images == images).all() and got.labels.tolist() == [2, 0, 1, 0] and got.classes == ("a", "b", "c")
    assert got.official is None and got.ids[3] == "images/0003"
    bare = npz.load(dir=save(tmp_path, {"images": images}), size=9)
    assert bare.classes == () and (bare.labels == UNLABELLED).all()
    assert bare.fingerprint != got.fingerprint


def test_groups(tmp_path):
    sides = {"train": ["p1", "p1", "p2", "p3", "p3"], "val": ["p4", "p4"], "test": ["p5", "p6", "p6"]}
    groups = {f"{side}_groups": np.array(names) for side, names in sides.items()}
    plain, got = (npz.load(dir=save(tmp_path, medmnist(**more)), size=28) for more in ({}, groups))
    assert got.groups_known and got.groups.tolist() == [*sides["train"], *sides["val"], *sides["test"]]
    assert got.unread == () and got.fingerprint != plain.fingerprint
    numbers = {"images": noise(3, 9, 9), "groups": np.array([[7.0], [7.0], [np.nan]])}
    some = npz.load(dir=save(tmp_path, numbers), size=9)
    assert some.groups.tolist() == ["7", "7", "images/0002"] and not some.groups_known


@pytest.mark.parametrize("groups", [{"train_groups": list("aabbb")}, {"train_groups": noise(5, 2)}])
def test_groups_that_are_not_one_an_image(tmp_path, groups):
    with pytest.raises(UserError, match="_groups"):
        npz.load(dir=save(tmp_path, medmnist(**groups)), size=28)


def test_resized_only_where_the_size_differs(tmp_path):
    images = np.full((2, 28, 28), 40001, np.uint16)
    got = npz.load(dir=save(tmp_path, {"images": images, "labels": [0, 1]}), size=20)
    assert got.images.shape == (2, 20, 20, 1) and got.images.dtype == np.uint16 and (got.images == 40001).all()


def test_nan(tmp_path):
    images = np.ones((2, 8, 8), np.float32)
    images[1, 0, 0] = np.nan
    path = save(tmp_path, {"images": images, "labels": [0, 1]})
    with pytest.raises(UserError, match=r"x\.npz: images/0001: 1 of its values .*data\.nan"):
        npz.load(dir=path, size=8)
    assert npz.load(dir=path, size=8, nan="zero").images[1, 0, 0, 0] == 0


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        (medmnist(train_labels=np.zeros((5, 14), np.uint8)), "'train_labels' has 14 columns.*data.task='multi'"),
        ({k: v for k, v in medmnist().items() if k != "val_labels"}, "no 'val_labels'"),
        (medmnist(test_labels=np.zeros(2, int)), "'test_labels' has 2 rows for 3 images"),
        (medmnist(test_labels=np.array([0.0, 0.5, np.nan])), "'test_labels' must be integers"),
        (medmnist(test_labels=np.array([0, -2, 1])), "'test_labels' must be integers"),
        ({"x": noise(3, 4, 4), "y": noise(3)}, "holds x, y: 'train_images' or 'images' is missing"),
        ({"images": noise(0, 8, 8)}, "holds no image"),
        ({"images": noise(3, 8, 8), "labels": np.ones(3, int)}, "one class only, 1"),
        ({"images": noise(2, 28, 28, 28)}, "no axis of shape"),
        ({"images": np.array([noise(3, 3), None], object)}, "object array, which would run code"),
    ],
)
def test_archives_that_are_wrong(tmp_path, arrays, says):
    with pytest.raises(UserError, match=says) as error:
        npz.load(dir=save(tmp_path, arrays), size=28)
    assert "\n" not in str(error.value) and "x.npz" in str(error.value)


def test_files_that_are_no_archive(tmp_path):
    for missing in ("", str(tmp_path / "none.npz"), str(tmp_path)):
        with pytest.raises(UserError, match=r"data\.dir=.* is not a file"):
            npz.load(dir=missing, size=28)
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(UserError, match=r"x\.npz is not an npz archive"):
        npz.load(dir=str(tmp_path / "x.npz"), size=28)
    (tmp_path / "x.npz").write_bytes(b"hello")
    with pytest.raises(UserError, match=r"x\.npz is not an npz archive"):
        npz.load(dir=str(tmp_path / "x.npz"), size=28)
    np.save(tmp_path / "y.npy", noise(3, 8, 8))
    with pytest.raises(UserError, match="single array"):
        npz.load(dir=str(tmp_path / "y.npy"), size=8)


def overwrite(file, *changes):
    """Sets bytes after each local header (PK34) and each entry of the directory (PK12) of an archive."""
    content = bytearray(file.read_bytes())
    for mark, offset, value in changes:
        at = content.find(mark)
        while at >= 0:
            content[at + offset] = value
            at = content.find(mark, at + 4)
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ([(b"PK\3\4", 6, 1), (b"PK\1\2", 8, 1)], "encrypted"),
        ([(b"PK\3\4", 8, 97), (b"PK\1\2", 10, 97)], "compression"),
        ([(b"PK\3\4", i, 0) for i in range(50, 80)], "decompressing"),
    ],
)
def test_archives_that_are_encrypted_or_packed_otherwise_or_damaged_inside(tmp_path, changes, says):
    np.savez_compressed(tmp_path / "x.npz", images=np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8))
    with refuses("unreadable", None, says):
        npz.load(dir=str(overwrite(tmp_path / "x.npz", *changes)), size=8)


def test_bytes_are_names(tmp_path):
    names = np.array(["\u00e4".encode(), b"\xffb"] * 2)
    found = npz.load(dir=save(tmp_path, {"images": noise(4, 8, 8), "labels": names, "groups": names}), size=8)
    assert found.classes == ("\\xffb", "\u00e4") and found.groups_known


def test_too_few_class_names(tmp_path):
    with pytest.raises(UserError, match=r"data\.options\.classes names 1"):
        npz.load(dir=save(tmp_path, medmnist()), size=28, classes=("only",))


def test_pneumoniamnist(shared_data):
    got = npz.load(dir=str(shared_data / "medmnist/pneumoniamnist.npz"), size=28)
    assert got.classes == ("normal", "pneumonia")
    counts = {side: np.bincount(got.labels[got.official == side]).tolist() for side in ("train", "validation", "test")}
    assert counts == {"train": [1214, 3494], "validation": [135, 389], "test": [234, 390]}
    with np.load(shared_data / "medmnist/pneumoniamnist.npz") as archive:
        assert (got.images[got.official == "test"][..., 0] == archive["test_images"]).all()


# Labels as people have them


def classes_of(tmp_path, labels, count=20, name="x.npz", **kw):
    np.savez(tmp_path / name, images=noise(count, 8, 8), labels=labels)
    got = npz.load(dir=str(tmp_path / name), size=8, **kw)
    return got, [got.classes[i] if i >= 0 else None for i in got.labels]


def test_one_hot_labels_are_one_label_an_image(tmp_path):
    numbers = np.arange(20) % 4
    got, _ = classes_of(tmp_path, np.eye(4, dtype="u1")[numbers])
    assert got.classes == ("0", "1", "2", "3") and got.labels.tolist() == numbers.tolist()


@pytest.mark.parametrize("kind", ["U", "S"])
def test_names_are_classes(tmp_path, kind):
    words = np.array(["b", "a", "NA", ""])[np.arange(20) % 4].astype(kind)
    got, names = classes_of(tmp_path, words)
    assert got.classes == ("a", "b") and names[:4] == ["b", "a", None, None]


def test_minus_one_and_nan_are_no_label(tmp_path):
    for labels in (np.arange(20) % 3 - 1, np.where(np.arange(20) % 3, np.arange(20) % 3 - 1.0, np.nan)):
        got, names = classes_of(tmp_path, labels)
        assert got.classes == ("0", "1") and names[:3] == [None, "0", "1"]


def test_several_labels_can_be_set_aside(tmp_path):
    got, names = classes_of(tmp_path, np.ones((20, 14), "u1"), use_labels=False)
    assert got.classes == () and set(names) == {None} and "arrays of x.npz: labels" in got.unread


@pytest.mark.parametrize("name", ["breastmnist.npz", "BreastMNIST_128.npz"])
def test_archives_of_medmnist_have_their_own_classes(tmp_path, name):
    got, _ = classes_of(tmp_path, np.arange(20) % 2, name=name)
    assert got.classes == ("malignant", "normal, benign")


def test_a_class_without_an_image_and_other_arrays_are_said(tmp_path):
    np.savez(tmp_path / "x.npz", images=noise(4, 8, 8), labels=[0, 3, 0, 3], ages=[1, 2, 3, 4])
    got = npz.load(dir=str(tmp_path / "x.npz"), size=8)
    assert got.unread == ("arrays of x.npz: ages", "classes without an image: 1, 2")


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_what_exceeds_the_memory_is_in_records(tmp_path, write):
    write(tmp_path / "x.npz", **medmnist())
    held = npz.load(dir=str(tmp_path / "x.npz"), size=20)
    place = tmp_path / "cache"
    for _ in range(2):
        stored = npz.load(dir=str(tmp_path / "x.npz"), size=20, cache_dir=str(place), memory_mib=0.001)
        assert isinstance(stored.images, records.Images) and stored.fingerprint == held.fingerprint
    assert [child.name for child in place.iterdir()] == ["records"]


def test_masks(tmp_path):
    images, masks = noise(6, 8, 8), np.tril(np.ones((6, 8, 8), np.uint8))
    masks[2] = 0
    path = save(tmp_path, {"images": images, "masks": masks * 255})
    got = npz.load(dir=str(path), size=8, masks=True)
    np.testing.assert_array_equal(got.masks, masks)
    assert got.mask_classes == ("background", "foreground") and not got.unread and got.masked.all()
    assert npz.load(dir=str(path), size=8).masks is None
    with pytest.raises(UserError, match="'masks' has 5 rows for 6 images"):
        npz.load(dir=str(save(tmp_path, {"images": images, "masks": masks[:5]})), size=8, masks=True)
