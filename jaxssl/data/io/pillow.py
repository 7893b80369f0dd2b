"""PNG, JPEG, BMP, WebP, GIF (the first frame), PGM and JPEG 2000 files, decoded by Pillow."""

import io
import zlib
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxssl.data.io import arrays, unknown

EXTENSIONS = (".bmp", ".gif", ".j2k", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "PPM", "JPEG2000")
_KNOWN = "PNG, JPEG, TIFF, BMP, WebP, GIF, PGM, JPEG 2000, npy, DICOM nor FITS"
_PNG = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x0112  # Tag of EXIF.
_NEEDED_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")  # Of PNG, to decode the pixels.


def matches(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is of these formats."""
    return head.startswith((_PNG, b"\xff\xd8\xff", b"BM", b"GIF8", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  "))


def read(opened: BinaryIO, size: int | None = None) -> np.ndarray:
    """Read one image. See `images.read`."""
    head = opened.read(26)
    opened.seek(0)
    if head.startswith(b"\x89PNG") and len(head) > 25 and head[24] == 16 and head[25] != 0:
        # Pillow reads 8 of its bits.
        raise ValueError("a 16-bit PNG in colour would be cut to 8 bits: save it as TIFF or npy")
    if head.startswith(_PNG):
        opened = keep_pixels(opened)
    return decode(opened, FORMATS, size)


def keep_pixels(opened: BinaryIO) -> BinaryIO:
    """Drop the chunks of a PNG that are not needed for its pixels: damaged texts must not make it unreadable.

    The orientation that an `eXIf` chunk gives is kept.
    """
    content = opened.read()
    kept, at = [_PNG], len(_PNG)
    while at + 8 <= len(content):
        length, kind = int.from_bytes(content[at : at + 4]), content[at + 4 : at + 8]
        chunk = content[at : at + 12 + length]
        if kind in _NEEDED_CHUNKS or (kind == b"eXIf" and _is_whole(chunk)):
            kept.append(chunk)
        at += 12 + length
        if kind == b"IEND":
            break
    return io.BytesIO(b"".join(kept))


def _is_whole(chunk: bytes) -> bool:
    return zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:])


def decode(opened: BinaryIO, formats: tuple[str, ...], size: int | None) -> np.ndarray:
    """Decode a file of one of these formats of Pillow to grey or RGB.

    Args:
      opened: the file, at its start.
      formats: names of formats as Pillow has them.
      size: see `images.read`.

    Returns:
      [H, W, 1 or 3] uint8, uint16 or float32, turned upright by its EXIF orientation, without alpha.
    """
    try:
        image = Image.open(opened, formats=formats)
    except UnidentifiedImageError:
        opened.seek(0)
        raise ValueError(unknown.describe(opened.read(1024), _KNOWN)) from None
    arrays.check_pixels(*image.size)
    if size is not None and image.format == "JPEG":
        image.draft(None, (2 * size, 2 * size))
    image.load()  # Before EXIF is read: errors of the pixels must not pass for errors of EXIF.
    image = upright(image)
    if image.mode.startswith("I"):
        return arrays.as_image(np.asarray(image).astype(np.uint16))
    if image.mode == "F":
        return arrays.as_image(np.asarray(image))
    if image.mode in ("1", "L", "LA", "La"):
        grey = "LA" if image.mode != "1" and image.has_transparency_data else "L"
        return arrays.remove_alpha(np.atleast_3d(np.asarray(image.convert(grey))))
    colour = "RGBA" if image.has_transparency_data else "RGB"
    return arrays.remove_alpha(np.asarray(image.convert(colour)))


def upright(image: Image.Image) -> Image.Image:
    """Turn an image by its EXIF orientation; EXIF that is broken is ignored."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return image
    return ImageOps.exif_transpose(image) if orientation in range(2, 9) else image
