"""TIFF files: Pillow where it keeps every bit and channel, as it knows more compressions, otherwise tifffile."""

import logging
from typing import Any, BinaryIO

import numpy as np
import tifffile

from jaxssl.data.io import arrays, pillow

EXTENSIONS = (".tif", ".tiff")
_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_COLOUR = ("RGB", "PALETTE", "SEPARATED", "YCBCR", "CIELAB")


def matches(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is of this format."""
    return head.startswith(_MAGIC)


def read(opened: BinaryIO, size: int | None = None) -> np.ndarray:
    """Read one image: several pages or samples are channels. See `images.read`."""
    del size
    # tifffile logs what it also raises.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    with tifffile.TiffFile(opened) as tiff:
        # Pages outside the first series are thumbnails and the like.
        page: Any = tiff.pages[0]
        series = tiff.series[0]
        arrays.check_pixels(page.imagewidth, page.imagelength)
        arrays.check_bytes(series.nbytes)
        alpha = tuple(map(int, page.extrasamples)) in ((1,), (2,))
        inverted = page.photometric.name == "MINISWHITE" and page.dtype.kind == "u"
        # Values are inverted within their bits; with 32 bits, a float32 would have nothing left of small ones.
        highest = 2**page.bitspersample - 1 if page.bitspersample <= 16 else 0.0
        if len(series.pages) > 1 or not _keeps_all(page, alpha):
            array = _channels_last(series)
            tag = page.tags.get("Orientation")
            image = _upright(arrays.as_image(highest - array if inverted else array), tag.value if tag else 1)
            return arrays.remove_alpha(image) if alpha and image.shape[-1] in (2, 4) else image
    opened.seek(0)
    image = pillow.decode(opened, ("TIFF",), None)
    # Pillow inverts 8 bits and fewer itself.
    return highest - image if inverted and image.dtype == np.uint16 else image


def _keeps_all(page: Any, alpha: bool) -> bool:
    """Return whether Pillow reads this page without losing bits or channels."""
    grey = page.samplesperpixel == 1 and page.dtype in (np.dtype(t) for t in (bool, "u1", "u2", "f4"))
    colour = page.bitspersample <= 8 and page.photometric.name in _COLOUR and (alpha or not page.extrasamples)
    return grey or colour


def _channels_last(series: tifffile.TiffPageSeries) -> np.ndarray:
    try:
        array = series.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        raise ValueError(f"{error}: pip install 'jaxssl[tiff]'") from error
    if array.ndim == 3 and series.axes[-1] != "S":
        if array.shape[0] > arrays.MAX_CHANNELS:
            raise ValueError(f"a stack of {array.shape[0]} pages is not one image")
        array = np.moveaxis(array, 0, -1)
    return array


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror [H, W, C] by the value, 1 to 8, of tag 274 of TIFF and EXIF."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return image[::rows, ::columns]
