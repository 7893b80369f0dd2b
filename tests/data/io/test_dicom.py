"""DICOM files: those that pydicom comes with, and some made here for what they do not show."""

import sys

import numpy as np
import pytest
from PIL import Image

from jaxssl.data.datasets import folder
from jaxssl.data.io import images, loading
from jaxssl.errors import UserError

pydicom = pytest.importorskip("pydicom", reason="the extra [dicom] is not installed")

from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGLosslessSV1

RNG = np.random.default_rng(0)
STORED = RNG.integers(0, 4096, (20, 30)).astype(np.uint16)


def save(path, array, syntax=ExplicitVRLittleEndian, **fields):
    """A file of grey or colour of these stored values; `fields` are added to it, or left out of it where None."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = "1.2.840.10008.5.1.4.1.1.7", "1.2.3", "OT"
    data.Rows, data.Columns = array.shape[:2]
    data.SamplesPerPixel = array.shape[2] if array.ndim == 3 else 1
    if array.ndim == 3:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = "RGB" if array.ndim == 3 else "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * array.itemsize
    data.PixelRepresentation = int(array.dtype.kind == "i")
    data.PixelData = array.tobytes()
    for name, value in fields.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.HighBit = data.BitsStored - 1
    data["PixelData"].VR = "OB" if array.itemsize == 1 else "OW"
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def read(path):
    with loading.strict_decoders():
        return images.read(path)


def item(**fields):
    data = Dataset()
    for name, value in fields.items():
        setattr(data, name, value)
    return data


# What the values mean


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int8, np.int16, np.uint32])
@pytest.mark.parametrize("rescale", [{}, {"RescaleSlope": 1, "RescaleIntercept": 0}])
def test_stored_values_keep_their_bits(tmp_path, dtype, rescale):
    stored = RNG.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, (20, 30), dtype, endpoint=True)
    got = read(save(tmp_path / "x.dcm", stored, **rescale))
    assert got.shape == (20, 30, 1) and got.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    np.testing.assert_array_equal(got[..., 0], stored.astype(got.dtype))


@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (0.25, 0), (-2, 7.5)])
@pytest.mark.parametrize("signed", [False, True])
def test_slope_and_intercept(tmp_path, slope, intercept, signed):
    stored = STORED.astype(np.int16) - 1000 if signed else STORED
    got = read(save(tmp_path / "x.dcm", stored, RescaleSlope=slope, RescaleIntercept=intercept))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[..., 0], stored.astype(float) * slope + intercept, rtol=1e-6)


def test_slope_of_an_enhanced_file(tmp_path):
    deeper = item(PixelValueTransformationSequence=[item(RescaleSlope=2, RescaleIntercept=-5)])
    path = save(tmp_path / "x.dcm", STORED, NumberOfFrames=1, SharedFunctionalGroupsSequence=[deeper])
    np.testing.assert_array_equal(read(path)[..., 0], 2.0 * STORED - 5)


def test_computed_tomography_is_in_hounsfield_units():
    """Of a file with two bytes a value, with sign, slope 1 and intercept -1024, read here without pydicom's pixels."""
    path = get_testdata_file("CT_small.dcm", download=False)
    got = read(path)
    stored = np.frombuffer(pydicom.dcmread(path).PixelData, "<i2").reshape(128, 128)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[..., 0], stored - 1024.0)


def test_monochrome1_is_inverted_within_its_bits(tmp_path):
    path = save(tmp_path / "x.dcm", STORED, PhotometricInterpretation="MONOCHROME1", BitsStored=12)
    got = read(path)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[..., 0], 4095 - STORED.astype(int))
    path = save(path, STORED, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read(path)[..., 0], 65535 - STORED.astype(int))


