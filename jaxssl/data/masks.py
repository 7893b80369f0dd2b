"""Masks of a source: the class of each pixel, read and fitted as its images are, and kept in the cache."""

from collections.abc import Callable

import numpy as np
from absl import logging

from jaxssl.data import records, source
from jaxssl.data.io import loading
from jaxssl.data.source import UNKNOWN, Source

MISSING = np.full((1, 1, 1), UNKNOWN, np.uint8)
# Row of the source -> its mask [H, W] uint8 in classes, or None where the image has none.
ReadMask = Callable[[int], np.ndarray | None]


def attach(
    of: Source,
    read_one: ReadMask,
    classes: tuple[str, ...],
    *,
    fit: str = "pad",
    on_bad_file: str = "stop",
    cache: records.Cache | None = None,
) -> Source:
    """Return a source with the masks of its images, in their size.

    Masks are resampled to the nearest pixels, and `UNKNOWN` where `fit` pads the image. They are decoded once and kept
    in the cache, and held in memory as far as `cache` allows.

    Args:
      of: the source.
      read_one: reads a mask; what it raises makes a bad file.
      classes: names of the classes, the background first.
      fit: as for the images.
      on_bad_file: "stop" at a mask that cannot be read, or "skip": its image then counts as one without a mask.
      cache: as for the images; None: masks are held in memory.

    Raises:
      UserError: masks cannot be read, or hold a value that is no class.
    """

    def read(row: int) -> np.ndarray:
        try:
            mask = read_one(row)
            return MISSING if mask is None else check(mask, len(classes))[..., None]
        except Exception as error:
            if on_bad_file == "stop":
                raise
            logging.warning("mask of %s skipped (data.on_bad_file): %s", of.ids[row], loading.reason(error))
            return MISSING

    kept = cache and cache._replace(memory_mib=0, state=f"{cache.state} {classes} {on_bad_file}")
    names = [f"mask of {name}" for name in of.ids.tolist()]
    masks = loading.stack(read, names, of.images.shape[1], fit=fit, cache=kept, mask=True).images
    if not isinstance(masks, records.Images):
        return source.with_masks(of, masks[..., 0], classes)
    masks = records.Images(masks.file, masks.shape[:3], masks.dtype)
    return source.with_masks(of, masks[:] if cache and cache.holds(masks.nbytes) else masks, classes)


def check(mask: np.ndarray, classes: int) -> np.ndarray:
    """Return a mask [H, W] uint8. ValueError if it has another shape, or a value that is no class and not `UNKNOWN`."""
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise ValueError(f"a mask is [H, W] uint8, not {mask.shape} {mask.dtype}")
    wrong = np.setdiff1d(mask, [*range(classes), UNKNOWN])
    if wrong.size:
        raise ValueError(f"it holds the value {wrong[0]}, and there are {classes} classes with the background")
    return mask
