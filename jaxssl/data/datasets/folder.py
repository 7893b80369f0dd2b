"""Your own images: a folder a class, a folder without labels, a table that describes each image, or an archive."""

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxssl.data import records, source
from jaxssl.data.datasets import npz
from jaxssl.data.io import fits, images, loading, volumes
from jaxssl.data.labels import fill_groups, sort_grades
from jaxssl.data.listing import folders, tables
from jaxssl.data.listing import masks as mask_listing
from jaxssl.data.listing.labelling import Labelling, parse_row
from jaxssl.data.listing.listed import Listing
from jaxssl.data.listing.slices import Cut, cut_volumes
from jaxssl.errors import UserError


def load(
    *,
    dir: str,
    size: int,
    on_bad_file: str = "stop",
    nan: str = "refuse",
    fit: str = "pad",
    cache_dir: str = "",
    memory_mib: float = math.inf,
    group_pattern: str = "",
    exclude_pattern: str = "",
    ignore_masks: bool = True,
    slices: bool = False,
    slice_axis: int = 2,
    slice_range: tuple[float, float] = (0.0, 1.0),
    fits_extension: str = "",
    use_labels: bool = True,
    table: str = "",
    path_column: str = "path",
    label_column: str = "label",
    group_column: str = "group",
    split_column: str = "split",
    label_columns: Sequence[str] | None = None,
    label_separator: str = "",
    task: str = "auto",
    masks: str = "",
    mask_column: str = "",
    mask_classes: Sequence[str] = (),
) -> source.Source:
    r"""Load the images of a folder. See `jaxssl.data.io.images` for the formats.

    Without a table, `dir` holds class folders (deeper folders belong to the class at the top), or images alone, or
    either of these inside folders named as a split (`train`, `val`, `test`, `seg_test`, `Test data`). With a table, its
    rows are the images, whatever folders they are in. Whatever is not used is listed in `Source.unread`.

    An image with an empty label, or a word such as "NA", has none, and is for pretraining alone. One with an empty
    group is a group of its own, and groups then count as unknown. Either every row has a split, or none.

    Args:
      dir: the folder; or the table itself, whose paths are then relative to its own folder; or an .npz archive, see
        `jaxssl.data.datasets.npz`.
      size: side in pixels at which images are held.
      on_bad_file: "stop" or "skip".
      nan: "refuse", "zero" or "median".
      fit: "pad", "crop" or "squash" for images that are not square.
      cache_dir: where images are kept if they exceed `memory_mib`; they are decoded again when a file changes.
      memory_mib: images up to this size (MiB) are held in memory.
      group_pattern: a regular expression with one group, searched in each path relative to `dir` (with "/"); what the
        group matches is the patient, lesion or series, such as r"person(\d+)_". Empty: unknown.
      exclude_pattern: a regular expression; images whose path it matches are left out. Empty: none.
      ignore_masks: whether to leave out files named as masks of others, such as `x_mask.png` next to `x.png`.
      slices: whether to cut DICOM files of several frames, and stacks in npy or TIFF, into images; NIfTI always is.
      slice_axis: axis along which volumes are cut, see `io.nifti`.
      slice_range: share of the slices of a volume to take, such as (0.3, 0.7).
      fits_extension: name of the extension of FITS files that holds the image, or several such as "G,R,I", which are
        the channels; "": the first with an image.
      use_labels: whether to read labels; False for pretraining alone.
      table: path of a table, see `jaxssl.data.io.table`, relative to `dir` or absolute. Empty: none.
      path_column: its column of paths relative to `dir`; an extension, and the case of letters, may be missing.
      label_column: its column of names of classes.
      group_column: its column of patients, lesions or series.
      split_column: its column of the official split.
      label_columns: its columns of several labels an image, such as "Effusion,Mass"; 1 has the label, 0 not, and -1 or
        empty is unknown.
      label_separator: what divides several labels in `label_column`, such as "|" in "Effusion|Mass"; "No Finding" is
        none of them.
      task: what labels are, see `data.task`; of "value", `label_column` holds numbers.

      masks: where the masks of images are, see `listing.masks`: "auto" for files named as masks (`x_mask.png`, or
        `masks/x.png` for `images/x.png`), the name of a folder, or a .json file of COCO; "": none are read.
      mask_column: column of a table with the paths of masks, or run lengths ("start length ...").
      mask_classes: names of the classes in masks, from value 1; (): one class, where masks are black and white. COCO
        brings its own.

    Returns:
      The dataset; its ids are the paths relative to `dir`, its classes in alphabetical order.

    Raises:
      UserError: see `listing.folders` and `listing.tables`; files cannot be read or differ in kind, or a class has no
        image that can be read.
    """
    if dir.lower().endswith(".npz"):
        _check_archive(dir, group_pattern, exclude_pattern, table)
        given = {"masks": bool(masks), "mask_classes": _as_names(mask_classes), "use_labels": use_labels, "task": task}
        return npz.load(dir=dir, cache_dir=cache_dir, memory_mib=memory_mib, size=size, nan=nan, fit=fit, **given)
    if not table and Path(dir).is_file():
        dir, table = str(Path(dir).parent), str(Path(dir).resolve())
    root = _folder(dir)
    columns = {"path": path_column, "label": label_column, "group": group_column, "split": split_column}
    labelling = Labelling(task, _as_names(label_columns), label_separator)
    mask_files = mask_listing.find(root, masks)
    if table:
        listing = tables.list_images(root, table, columns, group_pattern, labelling if use_labels else Labelling())
    else:
        _check_folders(labelling)
        tables.check_unused(columns)
        listing = _list_folders(root, group_pattern, exclude_pattern, ignore_masks, {*mask_files}, task)
    of = _read_mask_column(root, table, listing.paths, mask_column) if mask_column else {}
    listing = listing if use_labels else listing._replace(labels=None, task="single", names=())
    links = images.describe_links(root, listing.paths)
    listing = cut_volumes(root, listing, Cut(slices, slice_axis, slice_range))
    cache = _cache(root, listing.paths, cache_dir, memory_mib, (slice_axis, fits_extension))

    def read(i: int) -> np.ndarray:
        return volumes.read(root, listing.paths[i], size, slice_axis, fits_extension)

    stack = loading.stack(read, listing.paths, size, on_bad_file=on_bad_file, nan=nan, fit=fit, cache=cache)
    unread = (*listing.unread, *_animations(listing.paths), *_extensions(root, listing.paths, fits_extension))
    found = listing._replace(unread=(*unread, *stack.unread))
    made = _make_source(root, found, stack, table, columns)._replace(notes=tuple(links))
    wanted = mask_listing.Masks(masks, mask_files, of, _as_names(mask_classes), slice_axis)
    return _attach_masks(root, made, wanted, cache, fit, on_bad_file) if masks or mask_column else made


