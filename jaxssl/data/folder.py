"""A folder of images: one sub-folder a class, or all images flat and unlabelled."""

import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
from absl import logging

from jaxssl.data import images, source
from jaxssl.errors import UserError

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


def load(
    *, dir: str, size: int, on_bad_file: str = "stop", nan: str = "refuse", group_pattern: str = ""
) -> source.Source:
    r"""Loads the PNG, JPEG, TIFF and npy files under `dir`; other files are counted and left alone.

    `dir` holds class folders (what lies deeper belongs to the class at the top), or images alone, or either of these
    inside `train`, `val` or `validation`, and `test`, which are then the official split. What becomes of modes, bits
    and channels stands in `jaxssl.data.images`.

    Args:
      dir: the folder.
      size: side in pixels at which images are held.
      on_bad_file: "stop" or "skip".
      nan: "refuse", "zero" or "median".
      group_pattern: a regular expression with one group, searched in each path relative to `dir` (with "/"); what the
        group matches is the patient, lesion or series, such as r"person(\d+)_". Empty: unknown.

    Returns:
      The dataset; its ids are the paths relative to `dir`.

    Raises:
      UserError: no such folder, no image, one class only, images beside class folders, files that cannot be read or do
        not go together, or a pattern that does not fit.
    """
    if not dir:
        raise UserError("data.dir is empty: set it to the folder that holds the class folders or the images")
    root = Path(dir)
    if not root.is_dir():
        raise UserError(f"data.dir={dir} is not a folder: set it to the one that holds the class folders or the images")
    paths = _image_paths(root)
    official, labels = _layout(root, paths)
    groups = _groups(paths, group_pattern) if group_pattern else None
    pixels, kept = images.stack(
        lambda i: images.read(root / paths[i], size), paths, size, on_bad_file=on_bad_file, nan=nan
    )
    classes = () if labels is None else tuple(sorted({labels[i] for i in kept}))
    if len(classes) == 1:
        raise _one_class(root, paths[kept[0]], classes[0])
    return source.make(
        pixels,
        [source.UNLABELLED if labels is None else classes.index(labels[i]) for i in kept],
        np.array(paths)[kept],
        classes,
        groups=None if groups is None else np.array(groups)[kept],
        official=None if official is None else np.array(official)[kept],
    )


def _image_paths(root: Path) -> list[str]:
    files = images.find(root)
    paths = [path for path in files if path.lower().endswith(images.EXTENSIONS)]
    if not paths:
        kinds = ", ".join(images.EXTENSIONS)
        raise UserError(f"data.dir={root} holds no image ({kinds}) among {len(files)} files: set it to another folder")
    others = Counter(os.path.splitext(path)[1].lower() or "no extension" for path in set(files) - set(paths))
    if others:
        listed = ", ".join(f"{count} {kind}" for kind, count in others.most_common(10))
        logging.warning("%s: ignored %d files that are not images (%s)", root, others.total(), listed)
    return paths


def _layout(root: Path, paths: list[str]) -> tuple[list[str] | None, list[str] | None]:
    """The official split and the class name of each path; None where there is none."""
    parts = [path.split("/") for path in paths]
    official = None
    sides = {SPLITS.get(part[0].lower()) if len(part) > 1 else None for part in parts}
    if "train" in sides and None not in sides:
        official = [SPLITS[part[0].lower()] for part in parts]
        parts = [part[1:] for part in parts]
    flat = [len(part) == 1 for part in parts]
    if all(flat):
        return official, None
    if any(flat):
        stray = paths[flat.index(True)]
        raise UserError(f"{root / stray} lies beside class folders: move it, and every other, into one or away")
    return official, [part[0] for part in parts]


def _groups(paths: list[str], pattern: str) -> list[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"data.kw.group_pattern={pattern!r} is not a regular expression: {error}") from error
    if compiled.groups != 1:
        raise UserError(f"data.kw.group_pattern={pattern!r} has {compiled.groups} groups in brackets: give it one")
    found = [compiled.search(path) for path in paths]
    missed = [path for path, match in zip(paths, found, strict=True) if not match or not match.group(1)]
    if missed:
        raise UserError(
            f"data.kw.group_pattern={pattern!r} does not match {len(missed)} of {len(paths)} paths, such as {missed[0]}"
        )
    return [match.group(1) for match in found]


def _one_class(root: Path, path: str, name: str) -> UserError:
    folder = root.joinpath(*path.split("/")[: path.split("/").index(name) + 1])
    inner = any(child.is_dir() for child in folder.iterdir())
    mend = f"did you mean data.dir={folder}?" if inner else f"add classes, or set data.dir={folder} for no labels"
    return UserError(f"data.dir={root} has one class only, '{name}': {mend}")
