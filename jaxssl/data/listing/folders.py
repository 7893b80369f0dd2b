"""Images in class folders, unlabelled images in one folder, or either of these in the folders of a split."""

import os
from collections import Counter
from pathlib import Path

from absl import logging

from jaxssl.data import labels
from jaxssl.data.io import images
from jaxssl.data.listing.listed import Listing
from jaxssl.errors import UserError


def list_images(root: Path, group_pattern: str = "") -> Listing:
    """List the images of a folder. See `jaxssl.data.datasets.folder.load`."""
    paths = _image_paths(root)
    official, classes = read_layout(root, paths)
    return Listing(paths, official, classes, labels.match_groups(paths, group_pattern) if group_pattern else None)


def _image_paths(root: Path) -> list[str]:
    files = images.find(root)
    paths = [path for path in files if images.is_image(root / path)]
    if not paths:
        kinds = ", ".join(images.EXTENSIONS)
        raise UserError(
            f"data.dir={root} holds no image ({kinds}) among {len(files)} files: set it to another folder",
            code="missing",
            field="data.dir",
        )
    images.check_names(root, paths)
    others = Counter(os.path.splitext(path)[1].lower() or "no extension" for path in set(files) - set(paths))
    if others:
        listed = ", ".join(f"{count} {kind}" for kind, count in others.most_common(10))
        logging.warning("%s: ignored %d files that are not images (%s)", root, others.total(), listed)
    return paths


def read_layout(root: Path, paths: list[str]) -> tuple[list[str] | None, list[str] | None]:
    """Return the official split and the class of each path, None for what the folders do not tell.

    Args:
      root: the folder, for the messages.
      paths: relative to it, with "/".

    Raises:
      UserError: folders of a split without "train", or with others among them; images among class folders.
    """
    parts = [path.split("/") for path in paths]
    official = None
    of_a_split = sorted({part[0] for part in parts if len(part) > 1 and part[0].lower() in labels.SPLITS})
    others = sorted({part[0] for part in parts if part[0] not in of_a_split})
    sides = {labels.SPLITS[name.lower()] for name in of_a_split}
    if "train" in sides and not others:
        official = [labels.SPLITS[part[0].lower()] for part in parts]
        parts = [part[1:] for part in parts]
    elif len(sides) > 1:
        lacks = f"{others[0]!r} beside them" if others else "none called 'train'"
        raise UserError(
            f"data.dir={root} has the folders {', '.join(of_a_split)} of a split, and {lacks}: make it a split by "
            "moving away what is none, or by naming a folder 'train'; or name them otherwise, if they are classes",
            code="conflict",
            field="data.dir",
        )
    flat = [len(part) == 1 for part in parts]
    if all(flat):
        return official, None
    if any(flat):
        stray = paths[flat.index(True)]
        raise UserError(
            f"{root / stray} lies beside class folders: move it, and every other, into one or away",
            code="conflict",
            field="data.dir",
        )
    return official, [part[0] for part in parts]
