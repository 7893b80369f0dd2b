"""The segmentation part of IDRiD on tiny files of the official layout, whose masks come in several kinds of TIFF."""

import numpy as np
import pytest
from PIL import Image

from jaxssl.data import splits
from jaxssl.data.datasets import idrid_segmentation
from jaxssl.errors import UserError
from tests.refusals import refuses

FOLDERS = {
    "MA": "1. Microaneurysms",
    "HE": "2. Haemorrhages",
    "EX": "3. Hard Exudates",
    "SE": "4. Soft Exudates",
    "OD": "5. Optic Disc",
}
SIDES = {"train": ("a. Training Set", range(1, 9)), "test": ("b. Testing Set", range(55, 59))}
MODES = ("1", "L", "P", "RGBA")


def mask_file(path, mask, mode):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask.astype(np.uint8) * (1 if mode == "P" else 255))
    if mode == "P":
        image.putpalette([0, 0, 0, 255, 0, 0])
    elif mode == "RGBA":
        red = np.zeros((*mask.shape, 4), np.uint8)
        red[..., 0], red[..., 3] = mask * 255, 255
        image = Image.fromarray(red)
    else:
        image = image.convert(mode)
    image.save(path)


@pytest.fixture
def download(tmp_path):
    """Soft exudates in every second image, and an empty mask of them in image 1; the other kinds in all."""
    root = tmp_path / "download" / "A. Segmentation"
    truth, rng = {}, np.random.default_rng(0)
    for side, (folder, numbers) in SIDES.items():
        for n in numbers:
            path = root / "1. Original Images" / folder / f"IDRiD_{n:02d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (24, 16), (4 * n, 0, 0)).save(path)
            for i, (kind, inner) in enumerate(FOLDERS.items()):
                mask = rng.random((16, 24)) < 0.1
                if kind == "SE" and n % 2:
                    mask[:] = False
                truth[f"{side}/IDRiD_{n:02d}", kind] = mask
                if mask.any() or n == 1:
                    name = f"IDRiD_{n:02d}_{kind}.tif"
                    truths = root / "2. All Segmentation Groundtruths" / folder / inner
                    mask_file(truths / name, mask, MODES[(n + i) % 4])
    return root.parent, truth


def load(root, **kw):
    given = {"fit": "crop", "cache_dir": str(root.parent / "cache"), "size": 16} | kw
    return idrid_segmentation.load(manual_dir=str(root), **given)


def ids():
    return sorted(f"{side}/IDRiD_{n:02d}" for side, (_, numbers) in SIDES.items() for n in numbers)


def test_without_labels(download):
    root, _ = download
    got = load(root)
    assert got.ids.tolist() == ids() and got.classes == () and (got.labels == -1).all()
    assert got.official.tolist() == [name.split("/")[0] for name in ids()] and not got.groups_known
    assert np.abs(got.images[..., 0].mean((1, 2)) - [4 * int(name[-2:]) for name in ids()]).max() < 4
    parts = splits.split(got, seed=0, validation=0.2, test=0.2)
    assert (len(parts["train"]), len(parts["validation"]), len(parts["test"])) == (8, 0, 4)


def test_labelled_by_a_kind(download):
    root, truth = download
    got = load(root, label="SE")
    assert got.classes == ("absent", "present")
    assert (
        got.labels.tolist() == [int(truth[name, "SE"].any()) for name in got.ids] == [1 - int(n[-1]) % 2 for n in ids()]
    )
    np.testing.assert_array_equal(got.images, load(root).images)


def test_masks(download):
    root, truth = download
    for name in ids():
        got = idrid_segmentation.masks(root, name)
        assert list(got) == ["MA", "HE", "EX", "SE", "OD"]
        for kind, mask in got.items():
            assert mask.dtype == bool
            np.testing.assert_array_equal(mask, truth[name, kind], err_msg=f"{name} {kind}")


def classes_of(truth, name):
    """The first kind that each pixel has, counted from 1."""
    found = np.zeros((16, 24), np.uint8)
    for number, kind in reversed([*enumerate(FOLDERS, 1)]):
        found[truth[name, kind]] = number
    return found


def test_masks_of_all_images_stream(download):
    """They are cut as the images are: 16 x 24 to the columns from 4 to 20."""
    root, truth = download
    got, lazy, plain = load(root, masks=True), load(root, masks=True, memory_mib=0), load(root)
    assert got.mask_classes[0] == "background" and len(got.mask_classes) == 6 and got.masked.all()
    assert got.ids.tolist() == plain.ids.tolist() and got.fingerprint == lazy.fingerprint != plain.fingerprint
    np.testing.assert_array_equal(got.images, plain.images)
    expected = np.stack([classes_of(truth, name)[:, 4:20] for name in ids()])
    np.testing.assert_array_equal(got.masks, expected)
    assert not isinstance(lazy.masks, np.ndarray)
    np.testing.assert_array_equal(lazy.masks[:], expected)


