"""Images of any size resampled to squares."""

import numpy as np
from PIL import Image

FITS = ("pad", "crop", "squash")


OUTSIDE = 255  # Of a mask, where `fit` pads it: `jaxssl.data.source.UNKNOWN`.


def fit(image: np.ndarray, size: int, how: str, mask: bool = False) -> np.ndarray:
    """Resize an image to size x size, with antialiased Lanczos; a mask to the nearest pixels.

    Args:
      image: [H, W, C] uint8, uint16 or float32; 16 bits and floats are resampled in float32.
      size: pixels a side.
      how: "pad" keeps all and fills the short side with 0, of floats with the lowest value; "crop" keeps the centre
        square; "squash" changes the aspect ratio. A square image is the same in all.
      mask: whether it is a mask [H, W, 1] uint8, whose values are classes; its short side is filled with `OUTSIDE`.

    Returns:
      [size, size, C] of the same dtype; unchanged if it has that size. Floats may overshoot at sharp edges.
    """
    height, width, _ = image.shape
    if height == width == size:
        return image
    if how == "crop" and height != width:
        image = crop_square(image)
        height, width, _ = image.shape
    if how == "pad" and height != width:
        return _pad(image, size, mask)
    return image if height == width == size else _resample(image, size, size, mask)


def crop_square(image: np.ndarray) -> np.ndarray:
    """Return the centre square of [H, W, C]."""
    height, width, _ = image.shape
    short = min(height, width)
    left, top = (width - short) // 2, (height - short) // 2
    return image[top : top + short, left : left + short]


def _pad(image: np.ndarray, size: int, mask: bool) -> np.ndarray:
    height, width, channels = image.shape
    top, left, new_height, new_width = place(height, width, size)
    value = OUTSIDE if mask else 0 if image.dtype.kind == "u" else image.min()
    padded = np.full((size, size, channels), value, image.dtype)
    same = (height, width) == (new_height, new_width)
    inside = image if same else _resample(image, new_height, new_width, mask)
    padded[top : top + new_height, left : left + new_width] = inside
    return padded


def place(height: int, width: int, size: int) -> tuple[int, int, int, int]:
    """Return top, left, height and width of an image of this size in the square that "pad" makes of it."""
    long = max(height, width)
    new_height, new_width = (max(1, round(side * size / long)) for side in (height, width))
    return (size - new_height) // 2, (size - new_width) // 2, new_height, new_width


def _resample(image: np.ndarray, height: int, width: int, mask: bool) -> np.ndarray:
    if not mask:
        return resample(image, height, width)
    nearest = Image.fromarray(np.ascontiguousarray(image[..., 0])).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(nearest)[..., None]


def resample(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resample [H, W, C] to [height, width, C] with antialiased Lanczos."""
    side = (width, height)
    if image.dtype == np.uint8 and image.shape[-1] == 3:
        return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(side, Image.Resampling.LANCZOS))
    kind = np.uint8 if image.dtype == np.uint8 else np.float32
    bands = [Image.fromarray(np.ascontiguousarray(image[..., c], kind)) for c in range(image.shape[-1])]
    resized = np.stack([np.asarray(band.resize(side, Image.Resampling.LANCZOS)) for band in bands], axis=-1)
    return np.rint(resized).clip(0, 65535).astype(np.uint16) if image.dtype == np.uint16 else resized