def test_monochrome1_with_sign_and_slope(tmp_path):
    stored = np.array([[-2048, 2047], [0, -1]], np.int16)
    rescale = {"RescaleSlope": 2, "RescaleIntercept": 10}
    path = save(tmp_path / "x.dcm", stored, PhotometricInterpretation="MONOCHROME1", BitsStored=12, **rescale)
    np.testing.assert_array_equal(read(path)[..., 0], [[2 * 2047 + 10, 2 * -2048 + 10], [2 * -1 + 10, 10]])


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_table_of_values(tmp_path, kind):
    """That of C.11.1: stored values from 2 on stand for these, lower and higher ones for the first and the last."""
    lut = item(LUTDescriptor=[3, 2, 16], ModalityLUTType="US", LUTData=np.array([100, 5000, 60000], "<u2").tobytes())
    path = save(
        tmp_path / "x.dcm",
        np.array([[0, 2, 3], [4, 5, 200]], np.uint8),
        ModalityLUTSequence=[lut],
        PhotometricInterpretation=kind,
    )
    want = np.array([[100, 100, 5000], [60000, 60000, 60000]])
    np.testing.assert_array_equal(read(path)[..., 0], want if kind == "MONOCHROME2" else 65535 - want)


def test_window_is_not_applied(tmp_path):
    path = save(tmp_path / "x.dcm", STORED, WindowCenter=100, WindowWidth=50)
    np.testing.assert_array_equal(read(path)[..., 0], STORED)


def test_one_bit(tmp_path):
    bits = RNG.integers(0, 2, (8, 16)).astype(np.uint8)
    path = save(tmp_path / "x.dcm", bits, BitsAllocated=1, BitsStored=1)
    packed = pydicom.dcmread(path)
    packed.PixelData = np.packbits(bits, bitorder="little").tobytes()
    packed.save_as(path)
    np.testing.assert_array_equal(read(path)[..., 0], 255 * bits)


# Colours


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colour(tmp_path, dtype):
    colour = RNG.integers(0, np.iinfo(dtype).max, (20, 30, 3)).astype(dtype)
    got = read(save(tmp_path / "x.dcm", colour))
    assert got.dtype == dtype and (got == colour).all()


def test_ybr_becomes_rgb(tmp_path):
    """By Pillow's conversion, which is that of JFIF too."""
    colour = np.asarray(Image.fromarray(RNG.integers(0, 256, (5, 6, 3)).astype(np.uint8)).resize((30, 20)))
    stored = np.asarray(Image.fromarray(colour).convert("YCbCr"))
    got = read(save(tmp_path / "x.dcm", stored, PhotometricInterpretation="YBR_FULL"))
    assert got.dtype == np.uint8 and np.abs(got.astype(int) - colour).max() <= 3 < np.abs(stored - 1.0 * colour).mean()


def test_palette_becomes_rgb(tmp_path):
    entries = RNG.integers(0, 256, (256, 3)).astype(np.uint8)
    names = [f"{name}PaletteColorLookupTable" for name in ("Red", "Green", "Blue")]
    luts = {f"{name}Descriptor": [256, 0, 8] for name in names}
    luts |= {f"{name}Data": entries[:, i].tobytes() for i, name in enumerate(names)}
    stored = RNG.integers(0, 256, (20, 30)).astype(np.uint8)
    got = read(save(tmp_path / "x.dcm", stored, PhotometricInterpretation="PALETTE COLOR", **luts))
    np.testing.assert_array_equal(got, entries[stored])


# Encodings


@pytest.mark.parametrize("kind", ["RLE", "bigendian", "expb", "implicit", "jp2klossless", "padded"])
def test_one_image_in_every_encoding(kind):
    want, got = (read(get_testdata_file(f"MR_small{end}.dcm", download=False)) for end in ("", f"_{kind}"))
    assert want.shape == (64, 64, 1) and want.std() > 100
    np.testing.assert_array_equal(got, want)


LOSSY = ["dcmtk_+eb+cr", "dcmtk_+eb+cy+n1", "dcmtk_+eb+cy+np", "dcmtk_+eb+cy+s4", "jpeg_lossy_gdcm"]