def test_kinds_of_choice_and_where_they_overlap(download):
    root, truth = download
    overlapping = [name for name in ids() if (truth[name, "EX"] & truth[name, "HE"]).any()]
    assert overlapping
    for kinds in (("EX",), ("EX", "HE")):
        got = load(root, masks=True, kinds=kinds)
        assert got.mask_classes == ("background", "hard exudates", "haemorrhages")[: 1 + len(kinds)]
        for name, mask in zip(got.ids, got.masks, strict=True):
            np.testing.assert_array_equal(mask == 1, truth[name, "EX"][:, 4:20])
            if len(kinds) == 2:
                np.testing.assert_array_equal(mask == 2, (truth[name, "HE"] & ~truth[name, "EX"])[:, 4:20])
    with refuses("unknown-name", "data.options.kinds", "vessels"):
        load(root, masks=True, kinds="vessels")


def test_masks_are_read_again_when_a_file_changes(download):
    root, _ = download
    at = ids().index("train/IDRiD_01")
    assert not (load(root, masks=True).masks[at] == 4).any()
    mask_file(next(root.rglob("IDRiD_01_SE.tif")), np.ones((16, 24), bool), "RGBA")
    assert (load(root, masks=True).masks[at] == 4).any()


def test_broken_masks_stop_or_are_skipped(download):
    root, _ = download
    next(root.rglob("IDRiD_02_SE.tif")).write_bytes(b"II*\0 broken")
    mask_file(next(root.rglob("IDRiD_04_SE.tif")), np.ones((16, 30), bool), "L")
    says = r"^2 of 12 files cannot be read: mask of train/IDRiD_02 \(IDRiD_02_SE\.tif cannot be read as a mask: .*\); "
    with pytest.raises(UserError, match=says + r"mask of train/IDRiD_04 \(IDRiD_04_SE\.tif is \(16, 30\), and its"):
        load(root, masks=True)
    got = load(root, masks=True, on_bad_file="skip")
    assert {*got.ids[~got.masked]} == {"train/IDRiD_02", "train/IDRiD_04"}


def test_grading_part_beside_it(download):
    root, _ = download
    for folder, _ in SIDES.values():
        path = root / "B. Disease Grading" / "1. Original Images" / folder / "IDRiD_001.jpg"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (24, 16)).save(path)
    assert load(root).ids.tolist() == ids()


def test_what_is_missing_or_wrong(download, tmp_path):
    root, _ = download
    with pytest.raises(UserError, match=r"data\.options\.label is 'XX': it must be one of MA, HE, EX, SE, OD"):
        load(root, label="XX")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"^A\. Segmentation/1\. Original Images/.* not found under data\.manual_dir="):
        load(tmp_path / "empty")
    with pytest.raises(UserError, match=r"data\.options\.label=MA: microaneurysms are present in every image"):
        load(root, label="MA")
    with pytest.raises(UserError, match=r"^data\.manual_dir=.*nowhere is not a folder: download 'A\. Segmentation'"):
        idrid_segmentation.masks(tmp_path / "nowhere", "train/IDRiD_01")
    with pytest.raises(UserError, match=r"train/IDRiD_99 is none of the 12 images under"):
        idrid_segmentation.masks(root, "train/IDRiD_99")
    wide = next(root.rglob("IDRiD_02_SE.tif"))
    mask_file(wide, np.ones((16, 30), bool), "L")
    with pytest.raises(UserError, match=r"IDRiD_02_SE\.tif is \(16, 30\), and its image \(16, 24\)"):
        idrid_segmentation.masks(root, "train/IDRiD_02")
    wide.write_bytes(b"II*\0 broken")
    for call in (lambda: idrid_segmentation.masks(root, "train/IDRiD_02"), lambda: load(root, label="SE")):
        with pytest.raises(UserError, match=r"IDRiD_02_SE\.tif cannot be read as a mask: .*: download it again$"):
            call()
    with pytest.raises(UserError, match=r"IDRiD_02\.jpg|neither PNG"):
        next(root.rglob("IDRiD_02.jpg")).write_bytes(b"broken")
        idrid_segmentation.masks(root, "train/IDRiD_02")
    for path in root.rglob("*_SE.tif"):
        path.unlink()
    with pytest.raises(UserError, match=r"^2\. All Segmentation Groundtruths/.*IDRiD_\*_SE\.tif not found"):
        load(root, label="SE")