def _list_folders(
    root: Path, group_pattern: str, exclude_pattern: str, ignore_masks: bool, mask_files: set[str], task: str
) -> Listing:
    listing = folders.list_images(root, group_pattern, exclude_pattern, ignore_masks, mask_files)
    if mask_files:
        listing = mask_listing.without_image_folder(listing)
    mask_listing.check_classes({*(listing.labels or [])} - {""})
    return listing._replace(task="single" if task == "auto" else task)


def _attach_masks(
    root: Path,
    made: source.Source,
    wanted: mask_listing.Masks,
    cache: records.Cache | None,
    fit: str,
    on_bad_file: str,
) -> source.Source:
    where = wanted.where
    state = _state(root, [*wanted.files, *wanted.of.values(), *([where] if where.endswith(".json") else [])])
    cache = cache and cache._replace(state=f"{cache.state} {state}")
    return mask_listing.attach_all(root, made, wanted, fit=fit, on_bad_file=on_bad_file, cache=cache)


def _read_mask_column(root: Path, table: str, paths: Sequence[str], column: str) -> dict[str, str]:
    """Return the paths of masks by those of their images. UserError without a table."""
    if not table:
        field = "data.options.mask_column"
        raise UserError(
            f"{field}={column!r} is of a table: set data.options.table to its path, or data.options.masks",
            code="conflict",
            field=field,
        )
    return tables.list_masks(root, table, paths, column)


def _as_names(columns: Any) -> tuple[str, ...]:
    """Return the names that an option holds: several, or one, which may be a number."""
    return tuple(map(str, columns if isinstance(columns, tuple | list) else () if columns is None else (columns,)))


def _check_folders(labelling: Labelling) -> None:
    """Raise UserError if labels are asked for that class folders do not give."""
    if labelling.task in ("multi", "value") or labelling.columns or labelling.separator:
        raise UserError(
            "several labels an image, and values, are read from a table or an .npz archive: set data.options.table",
            code="conflict",
            field="data.task" if labelling.task in ("multi", "value") else "data.options.label_columns",
        )


def _check_archive(dir: str, *options: str) -> None:
    if any(options):
        raise UserError(
            f"data.dir={dir} is an archive: it takes no group_pattern, exclude_pattern or table; its array 'groups' "
            "(or train_groups, ...) has the group of each image",
            code="conflict",
            field="data.options",
        )


