"""Masks: from a picture, run lengths or a polygon to the class of each pixel, [H, W] uint8.

How a file becomes a mask of `classes` classes, the background 0 included:

| in the file | in the mask |
|---|---|
| palette (indexed PNG, GIF, BMP) | the indices, not the colors |
| grey in 8 or 16 bits, npy, TIFF, DICOM | its values |
| one bit | 0 and 1 |
| only 0 and 255, or 0 and 65535, and there are two classes | 0 and 1 |
| 255 besides that | `IGNORE`: pixels that do not count |
| RGB with equal channels | as grey |
| RGB of black and one other color, and there are two classes | 0 and 1 |
| JPEG, and there are two classes | 0 below 128, 1 from there on, if most values are near 0 or 255 |

Everything else is refused: a value that is no class, colors, alpha that is not the same everywhere, soft borders.
"""

import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from jaxssl.data.io import arrays, images, pillow
from jaxssl.files import open_regular

IGNORE = 255
_LONGEST = 40  # Bits of a run length.
_HALF, _MARGIN, _MOST = 128, 48, 0.95  # Of JPEG: so many of its values must be within the margin of 0 or 255.


def read(file: Path | bytes, classes: int) -> np.ndarray:
    """Read a mask from a picture, see the table of this module.

    Args:
      file: a path, or the bytes of a file.
      classes: number of classes, the background included.

    Returns:
      [H, W] uint8 in [0, classes), or `IGNORE`.

    Raises:
      ValueError: a value is no class, or the picture is no mask.
      Exception: of many types, as the decoders raise them, for a file that is broken.
    """
    with io.BytesIO(file) if isinstance(file, bytes) else open_regular(file) as opened:
        head = opened.read(1024)
        opened.seek(0)
        if any(module.matches(head) for module in images.FORMATS if module is not pillow):
            return to_classes(images.read(opened.read()), classes)
        opened = pillow.keep_pixels(opened) if head.startswith(b"\x89PNG") else opened
        with Image.open(opened, formats=pillow.FORMATS) as image:
            arrays.check_pixels(*image.size)
            lossy, bit = image.format == "JPEG", image.mode == "1"
            values = np.atleast_3d(np.asarray(pillow.upright(image)))
    if lossy:
        return _from_lossy(values, classes)
    return to_classes(values.astype(np.uint8) if bit else values, classes)


