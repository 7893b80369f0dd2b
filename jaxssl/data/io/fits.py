"""FITS files, decoded by astropy (the extra "fits"): the first image of two or three axes.

BSCALE and BZERO are applied; BLANK is NaN; values are float32. Rows stay in their order, which is from the bottom of
the sky upwards.
"""

import gzip
import io
import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxssl.data.io import arrays, optional
from jaxssl.files import open_regular

EXTENSIONS = (".fit", ".fit.gz", ".fits", ".fits.fz", ".fits.gz", ".fts", ".fts.gz")
_GZIP = b"\x1f\x8b"


def matches(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is of this format, plain or compressed by gzip."""
    return head.startswith((b"SIMPLE  =", _GZIP))


def read(opened: BinaryIO, size: int | None = None, extension: str = "") -> np.ndarray:
    """Read one image. See `images.read`.

    Args:
      opened: the file, at its start.
      size: not used.
      extension: name or number of the extension that holds the image, or several as "G,R,I", which are the channels;
        "": the first one with an image.
    """
    del size
    fits = optional.load_package("astropy.io.fits", "fits")
    compressed = opened.read(2) == _GZIP
    opened.seek(0)
    with fits.open(_unpack(opened) if compressed else opened, memmap=False) as units:
        if extension:
            bands = [_read_unit(_find_unit(units, name.strip())) for name in extension.split(",")]
            if len({band.shape[:2] for band in bands}) > 1:
                raise ValueError(f"the extensions {extension} differ in size")
            return np.concatenate(bands, axis=-1)
        unit = next((unit for unit in units if _is_image(unit)), None)
        if unit is None:
            raise ValueError("a FITS file without an image of two or three axes")
        return _read_unit(unit)


def list_extensions(path: Path) -> list[str]:
    """Return the names of the extensions that hold images, "0" and so on for those without a name."""
    fits = optional.load_package("astropy.io.fits", "fits")
    with open_regular(path) as opened, fits.open(opened, memmap=False) as units:
        return [unit.name or str(i) for i, unit in enumerate(units) if _is_image(unit)]


def _shape(unit: Any) -> list[int]:
    """Return the lengths of the axes of an image, without leading ones of length 1; empty for tables."""
    shape = list(unit.shape) if unit.is_image else []
    while len(shape) > 2 and shape[0] == 1:
        shape.pop(0)
    return shape


def _is_image(unit: Any) -> bool:
    return len(_shape(unit)) in (2, 3)


def _find_unit(units: Any, name: str) -> Any:
    numbered = {str(i): unit for i, unit in enumerate(units)}
    found = [unit for unit in units if unit.name.lower() == name.lower()] or [numbered.get(name)]
    if found[0] is None or not _is_image(found[0]):
        names = ", ".join(unit.name or str(i) for i, unit in enumerate(units) if _is_image(unit))
        raise ValueError(f"no image in an extension '{name}' (data.options.fits_extension), but in {names or 'none'}")
    return found[0]


def _read_unit(unit: Any) -> np.ndarray:
    shape = _shape(unit)
    arrays.check_pixels(*sorted(shape)[-2:])
    arrays.check_bytes(math.prod(shape) * abs(unit.header["BITPIX"]) // 8)
    # float32 for all, as files with and without BZERO differ in dtype.
    return arrays.as_image(unit.data.reshape(shape)).astype(np.float32, copy=False)


def _unpack(opened: BinaryIO) -> io.BytesIO:
    """Unpack gzip up to a limit: a small file can hold any number of zeros."""
    content = gzip.GzipFile(fileobj=opened).read(arrays.MAX_BYTES + 1)
    arrays.check_bytes(len(content))
    if not content.startswith(b"SIMPLE  ="):
        raise ValueError("a gzip file that does not hold FITS")
    return io.BytesIO(content)
