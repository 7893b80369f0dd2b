"""FITS files as astropy writes them, and byte by byte as the standard has them."""

import gzip
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxssl.data.datasets import folder
from jaxssl.data.io import arrays, images, loading
from jaxssl.errors import UserError

fits = pytest.importorskip("astropy.io.fits", reason="the extra [fits] is not installed")

RNG = np.random.default_rng(0)
GREY = RNG.normal(100, 30, (20, 30)).astype(np.float32)


def by_hand(array, *cards, bitpix):
    """The bytes of a file by section 3 and 4 of the standard: cards of 80 letters, blocks of 2880, big-endian."""
    axes = [f"NAXIS{i}  = {n}" for i, n in enumerate(array.shape[::-1], 1)]
    head = ["SIMPLE  =                    T", f"BITPIX  = {bitpix}", f"NAXIS   = {array.ndim}", *axes, *cards, "END"]
    text = "".join(card.ljust(80) for card in head).encode()
    data = array.astype(array.dtype.newbyteorder(">")).tobytes()
    return text + b" " * (-len(text) % 2880) + data + bytes(-len(data) % 2880)


def save(path, *arrays, **fields):
    """The first array is the primary one, None for none."""
    units = fits.HDUList([fits.PrimaryHDU(arrays[0]), *(fits.ImageHDU(array) for array in arrays[1:])])
    for name, value in fields.items():
        units[0].header[name] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    units.writeto(path)
    return path


def read(file):
    with loading.strict_decoders():
        return images.read(file)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.uint32, np.float32, np.float64])
def test_values_become_floats(tmp_path, dtype):
    array = (RNG.normal(100, 30, (20, 30)) if np.dtype(dtype).kind == "f" else RNG.integers(0, 250, (20, 30))).astype(
        dtype
    )
    array[0, 0] = 255 if dtype == np.uint8 else 65535 if dtype == np.uint16 else -7 if dtype == np.int16 else 1
    got = read(save(tmp_path / "x.fits", array))
    assert got.dtype == np.float32 and got.dtype.isnative
    np.testing.assert_array_equal(got[..., 0], array.astype(got.dtype))


def test_rows_stay_as_they_are_stored():
    array = np.arange(600, dtype=np.float32).reshape(20, 30)
    np.testing.assert_array_equal(read(by_hand(array, bitpix=-32))[..., 0], array)


def test_scale_and_zero():
    stored = RNG.integers(-1000, 1000, (20, 30)).astype(np.int16)
    got = read(by_hand(stored, "BSCALE  = 0.5", "BZERO   = 10.25", bitpix=16))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[..., 0], stored * 0.5 + 10.25)


def test_zero_of_unsigned_16_bits():
    stored = RNG.integers(-32768, 32767, (20, 30), endpoint=True).astype(np.int16)
    got = read(by_hand(stored, "BSCALE  = 1", "BZERO   = 32768", bitpix=16))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[..., 0], stored.astype(int) + 32768)


def test_blank_is_not_finite():
    stored = RNG.integers(0, 100, (20, 30)).astype(np.int16)
    stored[3, 4] = -99
    got = read(by_hand(stored, "BLANK   = -99", bitpix=16))
    assert np.argwhere(~np.isfinite(got)).tolist() == [[3, 4, 0]]
    np.testing.assert_array_equal(got[np.isfinite(got)], stored[stored >= 0])


@pytest.mark.parametrize(
    ("shape", "want"),
    [
        ((20, 30), (20, 30, 1)),
        ((5, 20, 30), (20, 30, 5)),
        ((1, 20, 30), (20, 30, 1)),
        ((1, 1, 20, 30), (20, 30, 1)),
        ((1, 3, 20, 30), (20, 30, 3)),
        ((20, 30, 3), (20, 30, 3)),
    ],
)
def test_axes(tmp_path, shape, want):
    array = RNG.normal(size=shape).astype(np.float32)
    got = read(save(tmp_path / "x.fits", array))
    assert got.shape == want
    inner = array.reshape([n for n in shape if n > 1] if len(shape) > 3 else shape)
    inner = inner[0] if inner.shape[0] == 1 else inner
    as_channels = inner[..., None] if inner.ndim == 2 else inner if shape[-1] == 3 else np.moveaxis(inner, 0, -1)
    np.testing.assert_array_equal(got, as_channels)


