"""Images of any size resampled to squares."""

import numpy as np
from PIL import Image


def fit(image: np.ndarray, size: int) -> np.ndarray:
    """Resize the centre square of an image to size x size, with antialiased Lanczos.

    Args:
      image: [H, W, C] uint8, uint16 or float32; 16 bits and floats are resampled in float32.
      size: pixels a side.

    Returns:
      [size, size, C] of the same dtype; unchanged if it has that size. Floats may overshoot at sharp edges.
    """
    height, width, _ = image.shape
    if height == width == size:
        return image
    square = crop_square(image)
    return square if len(square) == size else resample(square, size, size)


def crop_square(image: np.ndarray) -> np.ndarray:
    """Return the centre square of [H, W, C]."""
    height, width, _ = image.shape
    short = min(height, width)
    left, top = (width - short) // 2, (height - short) // 2
    return image[top : top + short, left : left + short]


def resample(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resample [H, W, C] to [height, width, C] with antialiased Lanczos."""
    side = (width, height)
    if image.dtype == np.uint8 and image.shape[-1] == 3:
        return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(side, Image.Resampling.LANCZOS))
    kind = np.uint8 if image.dtype == np.uint8 else np.float32
    bands = [Image.fromarray(np.ascontiguousarray(image[..., c], kind)) for c in range(image.shape[-1])]
    resized = np.stack([np.asarray(band.resize(side, Image.Resampling.LANCZOS)) for band in bands], axis=-1)
    return np.rint(resized).clip(0, 65535).astype(np.uint16) if image.dtype == np.uint16 else resized
