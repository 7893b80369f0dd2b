"""Formats beside PNG and JPEG, metadata that must not matter, and files that are something else."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from jaxssl.data.datasets import folder
from jaxssl.data.io import images, loading

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (20, 30, 3), np.uint8)
GREY = RNG.integers(0, 256, (20, 30), np.uint8)


def read(content):
    with loading.strict_decoders():
        return images.read(content)


def encode(array, kind, **kw):
    opened = io.BytesIO()
    Image.fromarray(array).save(opened, kind, **kw)
    return opened.getvalue()


@pytest.mark.parametrize(
    ("kind", "kw"), [("BMP", {}), ("WEBP", {"lossless": True}), ("JPEG2000", {"irreversible": False}), ("PPM", {})]
)
def test_lossless_formats(kind, kw):
    np.testing.assert_array_equal(read(encode(COLOUR, kind, **kw)), COLOUR)


@pytest.mark.parametrize("kind", ["BMP", "PPM", "GIF", "JPEG2000"])
def test_grey(kind):
    got = read(encode(GREY, kind))
    np.testing.assert_array_equal(got, np.broadcast_to(GREY[..., None], got.shape))


def test_16_bits_of_pgm_and_jpeg_2000():
    array = RNG.integers(0, 65536, (20, 30)).astype(np.uint16)
    pgm = b"P5 30 20 65535\n" + array.astype(">u2").tobytes()
    for content in (pgm, encode(array, "JPEG2000")):
        got = read(content)
        assert got.dtype == np.uint16
        np.testing.assert_array_equal(got[..., 0], array)


def test_frames_after_the_first_of_a_gif_are_said_to_be_unused(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        frames = [Image.fromarray(RNG.integers(0, 256, (8, 8), np.uint8)) for _ in range(3)]
        frames[0].save(tmp_path / name / "x.gif", save_all=True, append_images=frames[1:])
    got = folder.load(dir=str(tmp_path), size=8)
    assert len(got.ids) == 2 and "frames after the first of 2 GIF files" in got.unread


@pytest.mark.parametrize("name", ["x.bmp", "x.webp", "x.jp2", "x.gif", "x.pgm", "x.fts", "x.fit.gz", "x.IMA", "x.JPG"])
def test_extensions(tmp_path, name):
    assert images.is_image(tmp_path / name)


# Metadata


def chunk(kind, body, right=True):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) + (not right))


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"tEXt", b"Comment\0" + 50 * b"x", right=False),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2_000_000))),
        chunk(b"iCCP", b"broken\0\0nothing"),
        chunk(b"eXIf", b"not exif"),
        chunk(b"pHYs", b""),
    ],
)
def test_damaged_metadata_of_a_png_do_not_matter(extra):
    content = encode(COLOUR, "PNG")
    np.testing.assert_array_equal(read(content[:33] + extra + content[33:]), COLOUR)


def test_damaged_exif_of_a_jpeg_does_not_matter():
    content = encode(COLOUR, "JPEG", quality=95)
    body = b"Exif\0\0II*\0\xff\xff\xff\xff"
    spoilt = content[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + content[2:]
    np.testing.assert_array_equal(read(spoilt), read(content))


def test_orientation_of_a_png_is_kept():
    exif = Image.Exif()
    exif[0x0112] = 6
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "x")
    got = read(encode(COLOUR, "PNG", exif=exif, pnginfo=text))
    np.testing.assert_array_equal(got, np.rot90(COLOUR, -1))


# Something else


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "an empty file"),
        (bytes(3000), "a file of zeros"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "an HTML page"),
        (b'<?xml version="1.0"?><svg/>', "an XML or SVG file"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"PK\3\4" + bytes(100), "a zip archive: unpack it"),
        (b"\0\0\0\x18ftypheic" + bytes(100), "HEIC"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
        (b"just text", "neither PNG, JPEG"),
    ],
)
def test_files_that_are_something_else_are_called_so(content, says):
    with pytest.raises(ValueError, match=says):
        read(content)


def test_a_reason_keeps_its_end():
    text = loading.reason(ValueError("x" * 500 + ": do this"))
    assert len(text) <= 310 and text.endswith(": do this")


@pytest.mark.parametrize(
    ("shape", "says"),
    [((2**40, 2), "above the limit"), ((10**9, 10**9), "above the limit"), ((9000, 9000), "more than the file holds")],
)
def test_npy_that_states_more_than_it_holds_is_not_loaded(shape, says):
    opened = io.BytesIO()
    np.lib.format.write_array_header_1_0(opened, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with pytest.raises(ValueError, match=says):
        read(opened.getvalue() + bytes(100))


# TIFF


CODECS = ["lzw", "zstd", "adobe_deflate", "packbits", "lzma"]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "array",
    [
        RNG.integers(0, 65536, (20, 30, 3)).astype(np.uint16),
        RNG.integers(0, 65536, (4, 20, 30)).astype(np.uint16),
        RNG.integers(-100, 100, (20, 30)).astype(np.int16),
        RNG.normal(size=(20, 30)),
    ],
    ids=["16-bit colour", "pages", "signed", "double"],
)
def test_compressed_tiff(tmp_path, array, codec):
    pytest.importorskip("imagecodecs", reason="the extra [tiff] is not installed")
    tifffile.imwrite(
        tmp_path / "x.tif", array, compression=codec, photometric="rgb" if array.shape[-1] == 3 else "minisblack"
    )
    got = read(tmp_path / "x.tif")
    want = np.moveaxis(array, 0, -1) if array.shape[0] == 4 else array
    np.testing.assert_array_equal(np.squeeze(got), want.astype(got.dtype))


def test_tiff_without_its_codec_says_what_to_install(tmp_path, monkeypatch):
    pytest.importorskip("imagecodecs", reason="the extra [tiff] is not installed")
    tifffile.imwrite(tmp_path / "x.tif", RNG.integers(0, 9, (20, 30, 3)).astype(np.uint16), compression="zstd")
    message = "<COMPRESSION.ZSTD: 50000> requires the 'imagecodecs' package"

    def fail(self):
        raise ValueError(message)

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", fail)
    with pytest.raises(ValueError, match=r"imagecodecs.*pip install 'jaxssl\[tiff\]'"):
        read(tmp_path / "x.tif")
