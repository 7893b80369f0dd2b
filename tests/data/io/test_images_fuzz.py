"""Five hundred damaged files: each gives a listed reason or the right image, in the loader and in the audit."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from jaxssl.data.audit import items
from jaxssl.data.audit.report import audit_files
from jaxssl.data.datasets import folder
from jaxssl.data.io import images, loading, resize
from jaxssl.errors import UserError

SIZE = 16
PER_KIND = 25


def encoded(image, format, **kw):
    opened = io.BytesIO()
    image.save(opened, format, **kw)
    return opened.getvalue()


def npy(array):
    opened = io.BytesIO()
    np.save(opened, array)
    return opened.getvalue()


def tiff(array, **kw):
    opened = io.BytesIO()
    tifffile.imwrite(opened, array, **kw)
    return opened.getvalue()


def any_file(rng, image, array):
    """A whole file of one of the four formats, and its extension."""
    kind = rng.integers(5)
    if kind == 0:
        return encoded(image, "PNG"), ".png"
    if kind == 1:
        return encoded(image, "JPEG", quality=90), ".jpg"
    if kind == 2:
        return encoded(image, "TIFF", compression="tiff_lzw"), ".tif"
    return (npy(array), ".npy") if kind == 3 else (tiff(array), ".tiff")


def png_with_sides(data, width, height):
    """The same PNG with another size in its head, the checksum made right."""
    head = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]


def npy_head(shape, descr="<f8"):
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


# Each makes bytes, an extension, and the image that must come out: None where only a reason may, ... for either.


def truncated(rng, image, array):
    data, end = any_file(rng, image, array)
    return data[: rng.integers(1, len(data) * 9 // 10)], end, ...


def flipped(rng, image, array):
    data, end = any_file(rng, image, array)
    damaged = bytearray(data)
    for at in rng.integers(0, len(damaged), 8):
        damaged[at] ^= 1 << int(rng.integers(8))
    return bytes(damaged), end, ...


def flipped_head(rng, image, array):
    data, end = any_file(rng, image, array)
    head = np.frombuffer(data[:64], np.uint8) ^ (rng.integers(0, 256, min(64, len(data))) * (rng.random(64) < 0.1))
    return head.astype(np.uint8).tobytes() + data[64:], end, ...


def spliced(rng, image, array):
    (one, end), (other, _) = any_file(rng, image, array), any_file(rng, image, array)
    return one[: len(one) // 2] + other[len(other) // 2 :], end, ...


def empty(rng, image, array):
    return b"", [".png", ".jpg", ".tif", ".npy"][rng.integers(4)], None


def noise(rng, image, array):
    """Of the disk, or zeros as a download leaves them that was ended."""
    count = int(rng.integers(1, 500))
    return (
        rng.bytes(count) if rng.integers(2) else bytes(count),
        [".png", ".jpg", ".tif", ".npy"][rng.integers(4)],
        None,
    )


def magic_only(rng, image, array):
    starts = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"II*\0", b"MM\0*", b"II+\0", b"\x93NUMPY"]
    return starts[rng.integers(6)] + rng.bytes(int(rng.integers(0, 60))), ".png", None


def other_format(rng, image, array):
    return encoded(image, ["TGA", "PCX", "SGI", "PDF"][rng.integers(4)]), ".png", None


def misnamed(rng, image, array):
    return encoded(image, "PNG"), [".jpg", ".tif", ".npy"][rng.integers(3)], np.asarray(image)


def bomb_png(rng, image, array):
    return png_with_sides(encoded(image, "PNG"), int(rng.integers(11_000, 2**31)), 10_000), ".png", None


def bomb_tiff(rng, image, array):
    data = bytearray(tiff(array[..., 0]))
    with tifffile.TiffFile(io.BytesIO(data)) as opened:
        for name in ("ImageWidth", "ImageLength"):
            tag = opened.pages[0].tags[name]
            struct.pack_into("<I" if tag.dtype == 4 else "<H", data, tag.valueoffset, 60_000)
    return bytes(data), ".tif", None


def bomb_npy(rng, image, array):
    side = int(rng.integers(20_000, 10**9))
    return npy_head((side, side)) + rng.bytes(100), ".npy", None


def wrong_size(rng, image, array):
    width, height = int(rng.integers(1, 3000)), int(rng.integers(50, 3000))
    return png_with_sides(encoded(image, "PNG"), width, height), ".png", None


def objects(rng, image, array):
    opened = io.BytesIO()
    np.save(opened, np.array([array, None], object), allow_pickle=True)
    return opened.getvalue(), ".npy", None


def cmyk(rng, image, array):
    return encoded(image.convert("CMYK"), "TIFF"), ".tif", np.asarray(image)


def one_bit(rng, image, array):
    bits = array[..., 0] > 127
    return encoded(Image.fromarray(bits), "PNG"), ".png", (bits * 255).astype(np.uint8)[..., None]


def palette(rng, image, array):
    few = image.quantize(16)
    return encoded(few, "PNG"), ".png", np.asarray(few.convert("RGB"))


def turned(rng, image, array):
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(image, "TIFF" if rng.integers(2) else "PNG", exif=exif), ".png", np.rot90(np.asarray(image), 3)


def animated(rng, image, array):
    other = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return encoded(image, "PNG", save_all=True, append_images=[other]), ".png", np.asarray(image)


def transparent(rng, image, array):
    clear = image.convert("RGBA")
    clear.putalpha(0)
    return encoded(clear, "PNG"), ".png", np.zeros((*array.shape[:2], 3), np.uint8)


KINDS = (
    *(truncated, flipped, flipped_head, spliced, empty, noise, magic_only, other_format, misnamed, bomb_png),
    *(bomb_tiff, bomb_npy, wrong_size, objects, cmyk, one_bit, palette, turned, animated, transparent),
)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """The folder, and by path the image that must come out."""
    root = tmp_path_factory.mktemp("damaged")
    rng = np.random.default_rng(0)
    wanted = {}
    for make in KINDS:
        for i in range(PER_KIND):
            array = rng.integers(0, 256, (int(rng.integers(20, 40)), int(rng.integers(20, 40)), 3)).astype(np.uint8)
            data, end, image = make(rng, Image.fromarray(array), array)
            path = root / make.__name__ / f"{i:02d}{end}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            wanted[path.relative_to(root).as_posix()] = image
    return root, wanted


def test_each_file_gives_the_right_image_or_an_exception(damaged):
    root, wanted = damaged
    assert len(wanted) == 500
    with loading.strict_decoders():
        for path, want in wanted.items():
            try:
                got = images.read(root / path)
            except Exception as error:
                assert want is None or want is ..., f"{path}: {error!r}"
                continue
            assert want is not None, f"{path} was read as {got.shape}"
            assert got.ndim == 3 and got.dtype in (np.uint8, np.uint16, np.float32) and got.size <= 10**9
            if want is not ...:
                assert got.shape == want.shape and (got == want).all(), path


def test_the_loader_lists_what_it_cannot_read(damaged):
    root, wanted = damaged
    good = sorted(path for path, want in wanted.items() if want is not None and want is not ... and want.shape[2] == 3)
    bad = sorted(path for path, want in wanted.items() if want is None)
    paths = good + bad
    with pytest.raises(UserError) as stopped:
        loading.stack(lambda i: images.read(root / paths[i], SIZE), paths, SIZE)
    message = str(stopped.value)
    assert message.startswith(f"{len(bad)} of {len(paths)} files cannot be read: {bad[0]} (") and "\n" not in message
    held, kept, _ = loading.stack(lambda i: images.read(root / paths[i], SIZE), paths, SIZE, on_bad_file="skip")
    assert held.shape == (len(good), SIZE, SIZE, 3) and [paths[i] for i in kept] == good
    for image, path in zip(held, good, strict=True):
        assert (image == resize.fit(np.ascontiguousarray(wanted[path]), SIZE, "pad")).all(), path


def test_the_folder_of_all_of_them_is_one_line(damaged):
    with pytest.raises(UserError) as stopped:
        folder.load(dir=str(damaged[0]), size=SIZE)
    assert "of 500 files cannot be read" in str(stopped.value) and "\n" not in str(stopped.value)


def test_the_audit_lists_every_one_with_its_reason(damaged):
    root, wanted = damaged
    report = audit_files(items.list_folder(str(root)))
    reasons = {row["path"]: row for row in report["unreadable"]}
    assert report["images"] == 500 and report["counts"]["all"] == {kind.__name__: PER_KIND for kind in KINDS}
    for path, want in wanted.items():
        assert want is ... or (path in reasons) == (want is None), path
    assert all(row["why"] and "\n" not in row["why"] for row in reasons.values())
    expected = {"empty": "empty"} | dict.fromkeys(("bomb_png", "bomb_tiff", "bomb_npy", "objects"), "refused")
    for path, row in reasons.items():
        assert row["kind"] == expected.get(path.split("/")[0], row["kind"]), row
    halves = [row["kind"] for path, row in reasons.items() if path.startswith("truncated/")]
    assert len(halves) > PER_KIND / 2 and halves.count("truncated") > len(halves) / 2
    assert {row["path"] for row in report["misnamed"]} >= {path for path in wanted if path.startswith("misnamed/")}
    assert report["orientations"]["6"] >= PER_KIND


def black_png(width, height):
    """A whole RGB PNG of black rows, of a few bytes each: one row packed once, and the checksum by its formula."""
    row = bytes(3 * width + 1)
    packer = zlib.compressobj(9, wbits=-15)
    packed = packer.compress(row) + packer.flush(zlib.Z_FULL_FLUSH)
    adler = (len(row) * height % 65521) << 16 | 1
    pixels = b"\x78\xda" + packed * height + zlib.compressobj(9, wbits=-15).flush() + struct.pack(">I", adler)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [b"IHDR" + head, b"IDAT" + pixels, b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )


def test_a_bomb_is_refused_and_not_unpacked(tmp_path):
    assert not images.read(black_png(300, 200)).any() and images.read(black_png(300, 200)).shape == (200, 300, 3)
    (tmp_path / "a.png").write_bytes(black_png(20_000, 20_000))
    assert (tmp_path / "a.png").stat().st_size < 3e6
    (row,) = audit_files(items.list_folder(str(tmp_path)))["unreadable"]
    assert row["kind"] == "refused" and "bomb" in row["why"]
