"""The images that a folder or a table names."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

_MASK = re.compile(r"[ _.-]*(?:mask|masks|seg|segmentation|gt|groundtruth|ground_truth)[ _.-]*\d*$", re.IGNORECASE)
_LISTED = 5


class Listing(NamedTuple):
    """What is known of images that are not read yet; None for what is unknown of all.

    Attributes:
      paths: relative to the folder, with "/".
      official: "train", "validation" or "test".
      labels: names of the classes, "" for an image without one; of several labels, or of values, see `labelling`.
      groups: "" for an image without one.
      unread: what is there that is not used, a line each.
      task: see `data.source.Source`.
      names: of several labels, or of the value.
    """

    paths: list[str]
    official: list[str] | None
    labels: list[str] | None
    groups: list[str] | None
    unread: tuple[str, ...] = ()
    task: str = "single"
    names: tuple[str, ...] = ()


def find_masks(paths: Collection[str]) -> list[str]:
    """Return the files that are named as masks of others in the same folder: `x_mask.png` if there is `x.png`."""
    stems = {_without_extension(path) for path in paths}
    return [path for path in paths if _MASK.sub("", stem := _without_extension(path)) in stems - {stem}]


def _without_extension(path: str) -> str:
    pure = PurePosixPath(path)
    return str(pure.with_name(pure.stem))


def count_extensions(paths: Iterable[str]) -> str:
    """Return the number of files by extension, such as "3 .csv, 1 .txt"."""
    found = Counter(os.path.splitext(path)[1].lower() or "no extension" for path in paths)
    return ", ".join(f"{count} {kind}" for kind, count in found.most_common(10))


def name_some(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