def _folder(dir: str) -> Path:
    what = "set it to the folder with the class folders or the images, to a table or an .npz archive"
    if not dir:
        raise UserError(f"data.dir is empty: {what}", code="missing", field="data.dir")
    if not Path(dir).is_dir():
        raise UserError(f"data.dir={dir} is not a folder: {what}", code="missing", field="data.dir")
    return Path(dir)


def _make_source(
    root: Path,
    listing: Listing,
    stack: loading.Stack,
    table: str,
    columns: Mapping[str, str],
) -> source.Source:
    kept = stack.kept
    paths = np.array(listing.paths)[kept]
    classes, numbers = _number(root, listing, kept, columns["label"] if table else "")
    groups, groups_known = None, False
    if listing.groups:
        found = np.array(listing.groups)[kept].tolist()
        groups, groups_known = fill_groups(found, paths.tolist(), f"{table}, column '{columns['group']}'")
    return source.make(
        stack.images,
        numbers,
        paths,
        classes,
        groups=groups,
        official=None if listing.official is None else np.array(listing.official)[kept],
        unread=listing.unread,
        task=listing.task,
    )._replace(groups_known=groups_known)


def _number(root: Path, listing: Listing, kept: np.ndarray, column: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the classes, and the labels of the images that were kept."""
    names = np.array(listing.labels or [""] * len(listing.paths))
    if listing.task == "value" and listing.names:
        return listing.names, np.array([float(text or "nan") for text in names[kept]], np.float32)
    if listing.task == "multi" and listing.names:
        width = len(listing.names)
        return listing.names, np.array([parse_row(text, width) for text in names[kept].tolist()]).reshape(-1, width)
    classes = sorted(set(names[kept].tolist()) - {""})
    if listing.task == "ordinal":
        classes = sort_grades(classes)
    lost = sorted(set(names.tolist()) - {"", *classes})
    if lost:
        raise UserError(
            f"no image of the class '{lost[0]}' can be read: repair its files, or remove the class",
            code="unreadable",
            field="data.on_bad_file",
        )
    if len(classes) == 1:
        raise _one_class(root, np.array(listing.paths)[kept][0], classes[0], column)
    number = {name: i for i, name in enumerate(classes)}
    return tuple(classes), np.array([number.get(name, source.UNLABELLED) for name in names[kept].tolist()])


def _animations(paths: Sequence[str]) -> list[str]:
    count = sum(path.lower().endswith(".gif") for path in paths)
    return [f"frames after the first of {count} GIF files"] if count else []


def _extensions(root: Path, paths: Sequence[str], used: str) -> list[str]:
    """Return a line on the images that the first FITS file holds besides those that are read."""
    first = next((path for path in paths if path.lower().endswith(fits.EXTENSIONS)), None)
    if first is None:
        return []
    try:
        with loading.strict_decoders():
            names = fits.list_extensions(root / first)
    except Exception:  # Reported when it is decoded.
        return []
    read = [name.strip().lower() for name in used.split(",")] if used else [name.lower() for name in names[:1]]
    others = [name for i, name in enumerate(names) if name.lower() not in read and str(i) not in read]
    return [f"extensions of FITS files, as of {first}: {', '.join(others)}"] if others else []


def _cache(
    root: Path, paths: list[str], cache_dir: str, memory_mib: float, options: tuple[int, str]
) -> records.Cache | None:
    if not cache_dir:
        return None
    # Caches of older versions are those of the default options.
    state = _state(root, paths) + ("" if options == (2, "") else repr(options))
    return records.Cache(Path(cache_dir), memory_mib, state)


def _state(root: Path, paths: list[str]) -> str:
    """Return a digest of the path, size and time of each file."""
    digest = hashlib.sha256(os.path.realpath(root).encode())
    for path in paths:
        try:
            seen = (root / volumes.split_name(path)[0]).stat()
            digest.update(repr((path, seen.st_size, seen.st_mtime_ns)).encode())
        except OSError:
            digest.update(repr((path, None)).encode())
    return digest.hexdigest()


def _one_class(root: Path, path: str, name: str, column: str) -> UserError:
    if column:
        return UserError(
            f"data.options.label_column: '{column}' has one class only, '{name}': add images of another, or set it to "
            "'' for no labels",
            code="too-few",
            field="data.options.label_column",
        )
    folder = root.joinpath(*path.split("/")[: path.split("/").index(name) + 1])
    inner = any(child.is_dir() for child in folder.iterdir())
    remedy = f"did you mean data.dir={folder}?" if inner else f"add classes, or set data.dir={folder} for no labels"
    return UserError(f"data.dir={root} has one class only, '{name}': {remedy}", code="too-few", field="data.dir")