def to_classes(values: np.ndarray, classes: int) -> np.ndarray:
    """Convert the values of a picture, [H, W] or [H, W, C] of any real dtype, to classes [H, W] uint8.

    Raises:
      ValueError: see `read`.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("holds values that are not finite")
    grey = _to_grey(np.atleast_3d(values), classes)
    found = np.unique(grey)
    if classes == 2 and ({*found.tolist()} <= {0, IGNORE} or {*found.tolist()} <= {0, 65535}):
        return (grey > 0).astype(np.uint8)
    known = np.isin(found, [*range(classes), IGNORE])
    if not known.all():
        first = found[~known][0]
        more = f" (and {(~known).sum() - 1} other values)" if (~known).sum() > 1 else ""
        raise ValueError(
            f"holds the value {first:g}{more}, which is no class: classes are 0 to {classes - 1} (mask_classes)"
        )
    return grey.astype(np.uint8)


def _to_grey(values: np.ndarray, classes: int) -> np.ndarray:
    """Return [H, W] of [H, W, 1 to 4]."""
    if values.shape[-1] in (2, 4):
        if (values[..., -1] != values[0, 0, -1]).any():
            raise ValueError("has an alpha channel that differs between pixels: save it without alpha")
        values = values[..., :-1]
    if values.shape[-1] not in (1, 3):
        raise ValueError(f"has {values.shape[-1]} channels, and a mask has one")
    if (values == values[..., :1]).all():
        return values[..., 0]
    if classes == 2:
        marked = values.any(-1)
        colors = values[marked]
        if (colors == colors[0]).all():
            return np.where(marked, np.uint8(1), np.uint8(0))
    raise ValueError("has colors, whose classes are unknown: save it as indexed or grey PNG")


def _from_lossy(values: np.ndarray, classes: int) -> np.ndarray:
    values = values.astype(int).mean(-1)
    near = (values <= _MARGIN) | (values >= 255 - _MARGIN)
    if classes != 2 or near.mean() < _MOST:
        raise ValueError("is a JPEG, which changes the numbers of classes: save it as PNG")
    return (values >= _HALF).astype(np.uint8)


def decode_rle(counts: str | Sequence[int], shape: tuple[int, int]) -> np.ndarray:
    """Decode run lengths of COCO: of background and object in turn, down the columns.

    Args:
      counts: the numbers, or the string that pycocotools makes of them: groups of five bits from the lowest, a bit that
        says whether more follow, 48 added; from the third number on, the difference from the one two before.
      shape: height and width.

    Returns:
      [H, W] bool.

    Raises:
      ValueError: the runs do not add up to the pixels, or there is something else in the string.
    """
    runs = np.array(_decompress(counts) if isinstance(counts, str) else counts, int)
    if (runs < 0).any() or runs.sum() != shape[0] * shape[1]:
        raise ValueError(f"run lengths of {runs.sum()} pixels for a mask of {shape[0]} x {shape[1]}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(shape, order="F")


def encode_rle(mask: np.ndarray) -> list[int]:
    """Encode a mask [H, W] bool as the run lengths that `decode_rle` reads."""
    flat = np.asarray(mask, bool).ravel(order="F")
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size)
    runs = np.diff(ends, prepend=0).tolist()
    return [0, *runs] if flat[0] else runs


def _decompress(text: str) -> list[int]:
    runs, value, shift = [], 0, 0
    for letter in text.encode("ascii"):
        bits = letter - 48
        if not 0 <= bits < 64:
            raise ValueError(f"'{chr(letter)}' does not occur in run lengths of COCO")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            if shift > _LONGEST:
                raise ValueError("run lengths of COCO hold a number beyond all pixels")
            continue
        value -= (bits & 16 and 1) << shift  # The highest bit is the sign.
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("run lengths of COCO end within a number")
    return runs


def is_runs(text: str) -> bool:
    """Return whether a text is run lengths of `decode_kaggle` and no path."""
    return text.strip() == "-1" or re.fullmatch(r"\s*\d+(\s+\d+)+\s*", text) is not None


def decode_kaggle(text: str, shape: tuple[int, int]) -> np.ndarray:
    """Decode "start length start length ...", starts from 1, down the columns, to [H, W] bool; "" or "-1" is empty.

    Raises:
      ValueError: it is something else, or a run lies outside of the mask.
    """
    if text.strip() in ("", "-1", "nan"):
        return np.zeros(shape, bool)
    if not is_runs(text) or len(text.split()) % 2:
        raise ValueError(f"'{text[:20]}' is not pairs of start and length")
    starts, lengths = np.array(text.split(), int).reshape(-1, 2).T
    ends = starts - 1 + lengths
    if starts.min() < 1 or ends.max() > shape[0] * shape[1]:
        raise ValueError(f"a run ends at pixel {ends.max()} of {shape[0] * shape[1]}")
    changes = np.zeros(shape[0] * shape[1] + 1, int)
    np.add.at(changes, starts - 1, 1)
    np.add.at(changes, ends, -1)
    return (changes.cumsum()[:-1] > 0).reshape(shape, order="F")


def rasterize(points: np.ndarray, shape: tuple[int, int], center: float = 0.0) -> np.ndarray:
    """Return the pixels whose centers lie inside a polygon, by the even-odd rule.

    Args:
      points: [K, 2] float, x and y of its corners, K at least 3; it is closed. It may reach beyond the image.
      shape: height and width of the image.
      center: x and y of the center of the first pixel: 0, or .5 where the edge of the image is 0, as in COCO.

    Returns:
      [H, W] bool.

    Raises:
      ValueError: fewer than three points, or numbers that are not finite.
    """
    points = np.asarray(points, float)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not np.isfinite(points).all():
        raise ValueError(f"a polygon has three points (x, y) or more, not {points.shape}")
    height, width = shape
    changes, rows = np.zeros((height, width + 1), int), np.arange(height)
    for (x0, y0), (x1, y1) in zip(points - center, np.roll(points, -1, axis=0) - center, strict=True):
        crossed = rows[(y0 <= rows) != (y1 <= rows)]
        x = x0 + (crossed - y0) * (x1 - x0) / (y1 - y0) if len(crossed) else np.zeros(0)
        changes[crossed, np.ceil(x).clip(0, width).astype(int)] += 1
    return changes.cumsum(1)[:, :width] % 2 == 1
