"""The size of images as their headers tell it, before any is decoded."""

from pathlib import Path

import numpy as np
from PIL import Image

from jaxssl import files
from jaxssl.data.datasets import npz
from jaxssl.data.io import archive, images, pillow

MAX_READ = 100


def median_side(dir: str) -> int | None:
    """Return the median of the longer sides in pixels of the images in a folder, next to a table, or in an archive.

    It is that of the PNG, JPEG, BMP and GIF files, of at most `MAX_READ`; None where there is none, or none can be
    read.
    """
    path = files.expand_user(dir)
    if path.suffix.lower() == ".npz" and path.is_file():
        headers = archive.read_headers(path)
        shapes = [headers[key].shape for key in npz.image_keys(path, headers).values()]
        # Channels, first or last, are fewer than the pixels of a side.
        return max((sorted(shape[1:])[-1] for shape in shapes if len(shape) > 2), default=None)
    root = path.parent if path.is_file() else path
    names = [name for name in images.find(root) if name.lower().endswith(pillow.EXTENSIONS)] if root.is_dir() else []
    sides = [side for name in names[:: -(-len(names) // MAX_READ) or 1] if (side := _longer_side(root / name))]
    return int(np.median(sides)) if sides else None


def _longer_side(file: Path) -> int | None:
    try:
        with Image.open(file) as image:
            return max(image.size)
    except Exception:  # Reported when it is decoded.
        return None
