"""Volumes and frames by slices."""

import numpy as np
import pytest
import tifffile

from jaxssl.data import splits
from jaxssl.data.audit import items
from jaxssl.data.audit.report import audit_files
from jaxssl.data.datasets import folder
from jaxssl.data.io import volumes
from tests.refusals import refuses

nibabel = pytest.importorskip("nibabel", reason="the extra [nifti] is not installed")
RNG = np.random.default_rng(0)


def save(path, volume, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4) if affine is None else affine), path)
    return path


@pytest.fixture
def root(tmp_path):
    for k in range(12):
        save(tmp_path / "ab"[k % 2] / f"s{k:02d}.nii.gz", RNG.normal(100 * (k % 2), 9, (20, 24, 6)).astype(np.float32))
    return tmp_path


def test_slices_are_images_and_volumes_are_groups(root):
    got = folder.load(dir=str(root), size=16)
    assert got.images.shape == (72, 16, 16, 1) and got.images.dtype == np.float32 and got.groups_known
    assert got.ids[:2].tolist() == ["a/s00.nii.gz:000", "a/s00.nii.gz:001"] and set(got.groups) >= {"a/s00.nii.gz"}
    parts = splits.split(got, seed=0, validation=0.2, test=0.3)
    sides = [{got.groups[i] for i in rows} for rows in parts.values()]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_are_those_of_the_axis_in_ras(tmp_path, axis):
    volume = RNG.normal(size=(17, 18, 19)).astype(np.float32)
    # Stored from right to left.
    save(tmp_path / "x.nii", volume[::-1], np.diag([-1.0, 1, 1, 1]))
    names = volumes.name_slices(tmp_path, "x.nii", axis, (0, 1))
    assert len(names) == volume.shape[axis]
    for i in (0, 5):
        want = np.rot90(np.take(volume, i, axis))
        np.testing.assert_array_equal(volumes.read(tmp_path, names[i], None, axis)[..., 0], want)


def test_part_of_the_slices(root):
    got = folder.load(dir=str(root), size=8, slice_range=(0.3, 0.7))
    assert {i.rpartition(":")[2] for i in got.ids} == {"001", "002", "003"}
    for options, field in (({"slice_axis": 3}, "slice_axis"), ({"slice_range": (0.7, 0.3)}, "slice_range")):
        with refuses("out-of-range", f"data.options.{field}"):
            folder.load(dir=str(root), size=8, **options)


def test_table_and_pattern_name_volumes(root):
    rows = [f"{'ab'[k % 2]}/s{k:02d},{k % 2},p{k // 4}" for k in range(12)]
    (root / "t.csv").write_text("\n".join(["path,label,group", *rows]))
    got = folder.load(dir=str(root), size=8, table="t.csv")
    assert len(got.ids) == 72 and set(got.groups) == {"p0", "p1", "p2"} and got.classes == ("0", "1")
    assert set(folder.load(dir=str(root), size=8, group_pattern=r"s(\d\d)").groups) == {f"{k:02d}" for k in range(12)}


def test_audit_of_volumes(root):
    report = audit_files(items.list_folder(str(root), slice_range=(0.0, 0.5)))
    assert report["images"] == 36 and report["groups"]["count"] == 12 and not report["unreadable"]


def test_stacks_and_frames_only_where_asked_for(tmp_path):
    stack = RNG.integers(0, 256, (20, 30, 40), np.uint8)
    for name in "ab":
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "x.npy", stack)
        tifffile.imwrite(tmp_path / name / "y.tif", stack)
    with refuses("unreadable", "data.on_bad_file", "4 of 4"):
        folder.load(dir=str(tmp_path), size=8)
    got = folder.load(dir=str(tmp_path), size=8, slices=True, slice_axis=0)
    assert len(got.ids) == 80 and len(set(got.groups)) == 4
    np.testing.assert_array_equal(volumes.read(tmp_path, "a/x.npy:003", None, 0)[..., 0], stack[3])
    np.testing.assert_array_equal(volumes.read(tmp_path, "a/y.tif:003", None, 0)[..., 0], stack[3])


def test_frames_of_dicom(tmp_path):
    pydicom = pytest.importorskip("pydicom", reason="the extra [dicom] is not installed")
    from pydicom.dataset import Dataset, FileMetaDataset

    frames = RNG.integers(0, 4096, (5, 20, 30)).astype(np.uint16)
    for name in "ab":
        (tmp_path / name).mkdir()
        data = Dataset()
        data.Rows, data.Columns, data.NumberOfFrames, data.SamplesPerPixel = 20, 30, 5, 1
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
        data.PhotometricInterpretation, data.PixelData = "MONOCHROME2", frames.tobytes()
        data.RescaleSlope, data.RescaleIntercept = 2, -5
        data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", pydicom.uid.generate_uid()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        data.save_as(tmp_path / name / "x.dcm", enforce_file_format=True)
    with refuses("unreadable", "data.on_bad_file", "5 frames are not one image", "slices=True"):
        folder.load(dir=str(tmp_path), size=8)
    assert len(folder.load(dir=str(tmp_path), size=8, slices=True).ids) == 10
    np.testing.assert_array_equal(volumes.read(tmp_path, "a/x.dcm:002", None, 2)[..., 0], frames[2] * 2.0 - 5)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/{}.nii.gz", "masks/{}.nii.gz"),
        ("{}.nii.gz", "{}_seg.nii.gz"),
        ("imagesTr/{}.nii.gz", "labelsTr/{}.nii.gz"),
        ("imagesTr/{}_0000.nii.gz", "labelsTr/{}.nii.gz"),
    ],
)
def test_volumes_have_masks(tmp_path, image, mask):
    """The masks are stored from right to left, and still are those of the slices that they were made of."""
    labels = RNG.integers(0, 3, (2, 8, 9, 4)).astype(np.uint8)
    for i, label in enumerate(labels):
        save(tmp_path / image.format(f"x{i}"), np.float32(label) * 10)
        save(tmp_path / mask.format(f"x{i}"), label[::-1], np.array([[-1, 0, 0, 7], *np.eye(4)[1:]]))
    (tmp_path / "dataset.json").write_text('{"labels": {"0": "background", "1": "edema", "2": "core"}}')
    got = folder.load(dir=str(tmp_path), size=9, masks="auto")
    assert got.mask_classes == ("background", "edema", "core") and len(got.ids) == 8 and got.classes == ()
    want = [np.rot90(label[..., i]) for label in labels for i in range(4)]
    inner = got.masks[:, :, :8] if (got.masks[:, :, 8] == 255).all() else got.masks[:, :, 1:]  # Padded on one side.
    np.testing.assert_array_equal(inner, want)


def test_a_mask_of_another_grid_is_refused(tmp_path):
    volume = RNG.normal(size=(8, 9, 4)).astype(np.float32)
    label = np.zeros((8, 9, 4), np.uint8)
    save(tmp_path / "images/x.nii", volume)
    for mask, affine, what in ((label, np.diag([-1.0, 1, 1, 1]), "elsewhere"), (label[..., :3], None, "(8, 9, 3)")):
        save(tmp_path / "masks/x.nii", mask, affine)
        with refuses("unreadable", "data.on_bad_file", what):
            folder.load(dir=str(tmp_path), size=8, masks="auto")
    save(tmp_path / "masks/x.nii", label)
    save(tmp_path / "imagesTr/y_0001.nii", volume)
    with refuses("unsupported", "data.options.masks", "y_0001"):
        folder.load(dir=str(tmp_path), size=8, masks="auto")
