"""NumPy files (.npy) of numbers; arrays of objects are refused."""

import io
import math
from typing import BinaryIO

import numpy as np

from jaxssl.data.io import arrays

EXTENSIONS = (".npy",)


def matches(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is of this format."""
    return head.startswith(b"\x93NUMPY")


def read(opened: BinaryIO, size: int | None = None) -> np.ndarray:
    """Read one image. See `images.read`."""
    del size
    _check_size(opened)
    image = arrays.as_image(np.load(opened, allow_pickle=False))
    arrays.check_pixels(image.shape[1], image.shape[0])
    return image


def _check_size(opened: BinaryIO) -> None:
    """Raise ValueError if the header states more values than the file holds: `np.load` would allocate them first."""
    major, _ = np.lib.format.read_magic(opened)
    read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(opened)
    start = opened.tell()
    held = opened.seek(0, io.SEEK_END) - start
    limit = arrays.MAX_CHANNELS * arrays.MAX_PIXELS
    if math.prod(shape) > limit:
        raise ValueError(f"the header states shape {shape}, above the limit of {limit // 10**6} million values")
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > held:
        raise ValueError(f"the header states shape {shape} of {dtype}, more than the file holds: it is truncated")
    opened.seek(0)
