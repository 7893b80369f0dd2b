"""NumPy files (.npy) of numbers; arrays of objects are refused."""

import math
import threading
from typing import IO, BinaryIO

import numpy as np

from jaxssl.data.io import arrays

EXTENSIONS = (".npy",)
# NumPy parses a header as Python, which in CPython 3.11 may fail with a SystemError while another thread does the same.
_PARSING = threading.Lock()


def matches(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is of this format."""
    return head.startswith(b"\x93NUMPY")


def read(opened: BinaryIO, size: int | None = None) -> np.ndarray:
    """Read one image. See `images.read`."""
    del size
    with _PARSING:
        shape, fortran, dtype = read_header(opened)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded without running code: save plain numbers")
    size = math.prod(shape) * dtype.itemsize
    arrays.check_bytes(size)
    content = opened.read(size)
    if len(content) < size:
        raise ValueError(f"the header states shape {shape} of {dtype}, more than the file holds: it is truncated")
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
    image = arrays.as_image(array)
    arrays.check_pixels(image.shape[1], image.shape[0])
    return image


def read_header(opened: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, whether the order is Fortran's, and dtype of an array; the file is then at its first value."""
    major, _ = np.lib.format.read_magic(opened)
    read_array_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    return read_array_header(opened)
