"""One image as an array [H, W, C], whatever axes and dtype a file has."""

import numpy as np

MAX_PIXELS = 100_000_000
MAX_CHANNELS = 16  # An axis up to this length can be the channels.
MAX_BYTES = 8 * MAX_PIXELS  # Of one image, in its file and as decoded: RGBA of 16 bits.
MAX_VOLUME = 2**29  # Values: a CT of 2,000 slices.


def as_image(array: np.ndarray) -> np.ndarray:
    """Convert [H, W], [H, W, C] or [C, H, W] of any real dtype to [H, W, C] in uint8, uint16 or float32.

    Booleans become 0 and 255. The first axis is the channels if it is at most 16 and smaller than both others.

    Raises:
      ValueError: the array is not one image, or does not hold numbers.
    """
    if array.dtype.kind not in "biuf":
        raise ValueError(f"holds {array.dtype}, not numbers")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"an array of shape {array.shape} is not one image")
    first, height, last = array.shape
    if first <= MAX_CHANNELS and first < min(height, last):
        array = np.moveaxis(array, 0, -1)
    elif last > MAX_CHANNELS and last >= min(first, height):
        raise ValueError(f"no axis of shape {array.shape} can be told to be the channels: save it as [H, W, C]")
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype in (np.uint8, np.dtype(np.uint16).newbyteorder(), np.uint16):
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def check_pixels(width: int, height: int) -> None:
    """Raise ValueError if an image has more than `MAX_PIXELS`; to be called before its pixels are decoded."""
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels, above the limit of {MAX_PIXELS // 10**6} million")


def check_bytes(count: float) -> None:
    """Raise ValueError if an image, or its file, has more than `MAX_BYTES`; to be called before these are read."""
    if count > MAX_BYTES:
        raise ValueError(f"{count / 1e6:,.0f} MB, above the limit of {MAX_BYTES / 1e6:,.0f} MB an image")


def check_volume(count: int) -> None:
    """Raise ValueError if a volume has more than `MAX_VOLUME` values; to be called before they are read."""
    if count > MAX_VOLUME:
        raise ValueError(f"{count:,} values, above the limit of {MAX_VOLUME:,} a volume")


def remove_alpha(image: np.ndarray) -> np.ndarray:
    """Drop an alpha channel that is opaque everywhere; otherwise composite on black.

    Args:
      image: [H, W, 1 to 4]: grey, grey and alpha, RGB, or RGB and alpha.

    Returns:
      [H, W, 1 or 3] of the same dtype.
    """
    if image.shape[-1] in (1, 3):
        return image
    values, alpha = image[..., :-1], image[..., -1:]
    opaque = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1.0
    if (alpha == opaque).all():
        return values
    found = np.empty_like(values)
    for i in range(0, len(image), 64):  # Blocks of rows, as products are float64.
        blended = values[i : i + 64] * (alpha[i : i + 64] / opaque)
        found[i : i + 64] = np.rint(blended) if image.dtype.kind == "u" else blended
    return found
