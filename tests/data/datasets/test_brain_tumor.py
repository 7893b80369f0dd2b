"""The brain tumours on tiny files as MATLAB writes them, and on a real copy in that layout."""

import h5py
import numpy as np
import pytest
from absl import logging
from PIL import Image

from jaxssl.data import splits
from jaxssl.data.audit import items
from jaxssl.data.audit.report import audit_files
from jaxssl.data.datasets import brain_tumor
from jaxssl.errors import UserError
from tests.data import layouts

RNG = np.random.default_rng(0)
SLICES = [(n, 1 + n % 3, f"MR{n // 3:04d}", RNG.integers(-50, 5000, (16, 16), np.int16)) for n in range(1, 25)]


def mat(path, label, patient, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("cjdata")
        group["label"] = np.array([[float(label)]])
        group["PID"] = np.array([[ord(letter)] for letter in patient], np.uint16)
        # MATLAB stores columns first, so that the axes come the other way round.
        group["image"] = image.T
        group["tumorMask"] = np.zeros(image.T.shape, np.uint8)
        group["tumorBorder"] = np.zeros((1, 8))
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


def cvind(path, parts):
    with h5py.File(path, "w", userblock_size=512) as file:
        file["cvind"] = np.reshape(parts, (1, -1))


@pytest.fixture
def download(tmp_path):
    root = tmp_path / "download"
    for n, *rest in SLICES:
        mat(root / f"brainTumorDataPublic_{1 + n // 13}" / f"{n}.mat", *rest)
    cvind(root / "cvind.mat", 1.0 + np.arange(1, 3065) // 3 % 5)
    (root / "README.txt").write_text("read me")
    return root


def load(download, **kw):
    return brain_tumor.load(manual_dir=str(download), cache_dir=str(download.parent / "cache"), **({"size": 16} | kw))


def warnings(monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: said.append(text % values))
    return said


def test_tiny_download(download):
    got = load(download)
    order = np.argsort([str(n) for n, *_ in SLICES])
    assert got.ids.tolist() == [str(SLICES[i][0]) for i in order]
    assert got.groups.tolist() == [SLICES[i][2] for i in order] and got.groups_known and got.official is None
    assert got.classes == ("meningioma", "glioma", "pituitary")
    assert got.labels.tolist() == [SLICES[i][1] - 1 for i in order]
    assert got.images.dtype == np.float32
    np.testing.assert_array_equal(got.images[..., 0], [SLICES[i][3] for i in order])


def test_images_stream(download):
    assert layouts.check_streams(load, download).folds is not None


def test_one_patient_streams(tmp_path):
    """Where all files have one PID, the dataset is made once more without groups."""
    for n, label, _, image in SLICES:
        mat(tmp_path / "download" / f"{n}.mat", label, "one", image)
    assert not layouts.check_streams(load, tmp_path / "download").groups_known


def test_parts_of_the_authors_are_the_folds(download):
    got = load(download)
    assert got.folds.tolist() == [int(number) // 3 % 5 for number in got.ids]
    for fold in range(5):
        parts = splits.cross_validation(got, seed=0, folds=5, fold=fold, validation=0)
        assert got.ids[parts["test"]].tolist() == [n for n in got.ids if int(n) // 3 % 5 == fold]
        assert not set(got.groups[parts["test"]]) & set(got.groups[parts["train"]])
    (download / "cvind.mat").unlink()
    assert load(download).folds is None


@pytest.mark.parametrize("parts", [np.ones(24), np.arange(3064) % 5, np.arange(3064) % 6 + 1])
def test_parts_that_are_not_the_authors(download, parts):
    cvind(download / "cvind.mat", parts)
    with pytest.raises(UserError, match=r"cvind\.mat does not hold a part from 1 to 5 for each of 3064 slices"):
        load(download)


def test_parts_that_are_broken(download):
    (download / "cvind.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(UserError, match=r"cvind\.mat cannot be read: .*: download it again$"):
        load(download)


def test_says_how_many_slices_there_are(download, monkeypatch):
    said = warnings(monkeypatch)
    load(download)
    assert said == [f"{download} holds 24 of the 3064 slices"]


def test_flat_copy_and_other_sizes(download):
    for path in sorted(download.rglob("[0-9]*.mat")):
        path.rename(download / path.name)
    mat(download / "1.mat", *SLICES[0][1:3], np.full((8, 12), 7, np.int16))
    mat(download / "twice" / "2.mat", 1, "other", np.zeros((16, 16), np.int16))
    got = load(download)
    assert len(got.ids) == 24 and np.abs(got.images[got.ids == "1"] - 7).max() < 1e-4
    np.testing.assert_array_equal(got.images[got.ids == "2"][0, ..., 0], SLICES[1][3])


def test_one_patient_for_all_is_none(download, monkeypatch):
    known = load(download)
    for n, label, _, image in SLICES:
        mat(next(download.rglob(f"{n}.mat")), label, "UNKNOWN", image)
    said = warnings(monkeypatch)
    got = load(download)
    assert not got.groups_known and got.groups.tolist() == got.ids.tolist()
    assert len(said) == 2 and "all 24 slices have the PID 'UNKNOWN'" in said[1]
    np.testing.assert_array_equal(got.images, known.images)
    # The parts were made when the patients were known.
    np.testing.assert_array_equal(got.folds, known.folds)


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match=r"^<n>\.mat not found under data\.manual_dir=.*figshare\.1512427\.v5"):
        load(tmp_path)
    Image.new("L", (8, 8)).save(tmp_path / "1.jpg")
    with pytest.raises(UserError, match=r"a copy that has lost the patients: set data\.name to 'folder'"):
        load(tmp_path)


def damage(path, name):
    if name == "no HDF5":
        path.write_bytes(b"MATLAB 5.0 MAT-file")
    elif name == "cut off":
        path.write_bytes(path.read_bytes()[:1500])
    elif name == "label":
        mat(path, 4, "MR1", SLICES[0][3])
    elif name == "patient":
        mat(path, 1, "  ", SLICES[0][3])
    else:
        with h5py.File(path, "r+") as file:
            del file[f"cjdata/{name}"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no HDF5", "file signature not found"),
        ("cut off", "truncated file"),
        ("label", "label 4.0 is not 1, 2 or 3"),
        ("patient", "the PID is empty"),
        ("image", "'image' doesn't exist"),
        ("PID", "'PID' doesn't exist"),
    ],
)
def test_broken_file(download, name, says):
    damage(next(download.rglob("5.mat")), name)
    with pytest.raises(UserError, match=rf"^1 of 24 files cannot be read: 5 \(.*{says}") as error:
        load(download)
    assert "\n" not in str(error.value)
    got = load(download, on_bad_file="skip")
    assert len(got.ids) == 23 and "5" not in got.ids and (got.labels >= 0).all()


def test_archive_with_another_checksum(download):
    (download / "brainTumorDataPublic_1-766.zip").write_bytes(b"cut off")
    with pytest.raises(UserError, match="published is 74b949ad33f042e6e103523091cd1428"):
        load(download)


def test_real_copy(shared_data, tmp_path, monkeypatch):
    root = shared_data / "brain_tumor_figshare"
    said = warnings(monkeypatch)
    got = brain_tumor.load(manual_dir=str(root / "repacked_mat"), cache_dir=str(tmp_path), size=128)
    assert np.bincount(got.labels).tolist() == [12, 12, 12] and got.images.shape == (36, 128, 128, 1)
    assert not got.groups_known and len(said) == 2
    # The same slices as JPEG, from another source, in folders by label.
    for image, label, name in zip(got.images[..., 0], got.labels, got.ids, strict=True):
        jpeg = np.asarray(Image.open(root / "jpg" / str(label + 1) / f"{name}.jpg"), np.float32)
        assert np.abs(image - jpeg).mean() < 3 < np.abs(image.T - jpeg).mean()


def test_folder_reads_copies_as_jpeg(shared_data):
    from jaxssl.data.datasets import folder

    got = folder.load(dir=str(shared_data / "brain_tumor_figshare" / "jpg"), size=8)
    assert np.bincount(got.labels).tolist() == [708, 1426, 930] and not got.groups_known


def test_split_keeps_patients_together(download):
    got = load(download)
    parts = splits.split(got, seed=0, validation=0.2, test=0.2)
    patients = [set(got.groups[parts[side]]) for side in ("train", "validation", "test")]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 9 and all(patients)


SQUARE = np.zeros((512, 512), np.uint8)
SQUARE[100:200, 300:450] = 1  # Rows, columns.
BORDER = [300, 100, 449.9, 100, 449.9, 199.9, 300, 199.9]  # x and y in turn.


@pytest.mark.parametrize("given", ["tumorMask", "tumorBorder"])
def test_masks_of_mat_files(download, given):
    for n, label, patient, _ in SLICES:
        path = next(download.rglob(f"{n}.mat"))
        mat(path, label, patient, np.zeros((512, 512), np.int16) + np.int16(n))
        with h5py.File(path, "r+") as file:
            del file["cjdata"][given]
            file["cjdata"][given] = SQUARE.T if given == "tumorMask" else np.array([BORDER])
    got, plain = load(download, masks=True, size=64), load(download, size=64)
    assert got.mask_classes == ("background", "tumor") and plain.masks is None
    # The nearest pixels of 512 are those in the middle of 8 x 8.
    expected = SQUARE[4::8, 4::8]
    assert expected.any() and (got.masks == expected).all() and got.groups_known
    np.testing.assert_array_equal(got.images, plain.images)


def test_a_copy_as_jpeg_with_borders(tmp_path):
    root = tmp_path / "download"
    rows = []
    for n in range(1, 61):
        label = 1 + (n - 1) // 20
        path = root / "jpg" / str(label) / f"{n}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (128, 128), np.uint8)).save(path)
        rows.append(f"{n}.jpg,{label},{' '.join(map(str, BORDER))}")
    table = root / "tumor_metadata.csv"
    table.write_text("file,label,tumorBorder_xy\n" + "\n".join(rows) + "\n")
    got = load(root, masks=True, size=64)
    assert len(got.ids) == 60 and not got.groups_known and got.classes == ("meningioma", "glioma", "pituitary")
    assert (got.masks == SQUARE[4::8, 4::8]).all() and got.images.shape == (60, 64, 64, 1)
    assert np.bincount(got.labels).tolist() == [20, 20, 20] and 3 <= len(set(got.groups)) <= 6
    report = audit_files(items.list_download("brain_tumor", str(root), masks=True))
    found = report["masks"]["classes"]
    assert report["masks"]["images"] == 60 and not report["groups"]["known"]
    assert [one["median_pixels"] for one in found] == [SQUARE.size - SQUARE.sum(), SQUARE.sum()]
    table.write_text(table.read_text().replace("449.9", "x", 1))
    with pytest.raises(UserError, match="tumorBorder_xy holds something else than numbers"):
        load(root, masks=True)