@pytest.mark.parametrize("kind", LOSSY)
def test_jpeg_in_rgb_and_ybr(kind):
    want, got = (read(get_testdata_file(f"SC_rgb_{name}.dcm", download=False)) for name in ("rle", kind))
    assert got.shape == want.shape == (100, 100, 3) and got.dtype == want.dtype == np.uint8
    assert np.abs(got.astype(int) - want).mean() < 3


# Files in a folder


def test_folder_finds_files_without_an_extension(tmp_path):
    for name in ("a/x.dcm", "a/y.DICOM", "b/IM0001", "b/1.2.840.113619.2"):
        save(tmp_path / name, STORED)
    for name in ("a/README", "a/notes.1", "DICOMDIR"):
        (tmp_path / name).write_bytes(bytes(128) + (b"DICM" if name == "DICOMDIR" else b"text"))
    got = folder.load(dir=str(tmp_path), size=20, fit="crop")
    assert got.ids.tolist() == ["a/x.dcm", "a/y.DICOM", "b/1.2.840.113619.2", "b/IM0001"]
    assert got.images.dtype == np.float32 and (got.images[..., 0] == STORED[:, 5:25]).all()


@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (0.5, 0)])
def test_files_of_one_series_may_be_rescaled_otherwise(tmp_path, slope, intercept):
    save(tmp_path / "a.dcm", STORED, RescaleSlope=1, RescaleIntercept=0)
    save(tmp_path / "b.dcm", STORED, RescaleSlope=slope, RescaleIntercept=intercept)
    got = folder.load(dir=str(tmp_path), size=20, fit="crop").images[..., 0]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[1], got[0] * slope + intercept)


@pytest.mark.parametrize(
    ("tags", "padded"), [({}, [-2000]), ({"PixelPaddingRangeLimit": -1990}, [-2000, -1995, -1990])]
)
def test_padding_takes_no_part(tmp_path, tags, padded):
    stored = STORED.astype(np.int16) - 1000
    for column, value in enumerate(padded):
        stored[:, column] = value
    got = read(save(tmp_path / "x.dcm", stored, PixelPaddingValue=-2000, **tags))[..., 0]
    inside = stored[:, len(padded) :]
    np.testing.assert_array_equal(got[:, len(padded) :], inside)
    assert (got[:, : len(padded)] == inside.min()).all()


def bad_files(root):
    """Each with the reason that must be given."""
    save(root / "frames.dcm", np.zeros((6, 4), np.uint8), Rows=3, NumberOfFrames=2)
    yield "2 frames are not one image"
    save(root / "colours.dcm", np.zeros((6, 4, 3), np.uint8), PhotometricInterpretation="HSV")
    yield "photometric interpretation 'HSV' is not known"
    save(root / "size.dcm", STORED, Rows=20_000, Columns=20_000)
    yield "20000 x 20000 pixels, above the limit"
    save(root / "short.dcm", STORED, PixelData=STORED.tobytes()[:-100])
    yield "less than expected"
    save(root / "deflated.dcm", np.zeros((2000, 2000), np.uint8), DeflatedExplicitVRLittleEndian)
    yield "deflated DICOM has no limit to its size"
    pydicom.dcmread(save(root / "report.dcm", STORED, Rows=None, Modality="SR"))
    yield r"a DICOM file without an image \(SR\)"
    (root / "cut.dcm").write_bytes((root / "colours.dcm").read_bytes()[:300])
    yield ""
    (root / "mark.dcm").write_bytes(bytes(128) + b"DICM" + RNG.bytes(500))
    yield ""
    (root / "nothing.dcm").write_bytes(RNG.bytes(500))
    yield "neither PNG, JPEG"


