"""A folder of images: one sub-folder a class, all images flat and unlabelled, or a table that says what each is."""

import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from jaxssl.data import records, source
from jaxssl.data.io import images
from jaxssl.data.io import table as tables
from jaxssl.errors import UserError, did_you_mean

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


class Listing(NamedTuple):
    """What is known of images that are not read yet; None where nothing is.

    Attributes:
      paths: relative to the folder, with "/".
      official: "train", "validation" or "test".
      labels: names of the classes, "" for an image without one.
      groups: "" for an image without one.
    """

    paths: list[str]
    official: list[str] | None
    labels: list[str] | None
    groups: list[str] | None


def load(
    *,
    dir: str,
    size: int,
    on_bad_file: str = "stop",
    nan: str = "refuse",
    cache_dir: str = "",
    memory_mib: float = math.inf,
    group_pattern: str = "",
    table: str = "",
    path_column: str = "path",
    label_column: str = "label",
    group_column: str = "group",
    split_column: str = "split",
) -> source.Source:
    r"""Loads the PNG, JPEG, TIFF, npy, DICOM and FITS files of a folder. See `jaxssl.data.io.images` for what they become.

    Without a table, `dir` holds class folders (what lies deeper belongs to the class at the top), or images alone, or
    either of these inside `train`, `val` or `validation`, and `test`, which are then the official split. Files that are
    not images are counted and left alone.

    With a table, its rows are the images, whatever folders they are in, and files that it does not list are not looked
    at. A column that is not there says nothing, unless it was given a name. An image with an empty label has none, and
    is for pretraining alone. One with an empty group is a group of its own, and groups then count as unknown, as others
    of them may belong together; those that the table gives are kept together all the same. A split is named as such
    folders are; every row has one, or none has.

    Args:
      dir: the folder.
      size: side in pixels at which images are held.
      on_bad_file: "stop" or "skip".
      nan: "refuse", "zero" or "median".
      cache_dir: where images are kept that are more than `memory_mib` together; they are read again when the path, size
        or time of a file changes.
      memory_mib: up to which images are held in memory.
      group_pattern: a regular expression with one group, searched in each path relative to `dir` (with "/"); what the
        group matches is the patient, lesion or series, such as r"person(\d+)_". Empty: unknown.
      table: path of a file as of `jaxssl.data.io.table`, itself relative to `dir`, or absolute. Empty: none.
      path_column: its column of paths relative to `dir`.
      label_column: its column of names of classes.
      group_column: its column of patients, lesions or series.
      split_column: its column of the official split.

    Returns:
      The dataset; its ids are the paths relative to `dir`, its classes in alphabetical order.

    Raises:
      UserError: no such folder, no image, one class only, images beside class folders, files that cannot be read or do
        not go together, a pattern that does not fit; a table or column that is not there, a path that is listed twice
        or leads out of the folder, or a split of another name.
    """
    if not dir:
        raise UserError("data.dir is empty: set it to the folder that holds the class folders or the images")
    root = Path(dir)
    if not root.is_dir():
        raise UserError(f"data.dir={dir} is not a folder: set it to the one that holds the class folders or the images")
    columns = {"path": path_column, "label": label_column, "group": group_column, "split": split_column}
    listing = from_table(root, table, columns, group_pattern) if table else _from_folders(root, columns, group_pattern)
    pixels, kept = images.stack(
        lambda i: images.read(root / listing.paths[i], size),
        listing.paths,
        size,
        on_bad_file=on_bad_file,
        nan=nan,
        cache=records.Cache(Path(cache_dir), memory_mib, _state(root, listing.paths)) if cache_dir else None,
    )
    paths, official, names, groups = (None if c is None else np.array(c)[kept] for c in listing)
    classes = () if names is None else tuple(sorted(set(names.tolist()) - {""}))
    if len(classes) == 1:
        raise _one_class(root, paths[0], classes[0], label_column if table else "")
    labels = {name: i for i, name in enumerate(classes)}
    own = np.zeros(len(paths), bool) if groups is None else groups == ""
    if own.any():
        logging.warning(
            "%s: %d of %d images have no '%s': each is taken for one of its own, and groups for unknown",
            table,
            own.sum(),
            len(paths),
            group_column,
        )
    made = source.make(
        pixels,
        [source.UNLABELLED] * len(paths) if names is None else [labels.get(name, source.UNLABELLED) for name in names],
        paths,
        classes,
        groups=None if groups is None else np.where(own, paths, groups),
        official=official,
    )
    return made._replace(groups_known=False) if own.any() else made


def _state(root: Path, paths: list[str]) -> str:
    digest = hashlib.sha256(os.path.realpath(root).encode())
    for path in paths:
        try:
            seen = (root / path).stat()
            digest.update(repr((path, seen.st_size, seen.st_mtime_ns)).encode())
        except OSError:
            digest.update(repr((path, None)).encode())
    return digest.hexdigest()


def _from_folders(root: Path, columns: Mapping[str, str], group_pattern: str) -> Listing:
    refuse_columns(columns)
    paths = _image_paths(root)
    return Listing(paths, *read_layout(root, paths), match_groups(paths, group_pattern) if group_pattern else None)


def refuse_columns(columns: Mapping[str, str]) -> None:
    """UserError at a column of a table, where there is none."""
    for what, name in columns.items():
        if name != what:
            raise UserError(f"data.options.{what}_column={name!r} is of a table: set data.options.table to its path")


