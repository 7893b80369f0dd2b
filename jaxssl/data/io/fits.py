"""FITS files, decoded by astropy (the extra "fits"): the first image of two or three axes.

BSCALE and BZERO are applied; BLANK is NaN; values are float32. Rows stay in their order, which is from the bottom of
the sky upwards.
"""

import gzip
import io
import math
from typing import BinaryIO

import numpy as np

from jaxssl.data.io import arrays, optional

EXTENSIONS = (".fit", ".fit.gz", ".fits", ".fits.fz", ".fits.gz", ".fts", ".fts.gz")
_GZIP = b"\x1f\x8b"


def matches(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is of this format, plain or compressed by gzip."""
    return head.startswith((b"SIMPLE  =", _GZIP))


def read(opened: BinaryIO, size: int | None = None) -> np.ndarray:
    """Read one image. See `images.read`."""
    del size
    fits = optional.load_package("astropy.io.fits", "fits")
    compressed = opened.read(2) == _GZIP
    opened.seek(0)
    with fits.open(_unpack(opened) if compressed else opened, memmap=False) as units:
        for unit in units:
            shape = list(unit.shape) if unit.is_image else []
            while len(shape) > 2 and shape[0] == 1:
                shape.pop(0)
            if len(shape) in (2, 3):
                arrays.check_pixels(*sorted(shape)[-2:])
                _check_values(math.prod(shape))
                # float32 for all, as files with and without BZERO differ in dtype.
                return arrays.as_image(unit.data.reshape(shape)).astype(np.float32, copy=False)
    raise ValueError("a FITS file without an image of two or three axes")


def _check_values(count: int) -> None:
    limit = arrays.MAX_CHANNELS * arrays.MAX_PIXELS
    if count > limit:
        raise ValueError(f"{count} values, above the limit of {limit // 10**6} million")


def _unpack(opened: BinaryIO) -> io.BytesIO:
    """Unpack gzip up to a limit: a small file can hold any number of zeros."""
    limit = 8 * arrays.MAX_PIXELS
    content = gzip.GzipFile(fileobj=opened).read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"unpacks to more than the limit of {limit // 10**6} million bytes")
    if not content.startswith(b"SIMPLE  ="):
        raise ValueError("a gzip file that does not hold FITS")
    return io.BytesIO(content)
