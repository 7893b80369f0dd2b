"""What the masks of a source hold: missing and empty ones, equal ones, and the size of each class."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from jaxssl.data import records
from jaxssl.data.audit.inspect import Item
from jaxssl.data.io import loading
from jaxssl.data.source import UNKNOWN, Source

Measured = tuple[np.ndarray, str]


def describe_masks(source: Source) -> dict[str, Any] | None:
    """Return the "masks" of audit.json, see `jaxssl.results.audit_schema.Masks`; None for a source without masks."""
    if source.masks is None or source.masked is None:
        return None
    read = (_measure(mask, len(source.mask_classes)) for some in records.chunks(source.masks) for mask in some)
    found = [one if masked else None for one, masked in zip(read, source.masked, strict=True)]
    return _describe(source.ids.tolist(), found, source.mask_classes)


def describe_mask_files(items: Iterable[Item], classes: tuple[str, ...]) -> dict[str, Any]:
    """Return the same of masks in files, at their own size; they are read in threads, and none of them is kept."""

    def measure(item: Item) -> Measured | Exception | None:
        assert item.read_mask is not None
        # Decoders raise nearly any exception at a broken file.
        try:
            mask = item.read_mask()
            return None if mask is None else _measure(mask, len(classes))
        except Exception as error:
            return error

    asked = [item for item in items if item.read_mask]
    with loading.strict_decoders(), ThreadPoolExecutor(os.cpu_count()) as pool:
        return _describe([item.path for item in asked], [*pool.map(measure, asked)], classes)


def _describe(ids: list[str], found: Sequence[Measured | Exception | None], classes: Sequence[str]) -> dict[str, Any]:
    read = [(name, *one) for name, one in zip(ids, found, strict=True) if isinstance(one, tuple)]
    repeated = Counter(digest for _, counts, digest in read if counts[1:].any())
    counts = np.array([counts for _, counts, _ in read]).reshape(-1, len(classes))
    known = max(1, int(counts.sum()))
    return {
        "images": len(read),
        "missing": _sample([name for name, one in zip(ids, found, strict=True) if one is None]),
        "empty": _sample([name for name, counts, _ in read if not counts[1:].any()]),
        "equal": _sample([name for name, _, digest in read if repeated[digest] > 1]),
        "unreadable": [
            {"path": name, "why": loading.reason(one) or type(one).__name__}
            for name, one in zip(ids, found, strict=True)
            if isinstance(one, Exception)
        ],
        "classes": [
            {
                "name": name,
                "images": int((pixels > 0).sum()),
                "share": float(pixels.sum() / known),
                "median_pixels": float(np.median(pixels[pixels > 0])) if (pixels > 0).any() else None,
            }
            for name, pixels in zip(classes, counts.T, strict=True)
        ],
    }


def _measure(mask: np.ndarray, classes: int) -> Measured:
    """Return the pixels of each class [C], and a digest of the mask."""
    counts = np.bincount(mask[mask != UNKNOWN], minlength=classes)
    return counts, hashlib.blake2b(mask.tobytes(), digest_size=16).hexdigest()


def _sample(ids: Sequence[str]) -> dict[str, Any]:
    return {"images": len(ids), "first": ids[0] if ids else None}