def test_first_unit_with_an_image(tmp_path):
    path = tmp_path / "x.fits"
    table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=np.zeros(3))])
    line = fits.ImageHDU(np.zeros(7, np.float32))
    fits.HDUList([fits.PrimaryHDU(), table, line, fits.ImageHDU(GREY), fits.ImageHDU(0 * GREY)]).writeto(path)
    np.testing.assert_array_equal(read(path)[..., 0], GREY)


@pytest.mark.parametrize("kind", ["RICE_1", "GZIP_1"])
def test_compressed_by_tiles(tmp_path, kind):
    array = RNG.integers(0, 65536, (20, 30)).astype(np.uint16)
    unit = fits.CompImageHDU(array, compression_type=kind)
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(tmp_path / "x.fits.fz")
    got = read(tmp_path / "x.fits.fz")
    assert got.dtype == np.float32 and (got[..., 0] == array).all()


def test_folder_takes_every_extension(tmp_path):
    for name in ("a/0.fits", "a/1.FIT", "b/2.fits", "b/3.fits.gz"):
        save(tmp_path / name, GREY)
    save(tmp_path / "c.fits", GREY).rename(tmp_path / "b" / "4.fits.fz")
    got = folder.load(dir=str(tmp_path), size=20, fit="crop")
    assert got.ids.tolist() == ["a/0.fits", "a/1.FIT", "b/2.fits", "b/3.fits.gz", "b/4.fits.fz"]
    assert (tmp_path / "b/3.fits.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert got.images.dtype == np.float32 and (got.images[..., 0] == GREY[:, 5:25]).all()


def test_holes_are_for_the_config(tmp_path):
    holed = GREY.copy()
    holed[10, 15] = np.nan
    save(tmp_path / "x.fits", holed)
    with pytest.raises(UserError, match=r"x\.fits: 1 of its values are NaN"):
        folder.load(dir=str(tmp_path), size=20, fit="crop")
    assert folder.load(dir=str(tmp_path), size=20, fit="crop", nan="zero").images[0, 10, 10, 0] == 0


def zeros(count):
    """A gzip file of so many zeros behind the mark of FITS, written without holding them."""
    packer = zlib.compressobj(9, wbits=31)
    parts = [packer.compress(b"SIMPLE  =                    T".ljust(80))]
    parts += [packer.compress(bytes(2**20)) for _ in range(count >> 20)]
    return b"".join([*parts, packer.flush()])


BAD = {
    "cut off": (by_hand(GREY, bitpix=-32)[:4000], ""),
    "head alone": (by_hand(GREY, bitpix=-32)[:2880], ""),
    "no end": (b"SIMPLE  =                    T".ljust(2880), ""),
    "noise": (b"SIMPLE  =" + RNG.bytes(5000), ""),
    "one axis": (by_hand(GREY[0], bitpix=-32), "without an image of two or three axes"),
    "a volume": (by_hand(np.zeros((40, 40, 40), np.uint8), bitpix=8), "no axis of shape"),
    "large": (
        by_hand(np.zeros((2, 2), np.uint8), bitpix=8)
        .replace(b"NAXIS1  = 2    ", b"NAXIS1  = 60000")
        .replace(b"NAXIS2  = 2    ", b"NAXIS2  = 60000"),
        "60000 x 60000 pixels, above the limit",
    ),
    "other gzip": (gzip.compress(b"text"), "a gzip file that does not hold FITS"),
    "broken gzip": (gzip.compress(by_hand(GREY, bitpix=-32))[:-500], "ended before"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_file_has_a_reason(tmp_path, kind):
    content, why = BAD[kind]
    (tmp_path / "a.fits").write_bytes(content)
    save(tmp_path / "b.fits", GREY)
    with pytest.raises(UserError, match=r"^1 of 2 files cannot be read: a\.fits \(.+\): repair") as error:
        folder.load(dir=str(tmp_path), size=8)
    assert why in str(error.value) and "\n" not in str(error.value)
    assert folder.load(dir=str(tmp_path), size=8, on_bad_file="skip").ids.tolist() == ["b.fits"]


def test_gzip_is_unpacked_to_a_limit(monkeypatch):
    monkeypatch.setattr(arrays, "MAX_BYTES", 8 * 10**6)
    assert len(zeros(2**25)) < 2**16
    with pytest.raises(ValueError, match="above the limit of 8 MB an image"):
        read(zeros(2**25))


def test_many_layers_have_a_limit(monkeypatch):
    monkeypatch.setattr(arrays, "MAX_BYTES", 4000)
    with pytest.raises(ValueError, match="above the limit"):
        read(by_hand(np.zeros((17, 17, 17), np.uint8), bitpix=8))


@pytest.mark.parametrize("on_bad_file", ["stop", "skip"])
def test_without_astropy_one_line_says_what_to_install(tmp_path, monkeypatch, on_bad_file):
    save(tmp_path / "x.fits", GREY)
    Image.fromarray(GREY).save(tmp_path / "y.tif")
    monkeypatch.setitem(sys.modules, "astropy.io.fits", None)
    with pytest.raises(UserError, match=r"^FITS files need the package astropy: pip install 'jaxssl\[fits\]'$"):
        folder.load(dir=str(tmp_path), size=8, on_bad_file=on_bad_file)


def test_odd_headers_make_no_noise(tmp_path, recwarn, capfd):
    """Units that are not of the standard, a date of the old kind, a card without a value: astropy warns of them."""
    odd = by_hand(GREY, "BUNIT   = 'furlongs'", "DATE-OBS= '31/12/99'", "bad-key = 3", "EPOCH   =", bitpix=-32)
    (tmp_path / "x.fits").write_bytes(odd + b"trailing")
    np.testing.assert_array_equal(folder.load(dir=str(tmp_path), size=20, fit="crop").images[0, ..., 0], GREY[:, 5:25])
    assert not recwarn.list and capfd.readouterr() == ("", "")


# Extensions


@pytest.fixture
def bands(tmp_path):
    """Files with bands of 1, 2 and 3 times the first, and their errors."""
    fits = pytest.importorskip("astropy.io.fits", reason="the extra [fits] is not installed")
    for name in "ab":
        (tmp_path / name).mkdir()
        units = [fits.PrimaryHDU()]
        for k, band in enumerate("GRI", 1):
            units += [fits.ImageHDU(k * GREY, name=band), fits.ImageHDU(0 * GREY - 1, name=f"ERR_{band}")]
        fits.HDUList(units).writeto(tmp_path / name / "x.fits")
    return tmp_path


@pytest.mark.parametrize(
    ("extension", "factors"), [("", [1]), ("r", [2]), ("G,R,I", [1, 2, 3]), ("I, G", [3, 1]), ("3", [2])]
)
def test_extensions_by_name(bands, extension, factors):
    got = folder.load(dir=str(bands), size=20, fit="crop", fits_extension=extension).images[0]
    np.testing.assert_array_equal(got, np.stack([k * GREY[:, 5:25] for k in factors], -1))


def test_extensions_that_are_not_read_are_said(bands):
    (line,) = folder.load(dir=str(bands), size=8, fits_extension="G,R,I").unread
    assert line == "extensions of FITS files, as of a/x.fits: ERR_G, ERR_R, ERR_I"
    with pytest.raises(UserError, match=r"no image in an extension 'SCI' .*but in G, ERR_G, R"):
        folder.load(dir=str(bands), size=8, fits_extension="SCI")
