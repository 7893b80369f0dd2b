"""What the masks of a source hold: missing and empty ones, equal ones, and the size of each class."""

import hashlib
from collections import Counter
from typing import Any

import numpy as np

from jaxssl.data import records
from jaxssl.data.source import UNKNOWN, Source


def describe_masks(source: Source) -> dict[str, Any] | None:
    """Return the "masks" of audit.json, see `jaxssl.results.audit_schema.Masks`; None for a source without masks."""
    if source.masks is None or source.masked is None:
        return None
    names = source.mask_classes
    parts = [_count(some, len(names)) for some in records.chunks(source.masks)]
    counts = np.concatenate([count for count, _ in parts])[source.masked]
    hashes = np.array([digest for _, digests in parts for digest in digests])[source.masked]
    ids, objects = source.ids[source.masked], counts[:, 1:].sum(axis=1)
    repeated = Counter(hashes[objects > 0].tolist())
    equal = [name for name, digest in zip(ids, hashes, strict=True) if repeated[digest] > 1]
    known = max(1, int(counts.sum()))
    return {
        "images": len(ids),
        "missing": _sample(source.ids[~source.masked]),
        "empty": _sample(ids[objects == 0]),
        "equal": _sample(np.array(equal)),
        "classes": [
            {
                "name": name,
                "images": int((pixels > 0).sum()),
                "share": float(pixels.sum() / known),
                "median_pixels": float(np.median(pixels[pixels > 0])) if (pixels > 0).any() else None,
            }
            for name, pixels in zip(names, counts.T, strict=True)
        ],
    }


def _count(masks: np.ndarray, classes: int) -> tuple[np.ndarray, list[str]]:
    """Return the pixels of each class [N, C], and a digest of each mask."""
    counts = [np.bincount(mask[mask != UNKNOWN], minlength=classes) for mask in masks]
    return np.stack(counts), [hashlib.blake2b(mask.tobytes(), digest_size=16).hexdigest() for mask in masks]


def _sample(ids: np.ndarray) -> dict[str, Any]:
    return {"images": len(ids), "first": str(ids[0]) if len(ids) else None}