def from_table(root: Path, table: str, columns: Mapping[str, str], group_pattern: str = "") -> Listing:
    """What a table says, and the pattern where it gives no groups.

    Args:
      root: the folder.
      table: as of `load`.
      columns: by "path", "label", "group" and "split", the names that these have in the table.
      group_pattern: as of `load`.

    Raises:
      UserError: as `load` does for tables and patterns.
    """
    place = root / Path(table).expanduser()
    if not place.is_file():
        raise UserError(
            f"data.options.table={table}: there is no file {place}; name one, relative to data.dir or absolute"
        )
    rows = tables.read(place, (), optional=[name for name in columns.values() if name])
    head = list(rows[0][1])
    for what, name in columns.items():
        if name not in head and (what == "path" or name not in (what, "")):
            raise UserError(
                f"data.options.{what}_column is '{name}': {did_you_mean(name, head)}the columns of {place} are {', '.join(head)}"
            )
    lines: dict[str, str] = {}
    for line, row in rows:
        path = _inside(root, line, row[columns["path"]])
        if path in lines:
            raise UserError(f"{line}: {path} is listed in {lines[path]} as well: keep one of the two")
        lines[path] = line
    known = {what: [row.get(name, "") for _, row in rows] for what, name in columns.items()}
    official, labels, groups = (known[what] if any(known[what]) else None for what in ("split", "label", "group"))
    if official:
        official = [_side(line, columns["split"], value) for line, value in zip(lines.values(), official, strict=True)]
    if group_pattern:
        if groups:
            raise UserError(
                f"data.options.group_pattern and the column '{columns['group']}' both give groups: set one of "
                "data.options.group_pattern and data.options.group_column to ''"
            )
        groups = match_groups(list(lines), group_pattern)
    return Listing(list(lines), official, labels, groups)


def _inside(root: Path, line: str, path: str) -> str:
    """The path relative to the folder, with "/"; UserError where it leads out of it."""
    if not path:
        raise UserError(f"{line} has no path: fill it in, or delete the line")
    base = os.path.abspath(root)
    relative = Path(os.path.relpath(os.path.join(base, path.replace("\\", "/")), base))
    if relative.parts[:1] in ((), ("..",)):
        raise UserError(f"{line}: {path} leads out of data.dir={root}: give a path relative to that folder")
    return relative.as_posix()


def _side(line: str, column: str, value: str) -> str:
    if value.lower() not in SPLITS:
        raise UserError(
            f"{line}: {column} is '{value}': {did_you_mean(value, SPLITS)}it must be one of {', '.join(SPLITS)}"
        )
    return SPLITS[value.lower()]


def _image_paths(root: Path) -> list[str]:
    files = images.find(root)
    paths = [path for path in files if images.is_image(root / path)]
    if not paths:
        kinds = ", ".join(images.EXTENSIONS)
        raise UserError(f"data.dir={root} holds no image ({kinds}) among {len(files)} files: set it to another folder")
    images.check_names(root, paths)
    others = Counter(os.path.splitext(path)[1].lower() or "no extension" for path in set(files) - set(paths))
    if others:
        listed = ", ".join(f"{count} {kind}" for kind, count in others.most_common(10))
        logging.warning("%s: ignored %d files that are not images (%s)", root, others.total(), listed)
    return paths


def read_layout(root: Path, paths: list[str]) -> tuple[list[str] | None, list[str] | None]:
    """The official split and the class name of each path; None where there is none.

    Raises:
      UserError: folders of a split without "train", or with others beside them; images beside folders of classes.
    """
    parts = [path.split("/") for path in paths]
    official = None
    of_a_split = sorted({part[0] for part in parts if len(part) > 1 and part[0].lower() in SPLITS})
    others = sorted({part[0] for part in parts if part[0] not in of_a_split})
    sides = {SPLITS[name.lower()] for name in of_a_split}
    if "train" in sides and not others:
        official = [SPLITS[part[0].lower()] for part in parts]
        parts = [part[1:] for part in parts]
    elif len(sides) > 1:
        lacks = f"{others[0]!r} beside them" if others else "none called 'train'"
        raise UserError(
            f"data.dir={root} has the folders {', '.join(of_a_split)} of a split, and {lacks}: make it a split by "
            "moving away what is none, or by naming a folder 'train'; or name them otherwise, if they are classes"
        )
    flat = [len(part) == 1 for part in parts]
    if all(flat):
        return official, None
    if any(flat):
        stray = paths[flat.index(True)]
        raise UserError(f"{root / stray} lies beside class folders: move it, and every other, into one or away")
    return official, [part[0] for part in parts]


def match_groups(paths: list[str], pattern: str, field: str = "data.options.group_pattern") -> list[str]:
    """What the one group of the pattern matches in each path. UserError, naming the field, where it does not fit."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"{field}={pattern!r} is not a regular expression: {error}") from error
    if compiled.groups != 1:
        raise UserError(f"{field}={pattern!r} has {compiled.groups} groups in brackets: give it one")
    found = [compiled.search(path) for path in paths]
    missed = [path for path, match in zip(paths, found, strict=True) if not match or not match.group(1)]
    if missed:
        raise UserError(f"{field}={pattern!r} does not match {len(missed)} of {len(paths)} paths, such as {missed[0]}")
    return [match.group(1) for match in found]


def _one_class(root: Path, path: str, name: str, column: str) -> UserError:
    if column:
        return UserError(
            f"data.options.label_column: '{column}' has one class only, '{name}': add images of another, or set it to '' "
            "for no labels"
        )
    folder = root.joinpath(*path.split("/")[: path.split("/").index(name) + 1])
    inner = any(child.is_dir() for child in folder.iterdir())
    mend = f"did you mean data.dir={folder}?" if inner else f"add classes, or set data.dir={folder} for no labels"
    return UserError(f"data.dir={root} has one class only, '{name}': {mend}")
