"""Images as data URIs, for blocks that show them."""

import base64
import io

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from jaxssl.evaluation.detection import Lesions
from jaxssl.report.blocks import Picture

# Of the classes of masks, told apart also by color-blind readers (Okabe and Ito 2008), with their names.
MASK_COLORS = {
    "sky blue": (86, 180, 233),
    "orange": (230, 159, 0),
    "green": (0, 158, 115),
    "pink": (204, 121, 167),
    "yellow": (240, 228, 66),
    "vermilion": (213, 94, 0),
}
MASK_SIDE = 160  # Pixels of a picture with masks, at least: outlines are one pixel wide.


def encode_jpeg(image: np.ndarray) -> str:
    """Return an image [H, W, 1 or 3] uint8 as a data URI; full color resolution, so that 8-pixel blocks stay apart."""
    stream = io.BytesIO()
    to_pillow(image).save(stream, "JPEG", quality=90, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def make_picture(image: np.ndarray, alt: str, below: str = "", small: str = "", strong: str = "") -> Picture:
    """Return the block that shows an image [H, W, 1 or 3] uint8."""
    height, width = image.shape[:2]
    return Picture(encode_jpeg(image), width, height, alt, below, small, strong)


def to_pillow(image: np.ndarray) -> Image.Image:
    """Return [H, W, 1 or 3] uint8 as a Pillow image."""
    return Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)


def overlay_heatmap(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Return an image [H, W, C] uint8 in grey with a map [h, w] uint8 in color over it, [H, W, 3] uint8."""
    size = image.shape[1::-1]
    high = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BILINEAR), np.float64)[..., None] / 255
    grey = np.repeat(image.mean(-1, keepdims=True), 3, axis=-1)
    color = 255 * mpl.colormaps["inferno"](high[..., 0])[..., :3]
    return np.rint(grey * (1 - 0.65 * high) + color * 0.65 * high).astype(np.uint8)


def overlay_masks(image: np.ndarray, filled: np.ndarray, outlined: np.ndarray) -> np.ndarray:
    """Return an image in grey with one mask filled in the colors of its classes and another outlined in white.

    Args:
      image: [H, W, C] uint8.
      filled: [H, W] uint8, classes from 1; 0 and 255 are not drawn.
      outlined: [H, W] uint8, likewise.

    Returns:
      [k H, k W, 3] uint8, k a whole number.
    """
    times = -(-MASK_SIDE // image.shape[1])
    image, filled, outlined = (of.repeat(times, 0).repeat(times, 1) for of in (image, filled, outlined))
    drawn = np.repeat(image.mean(-1, keepdims=True), 3, axis=-1)
    colors = np.array([*MASK_COLORS.values()], float)
    marked = (filled > 0) & (filled < 255)
    drawn[marked] = 0.45 * drawn[marked] + 0.55 * colors[(filled[marked] - 1) % len(colors)]
    for label in np.setdiff1d(outlined, (0, 255)):
        inside = outlined == label
        # White on dark, so that it is seen on any image.
        drawn[ndimage.binary_dilation(inside) & np.logical_not(inside)] = 0
        drawn[inside & np.logical_not(ndimage.binary_erosion(inside))] = 255
    return np.rint(drawn).astype(np.uint8)


def overlay_boxes(image: np.ndarray, found: Lesions, true: Lesions) -> np.ndarray:
    """Return an image in grey with the boxes of true lesions in white, and of found ones in the colors of their class.

    Args:
      image: [H, W, C] uint8.
      found: boxes in its pixels.
      true: likewise; their lines are one pixel further out, so that equal boxes are both seen.

    Returns:
      [k H, k W, 3] uint8, k a whole number.
    """
    times, colors = -(-MASK_SIDE // image.shape[1]), [*MASK_COLORS.values()]
    grey = np.rint(image.mean(-1, keepdims=True)).astype(np.uint8)
    drawn = Image.fromarray(np.repeat(grey, 3, axis=-1).repeat(times, 0).repeat(times, 1))
    canvas = ImageDraw.Draw(drawn)
    for left, top, right, bottom in (times * true.boxes).tolist():
        canvas.rectangle((left - 1, top - 1, right, bottom), outline=(255, 255, 255))
    for (left, top, right, bottom), label in zip((times * found.boxes).tolist(), found.labels.tolist(), strict=True):
        canvas.rectangle((left, top, right - 1, bottom - 1), outline=colors[(label - 1) % len(colors)])
    return np.asarray(drawn)
