"""One image read for the audit: its properties as a row, and a thumbnail for the search for near duplicates."""

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.fft
import scipy.ndimage
from PIL import Image

from jaxssl.data.io import arrays, images, loading, pillow
from jaxssl.files import open_regular

ALL = "all"  # The split of images where there is no split,
UNUSED = "unused"  # and of those that are in none.
NONE = "none of the labels"  # Of several, where any is known.
THUMB = 32  # Pixels a side.
Row = dict[str, Any]  # Properties of an image, see `inspect_image`.

_FORMATS = {
    "JPEG": (".jpeg", ".jpg"),
    "MPO": (".jpeg", ".jpg"),
    "PNG": (".png",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "PPM": (".pbm", ".pgm", ".pnm", ".ppm"),
    "JPEG2000": (".j2k", ".jp2"),
}
_REFUSED = (
    "limit of",
    "bomb",
    "16-bit PNG",
    "object arrays",
    "not one image",
    "not numbers",
    "no axis of shape",
    "unable to allocate",
)
_TRUNCATED = ("truncated", "eof", "end of file", "cannot reshape", "failed to read", "no data left", "not enough")


class Item(NamedTuple):
    """One image to inspect.

    Attributes:
      path: its name in the report.
      place: the file, or the array itself.
      split: "train", "validation", "test", `ALL` or `UNUSED`.
      label: name of its class, or None.
      group: its group, None if groups are unknown.
      used: whether a dataset has an example of it, or a table lists it.
      read: makes its array; None for files of images.
      several: its labels, if it may have several.
      read_mask: reads its mask, [H, W] uint8, or returns None where it has none; None if no masks are asked for.
    """

    path: str
    place: Path | np.ndarray
    split: str = ALL
    label: str | None = None
    group: str | None = None
    used: bool = True
    read: Callable[[], np.ndarray] | None = None
    several: tuple[str, ...] | None = None
    read_mask: Callable[[], np.ndarray | None] | None = None


def name_labels(marks: Sequence[int] | np.ndarray, names: Sequence[str]) -> list[str]:
    """Return the names of the labels that are 1; `NONE` where there is none, and nothing where all are unknown (-1)."""
    marks = np.asarray(marks)
    return np.array(names)[marks == 1].tolist() or [NONE] * bool((marks >= 0).any())


def inspect_image(item: Item) -> tuple[Row, np.ndarray | None]:
    """Read an image.

    Returns:
      A row with the keys of `files` in audit.json, whose "unreadable" says why it cannot be decoded, if so; and its
      details [1024] float16, see `perceive`, or None.
    """
    row = {
        "path": item.path,
        "used": item.used,
        "split": item.split,
        "class": item.label,
        **({} if item.several is None else {"classes": list(item.several)}),
        "group": item.group,
        **dict.fromkeys(("format", "mode", "orientation", "width", "height", "channels", "dtype")),
        **dict.fromkeys(("low", "high", "constant", "nan", "inf", "sha256", "pixels", "phash", "unreadable")),
        "bytes": 0,
    }
    # Decoders raise nearly any exception at a broken file, and one file must not hide the faults of the others.
    try:
        image = np.ascontiguousarray(_read(item, row))
        row["height"], row["width"], row["channels"] = image.shape
        row["dtype"] = str(image.dtype)
        digest = hashlib.sha256(repr((image.shape, str(image.dtype))).encode())
        digest.update(image.data)
        row["pixels"] = digest.hexdigest()
        row.update(measure_values(image.reshape(-1, image.shape[-1])))
        bits, details = perceive(image)
        row["phash"] = f"{bits:016x}"
        return row, details
    except Exception as error:
        why = loading.reason(error) or type(error).__name__
        row["unreadable"] = {"kind": _kind(why, row["bytes"]), "why": why}
        return row, None


def _read(item: Item, row: Row) -> np.ndarray:
    """Return the image, and fill in what its file tells: it is known even if the image cannot be decoded."""
    if not isinstance(item.place, Path):
        row.update(bytes=item.place.nbytes, format="npz")
        return arrays.as_image(item.place)
    row["bytes"] = item.place.stat().st_size
    with open_regular(item.place) as opened:
        row["sha256"] = hashlib.file_digest(opened, "sha256").hexdigest()
    row.update(_read_head(item.place))
    return arrays.as_image(np.asarray(item.read())) if item.read else images.read(item.place)


def _read_head(path: Path) -> Row:
    with open_regular(path) as opened:
        if opened.read(6) == b"\x93NUMPY":
            return {"format": "npy"}
    # Faults of the head are reported by the reader of the pixels.
    try:
        with Image.open(path, formats=(*pillow.FORMATS, "TIFF")) as image:
            return {"format": image.format, "mode": image.mode, "orientation": image.getexif().get(0x0112)}
    except Exception:
        return {"format": path.suffix.lower().lstrip(".") or "unknown"}


def _kind(why: str, size: int) -> str:
    text = why.lower()
    if not size:
        return "empty"
    if any(word.lower() in text for word in _REFUSED):
        return "refused"
    return "truncated" if any(word in text for word in _TRUNCATED) else "corrupt"


def is_misnamed(row: Mapping[str, Any]) -> bool:
    """Return whether a file has the extension of another format."""
    known = _FORMATS.get(row["format"])
    return bool(known) and not row["path"].lower().endswith(known)


def measure_values(flat: np.ndarray) -> Row:
    """Return range and number of non-finite values of [values, channels]; constant if each channel has one value."""
    if flat.dtype.kind != "f" or (finite := np.isfinite(flat)).all():
        # Comparing with one pixel is ten times as fast as minima by channel.
        constant = bool((flat[0] == flat[-1]).all() and (flat == flat[0]).all())
        return {"low": flat.min().item(), "high": flat.max().item(), "constant": constant, "nan": 0, "inf": 0}
    nan = int(np.isnan(flat).sum())
    kept = flat[finite]
    low, high = (float(kept.min()), float(kept.max())) if len(kept) else (None, None)
    return {"low": low, "high": high, "constant": False, "nan": nan, "inf": int((~finite).sum()) - nan}


def perceive(image: np.ndarray) -> tuple[int, np.ndarray]:
    """Return the perceptual hash and the details of an image [H, W, C].

    Returns:
      64 bits: which of the 8 x 8 lowest cosine coefficients of the grey image are above their median (the pHash of
        Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions").
      [1024] float16: the thumbnail of 32 x 32 minus its Gaussian blur of one pixel, of mean 0 and norm 1, or zeros.
    """
    if image.dtype.kind == "f":
        image = np.where(np.isfinite(image), image, 0)
        image = image / max(np.abs(image).max(), np.finfo(np.float32).tiny)
    # Grey copies of RGB images are made with these weights.
    weights = (0.299, 0.587, 0.114) if image.shape[-1] == 3 else [1.0] * image.shape[-1]
    grey = functools.reduce(np.add, [np.float32(weight) * image[..., c] for c, weight in enumerate(weights)])
    thumb = np.asarray(Image.fromarray(grey).resize((THUMB, THUMB), Image.Resampling.LANCZOS))
    low = np.asarray(scipy.fft.dctn(thumb))[:8, :8].ravel()
    bits = int.from_bytes(np.packbits(low > np.median(low[1:])).tobytes(), "big")
    details = (thumb - scipy.ndimage.gaussian_filter(thumb, 1)).ravel()
    details = details - details.mean()
    norm = np.linalg.norm(details)
    return bits, (details / norm if norm > 1e-6 else 0 * details).astype(np.float16)
