"""Images as data URIs, for blocks that show them."""

import base64
import io

import matplotlib as mpl
import numpy as np
from PIL import Image

from jaxssl.report.blocks import Picture


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
