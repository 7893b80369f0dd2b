"""PNG and JPEG files, decoded by Pillow."""

from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxssl.data.io import arrays

EXTENSIONS = (".jpeg", ".jpg", ".png")
_FORMATS = ("JPEG", "PNG")


def matches(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is of these formats."""
    return head.startswith((b"\x89PNG", b"\xff\xd8\xff"))


def read(opened: BinaryIO, size: int | None = None) -> np.ndarray:
    """Read one image. See `images.read`."""
    head = opened.read(26)
    opened.seek(0)
    if head.startswith(b"\x89PNG") and len(head) > 25 and head[24] == 16 and head[25] != 0:
        # Pillow reads 8 of its bits.
        raise ValueError("a 16-bit PNG in colour would be cut to 8 bits: save it as TIFF or npy")
    return decode(opened, _FORMATS, size)


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
        raise ValueError("neither PNG, JPEG, TIFF, npy, DICOM nor FITS, or its head is broken") from None
    arrays.check_pixels(*image.size)
    if size is not None and image.format == "JPEG":
        image.draft(None, (2 * size, 2 * size))
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return arrays.as_image(np.asarray(image).astype(np.uint16))
    if image.mode == "F":
        return arrays.as_image(np.asarray(image))
    if image.mode in ("1", "L", "LA", "La"):
        grey = "LA" if image.mode != "1" and image.has_transparency_data else "L"
        return arrays.remove_alpha(np.atleast_3d(np.asarray(image.convert(grey))))
    colour = "RGBA" if image.has_transparency_data else "RGB"
    return arrays.remove_alpha(np.asarray(image.convert(colour)))