def test_bad_files_have_a_reason(tmp_path):
    save(tmp_path / "good" / "x.dcm", STORED)
    paths = ["frames", "colours", "size", "short", "deflated", "report", "cut", "mark", "nothing"]
    reasons = dict(zip(paths, bad_files(tmp_path), strict=True))
    for name, why in reasons.items():
        with pytest.raises(UserError, match=rf"^1 of 2 files cannot be read: {name} \(.*{why}.*\): repair") as error:
            files = [tmp_path / f"{name}.dcm", tmp_path / "good" / "x.dcm"]
            loading.stack(lambda i: images.read(files[i]), [name, "good"], 8)
        assert "\n" not in str(error.value)
        held, kept, _ = loading.stack(lambda i: images.read(files[i]), [name, "good"], 8, on_bad_file="skip")
        assert kept.tolist() == [1] and held.shape == (1, 8, 8, 1)


def test_encoding_without_its_plugin():
    path = get_testdata_file("JPEGLSNearLossless_08.dcm", download=False)
    if pydicom.pixels.get_decoder(pydicom.uid.JPEGLSNearLossless).is_available:
        pytest.skip("pydicom has a plugin for JPEG-LS here")
    with pytest.raises(ValueError, match=r"^JPEG-LS Lossy.* needs a plugin of pydicom"):
        read(path)


def test_damaged_bytes_give_an_image_or_an_exception(tmp_path):
    """Whatever is wrong, nothing but an exception ends the reading, and no warning escapes."""
    whole = save(tmp_path / "x.dcm", STORED, RescaleSlope=2, RescaleIntercept=1).read_bytes()
    held = 0
    for _ in range(100):
        damaged = bytearray(whole)
        for at in RNG.integers(132, len(whole) - STORED.nbytes, 3):
            damaged[at] = RNG.integers(256)
        try:
            held += read(bytes(damaged)).ndim == 3
        except Exception as error:
            assert loading.reason(error)
    assert 0 < held < 100


@pytest.mark.parametrize("on_bad_file", ["stop", "skip"])
def test_without_pydicom_one_line_says_what_to_install(tmp_path, monkeypatch, on_bad_file):
    save(tmp_path / "x.dcm", STORED)
    Image.fromarray(STORED).save(tmp_path / "y.png")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UserError, match=r"^DICOM files need the package pydicom: pip install 'jaxssl\[dicom\]'$"):
        folder.load(dir=str(tmp_path), size=8, on_bad_file=on_bad_file)


def test_lossless_jpeg_is_named(tmp_path):
    """The encoding of many archives, which no plugin of pydicom itself reads."""
    if pydicom.pixels.get_decoder(JPEGLosslessSV1).is_available:
        pytest.skip("pydicom has a plugin for lossless JPEG here")
    whole = save(tmp_path / "x.dcm", STORED).read_bytes()
    old, new = (b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.4.70")
    assert whole.count(old) == 1 and len(new) == len(old) + 2
    at = whole.index(old)
    length = int.from_bytes(whole[at - 2 : at], "little")
    group = whole.index(b"\x02\0\0\0UL\x04\0") + 8
    total = int.from_bytes(whole[group : group + 4], "little") + 2
    head = whole[:group] + total.to_bytes(4, "little") + whole[group + 4 : at - 2] + (length + 2).to_bytes(2, "little")
    with pytest.raises(ValueError, match=r"^JPEG Lossless.* needs a plugin of pydicom"):
        read(head + new + whole[at + len(old) :])


@pytest.mark.parametrize("name", ["JPEGLSNearLossless_08.dcm", "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_gdcm.dcm"])
def test_encodings_of_the_extra(name):
    pytest.importorskip("gdcm", reason="the extra [dicom] is not installed")
    path = get_testdata_file(name, download=False)
    got, data = read(path), pydicom.dcmread(path)
    assert got.shape == (data.Rows, data.Columns, data.SamplesPerPixel) and got.min() < got.max()


@pytest.mark.parametrize("explicit", [True, False])
def test_file_without_preamble(tmp_path, explicit):
    whole = pydicom.dcmread(save(tmp_path / "x.dcm", STORED))
    whole.file_meta, whole.preamble = FileMetaDataset(), None
    whole.save_as(tmp_path / "y.dcm", implicit_vr=not explicit, little_endian=True)
    assert (tmp_path / "y.dcm").read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(read(tmp_path / "y.dcm")[..., 0], STORED)
