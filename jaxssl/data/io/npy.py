"""NumPy files (.npy) of numbers; arrays of objects are refused."""

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
    image = arrays.as_image(np.load(opened, allow_pickle=False))
    arrays.check_pixels(image.shape[1], image.shape[0])
    return image
