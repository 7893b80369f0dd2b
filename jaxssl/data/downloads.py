"""The downloads of public datasets: how a dataset is described, and how its files are found.

A dataset is a module of `jaxssl.data.datasets` with three names, and this is all of a small one:

    DATASET = downloads.Dataset(name="moles", title="moles", classes=("bad", "good"), group="patient", ...)

    def examples(download: downloads.Download) -> list[downloads.Example]:
        places = downloads.image_files(download)
        rows = downloads.read_table(downloads.find(download, "labels.csv"), ("id", "kind", "patient"))
        return [
            downloads.Example(row["id"], places.get(row["id"]), label=row["kind"], group=row["patient"])
            for place, row in rows
        ]

    load = functools.partial(prepared.load, DATASET, examples)

If `Dataset.read` is None, the files of the examples are images: they are kept byte for byte, and decoded when they are
loaded. Otherwise `read` makes an array of each example, one at a time, which is kept in its dtype.

`find`, `image_files` and `class_folders` look for files in the download whatever the case of letters and the depth of
folders, `read_table` reads a CSV file and `choose_value` looks a value up. The error for a missing file names it and
the place to download it from. An image that is listed without its file has `path` None.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from jaxssl.data.io import images, table
from jaxssl.errors import UserError


class Example(NamedTuple):
    """One image of a dataset.

    Attributes:
      id: unique and stable, from the file's name.
      path: the file that holds the image, None if the download lists it without its file.
      label: name of its class, None if it has no label.
      group: the patient, lesion or series; ignored if `Dataset.group` is empty.
      split: "train", "validation" or "test"; a dataset all of whose examples are "train" has no official split.
      fold: from 0, its part of the dataset's own cross-validation; all examples have one, or none has.
      extra: further files that `Dataset.read` reads for it, such as masks.
    """

    id: str
    path: Path | None
    label: str | None
    group: str = ""
    split: str = "train"
    fold: int | None = None
    extra: tuple[Path, ...] = ()

    @property
    def file(self) -> Path:
        """`path` of an example that has a file."""
        if self.path is None:
            raise ValueError(f"{self.id} has no file")
        return self.path


class Dataset(NamedTuple):
    """What is known of a dataset before its files are read.

    Attributes:
      name: name of its module.
      title: what it holds, in half a line.
      classes: names of the classes, in the order of the labels; empty if nothing is labelled.
      group: what a group is, "patient" or "lesion"; empty if the download has no groups, and each image is its own.
      license: as its publisher states it.
      homepage: where it is published.
      download: what to download from where, to follow the word "download".
      citation: BibTeX.
      read: makes [H, W, C], or what `arrays.as_image` converts to it, of an example; None for files of images. If it
        has parameters, it is a `functools.partial` with these as keywords, which the cache distinguishes.
      dtype: "uint8", "uint16" or "float32", of what `read` makes.
      checksums: file name and MD5 of the archives, if published.
      version: increases when the same download gives other examples, or `read` other arrays.
      images: number of images as published; 0 if parts or copies differ.
      read_mask: makes the mask of an example from its `path` and `extra`, see `masks.attach`; None: without masks.
      mask_classes: names of the classes of masks, the background first.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    group: str
    license: str
    homepage: str
    download: str
    citation: str
    read: Callable[[Example], np.ndarray] | None = None
    dtype: str = "uint8"
    checksums: tuple[tuple[str, str], ...] = ()
    version: str = "1.0.0"
    images: int = 0
    read_mask: Callable[[Example], np.ndarray | None] | None = None
    mask_classes: tuple[str, ...] = ()


class Download(NamedTuple):
    """The folder that a dataset was unpacked into.

    Attributes:
      dataset: what should be there.
      root: `data.manual_dir`.
      files: its files, as paths relative to `root` with "/", those in fewest folders first and then by name; without
        hidden files and `__MACOSX`.
    """

    dataset: Dataset
    root: Path
    files: Sequence[str]


