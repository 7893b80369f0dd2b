"""An image in channels and dtype of the images of a run, as far as its scale is known."""

import numpy as np

GREY_TOLERANCE = 0.04
_TWELVE_BITS = 4096


def convert(image: np.ndarray, channels: int, dtype: str | None) -> np.ndarray:
    """Return an image [H, W, C] with these channels and this dtype. ValueError if that is not possible."""
    return convert_dtype(convert_channels(image, channels), dtype)


def convert_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Return the image as grey if it is RGB of grey content and the run's images are grey.

    Its channels may differ by `GREY_TOLERANCE` of its range, as those of a JPEG do. A grey image is kept if the run's
    images are RGB; it is broadcast later. ValueError for other numbers of channels.
    """
    found = image.shape[-1]
    if (found, channels) == (3, 1) and is_grey(image):
        mean = image.mean(-1, keepdims=True)
        return (np.rint(mean) if np.issubdtype(image.dtype, np.integer) else mean).astype(image.dtype)
    if found != channels and (found, channels) != (1, 3):
        raise ValueError(f"has {found} channel{'s' * (found > 1)}, and the run's images have {channels}")
    return image


def is_grey(image: np.ndarray) -> bool:
    """Return whether the channels of an image are nearly equal."""
    difference = image.max(-1).astype(np.float64) - image.min(-1)
    return bool(difference.max() <= GREY_TOLERANCE * (float(image.max()) - float(image.min())))


def convert_dtype(image: np.ndarray, dtype: str | None) -> np.ndarray:
    """Return the image in the dtype of the run's images. ValueError if the scale of its values is unknown."""
    if dtype is None or image.dtype == dtype:
        return image
    highest = image.max()
    if image.dtype == np.float32 and np.issubdtype(dtype, np.integer):
        limit = np.iinfo(dtype).max
        if image.min() >= 0 and highest <= 1:
            raise ValueError(f"has values in [0, 1], and the run's images in [0, {limit}]: multiply it by {limit}")
        if not np.isfinite(image).all():
            raise ValueError("has NaN or infinite values, and the run's images are integers")
        return np.rint(image).clip(0, limit).astype(dtype)
    if image.dtype == np.uint16 and dtype == "uint8":
        if highest < _TWELVE_BITS:
            raise ValueError(f"has 16 bits but no value above {highest}, and the run's images have 8: rescale it")
        return np.rint(image / 257).astype(np.uint8)
    raise ValueError(f"is {image.dtype}, and the run's images are {dtype}: convert it, and keep their scale")
