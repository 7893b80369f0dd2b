"""Corruptions of images, at severities from 1 to 5: those of ImageNet-C (Hendrycks and Dietterich, arXiv:1903.12261).

Strengths are those of its published code, for values in [0, 1]; the blur, in pixels of an image of 224, follows the
size of the image.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from jaxssl.augment.views import Pixels

SEVERITIES = (1, 2, 3, 4, 5)
_BLUR_SIDE = 224


def add_noise(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise with this standard deviation to an image [H, W, C] in [0, 1]."""
    return image + rng.normal(0, strength, image.shape)


def blur(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Blur by a Gaussian with this standard deviation, in pixels of an image of 224."""
    del rng
    sigma = strength * len(image) / _BLUR_SIDE
    return gaussian_filter(image, (sigma, sigma, 0), mode="nearest")


def reduce_contrast(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Multiply the difference from the mean of each channel by this factor."""
    del rng
    mean = image.mean((0, 1), keepdims=True)
    return (image - mean) * strength + mean


def brighten(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Add this to all values."""
    del rng
    return image + strength


def compress(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Write each channel as a grey JPEG of this quality, or an RGB image as one."""
    del rng
    eight = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    parts = [eight] if eight.shape[-1] == 3 else [eight[..., k] for k in range(eight.shape[-1])]
    read = []
    for part in parts:
        with io.BytesIO() as file:
            Image.fromarray(part).save(file, "JPEG", quality=int(strength))
            read.append(np.asarray(Image.open(file)))
    return (read[0] if eight.shape[-1] == 3 else np.stack(read, -1)) / 255


Corrupt = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
CORRUPTIONS: dict[str, tuple[Corrupt, tuple[float, ...]]] = {
    "noise": (add_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "blur": (blur, (1, 2, 3, 4, 6)),
    "contrast": (reduce_contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "brightness": (brighten, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "jpeg": (compress, (25, 18, 15, 10, 7)),
}


def corrupt(images: np.ndarray, name: str, severity: int, pixels: Pixels) -> np.ndarray:
    """Return corrupted images [N, H, W, C] in their dtype; the same each time.

    Args:
      images: as stored.
      name: one of `CORRUPTIONS`.
      severity: from 1 to 5.
      pixels: scaling of the stored values; outside of [low, high] they are cut off.
    """
    function, strengths = CORRUPTIONS[name]
    span, rng = pixels.high - pixels.low, np.random.default_rng(severity)
    out = np.empty_like(images)
    for i, image in enumerate(images):
        unit = np.clip((image.astype(np.float64) - pixels.low) / span, 0, 1)
        changed = np.clip(function(unit, strengths[severity - 1], rng), 0, 1) * span + pixels.low
        out[i] = np.rint(changed) if np.issubdtype(images.dtype, np.integer) else changed
    return out