def list_files(dataset: Dataset, manual_dir: str | Path) -> Download:
    """List the files of a download.

    Raises:
      UserError: there is no such folder.
    """
    root = Path(manual_dir)
    if not str(manual_dir) or not root.is_dir():
        what = f"={manual_dir} is not a folder" if str(manual_dir) else " is empty"
        raise UserError(
            f"data.manual_dir{what}: download {dataset.download}, unpack it, and set this to its folder",
            code="missing",
            field="data.manual_dir",
        )
    files = sorted(images.find(root), key=lambda file: (file.count("/"), file))
    for line in images.describe_links(root, files):
        logging.warning("%s", line)
    return Download(dataset, root, files)


def missing_error(download: Download, what: str) -> UserError:
    """Return the error for a file that is missing: which one, where to get it, and where to put it."""
    root, place = download.root, download.dataset.download
    return UserError(
        f"{what} not found under data.manual_dir={root}: download {place} and unpack it into that folder",
        code="missing",
        field="data.manual_dir",
    )


def find(download: Download, *names: str) -> Path:
    """Return the file whose path ends in one of these names (which may contain "/"), the first of the names first.

    Raises:
      UserError: there is none.
    """
    for name in names:
        ends = "/" + name.lower()
        found = next((file for file in download.files if f"/{file}".lower().endswith(ends)), None)
        if found:
            return download.root / found
    raise missing_error(download, names[0])


def image_files(download: Download, folder: str = "", extensions: tuple[str, ...] = images.PICTURES) -> dict[str, Path]:
    """Return the images in folders of this name, or in any, by file name without extension; the shortest path wins."""
    found: dict[str, Path] = {}
    for file in download.files:
        path = download.root / file
        if path.suffix.lower() in extensions and (not folder or path.parent.name.lower() == folder.lower()):
            found.setdefault(path.stem, path)
    return found


def class_folders(
    download: Download,
    sides: Sequence[str],
    classes: Sequence[str],
    *,
    optional: Sequence[str] = (),
    extensions: tuple[str, ...] = images.PICTURES,
) -> list[tuple[str, str, Path]]:
    """Return the files at <side>/<class>/<file>, at any depth; a file that an archive holds twice is listed once.

    Args:
      download: the files.
      sides: names of the folders of the official split.
      classes: names of the folders in each of them.
      optional: those of the sides that may be missing.
      extensions: of the files, in lower case.

    Returns:
      Side, class (both as given) and path of each, sorted.

    Raises:
      UserError: a class of a side that is not optional has no file.
    """
    known_sides, known_classes = ({name.lower(): name for name in names} for names in (sides, classes))
    found: dict[tuple[str, str, str], Path] = {}
    for file in download.files:
        *_, side, name, last = ("", "", *file.split("/"))
        side, name = known_sides.get(side.lower()), known_classes.get(name.lower())
        if side and name and last.lower().endswith(extensions):
            found.setdefault((side, name, last), download.root / file)
    seen = {key[:2] for key in found}
    required = [(side, name) for side in sides if side not in optional for name in classes]
    absent = ["/".join(key) for key in required if key not in seen]
    if absent:
        raise missing_error(download, f"{absent[0]}/ with files {', '.join(extensions)}")
    return sorted((side, name, path) for (side, name, _), path in found.items())


def read_table(path: Path, columns: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Read a table of the download that has these columns. See `jaxssl.data.io.table.read`."""
    return table.read(path, columns, remedy="download it again")


def choose_value(place: str, row: Mapping[str, str], column: str, known: Mapping[str, str]) -> str:
    """Look up the value of a column in a table's row.

    Args:
      place: of the row, for the message.
      row: values by column.
      column: the column.
      known: what each value stands for.

    Raises:
      UserError: the value is not known.
    """
    if row[column] not in known:
        raise UserError(
            f"{place}: {column} is '{row[column]}', not one of {', '.join(known)}", code="unknown-name", field=column
        )
    return known[row[column]]
