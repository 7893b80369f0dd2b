"""What is wrong with a dataset, before anything is trained on it.

`folder`, `download` and `archive` list the images of a place, `files` reads each of them once and says all that the
files tell; `source` says the cheap part of images that are loaded; `findings` puts either report into lines.

A report is a dict for strict JSON; `audit.json` is that of `files`. The report of `source` has the keys with a star.

name, place: of the dataset, or its path; the innermost folder that holds all images, to which each `path` is relative.
images*, bytes: how many, with those that cannot be read; the size of their files together.
ignored: other files by extension.
notes: lines on the layout, such as why a builder cannot use this download.
classes*: names, sorted.
counts*: images by split and class. A split is "train", "validation" or "test", "all" where there is none, or "unused"
  for images outside the splits, for files that a builder leaves out and whose folders name no split, and for those that
  a table does not list. Images without a class are "unlabelled".
unused: how many files a builder or table leaves out, of any split.
majority*: by split, the most frequent `class`, its `images`, its share of the labelled ones, which is the `accuracy` of
  always naming it, and `imbalance`, how many times it has the images of the rarest.
groups*: `known`, `count`, and `across_splits`: each `group` on several sides with its images by split, `counts`.
formats, modes, orientations: images by what the heads of the files say: Pillow's names, EXIF's orientation or "none".
channels*, dtypes*: images by what they are once decoded.
sizes*: how many `distinct` ones; `smallest` and `largest` by area, [width, height]; the ten `commonest`, [width,
  height, images].
values*: by dtype, the lowest and the highest finite value.
unreadable: `path`, `kind` ("empty", "truncated", "refused" or "corrupt") and `why`.
nonfinite*: `path`, and how many values are `nan` or `inf`, of how many `values`.
constant*: `path` of images in which each channel has one value, and the lowest `value` of these.
misnamed: `path` of files that have the extension of another `format`.
exact*: images that are equal once decoded.
near: images that nearly are: one picture, scaled, compressed or brightened otherwise.
findings*: what `findings` says.
files: a row an image: `path`, `split`, `class`, `group`, whether it is `used`, all of the above, `sha256` of its file,
  `pixels`, the sha256 of its array, and `phash`, its perceptual hash.

`exact` and `near` hold `clusters`, each with its `files` (`path`, `split`, `class`, `group`), the `splits`, `classes`
and `groups` among them, and whether the files are the `same_bytes`, or the `distance` and `similarity` of the least
alike of the pairs that join them. How many clusters have several of these is `across_splits`, `across_classes` and
`across_groups`; `extra` counts images beyond the first of each cluster, and `leaked` those of "validation" and "test"
with a copy in "train". An image with a near copy stands in a near cluster together with its exact copies, and `leaked`
of `near` counts both kinds.
"""

import functools
import hashlib
import importlib
import inspect
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.fft
import scipy.ndimage
from PIL import Image
from rich.console import Console
from rich.progress import track
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from jaxssl.data import splits
from jaxssl.data.datasets import folder as folders
from jaxssl.data.datasets import npz
from jaxssl.data.io import images
from jaxssl.data.source import UNLABELLED, Source
from jaxssl.errors import UserError, did_you_mean

# Two images are near where their hashes differ in at most DISTANCE bits and their details correlate with at least
# SIMILARITY. Measured on small copies of seven medical datasets: of 150 images of each, 97 to 100 % are found again at
# JPEG quality 50, at half and .8 of the size and at 1.2 times the brightness. At 32 pixels a side hardly any is, but
# for brighter ones; and copies that are cropped by 2 %, turned or mirrored are not found at any size. The hash alone
# would join 174 pairs of chest x-rays that are no copies, and 1,095 of the 103,285 pairs of idrid. With the details,
# chest_xray has none; 30 of the 31 clusters of ham10000 are within one lesion; and the one of idrid is false: different
# eyes in the frame of one camera reach .961, which a lower SIMILARITY would join by the dozen (40 pairs at .93).
# Simulated lenses that differ in nothing but substructure are near, too.
DISTANCE = 6
SIMILARITY = 0.96

UNUSED = "unused"
ALL = "all"

_THUMB = 32
_BLOCK = 1024
_LISTED = 3
_FORMATS = {"JPEG": (".jpeg", ".jpg"), "MPO": (".jpeg", ".jpg"), "PNG": (".png",), "TIFF": (".tif", ".tiff")}
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
    """One image to look at.

    Attributes:
      path: its name in the report.
      place: the file, or the array itself.
      split: "train", "validation", "test", `ALL` or `UNUSED`.
      label: name of its class, None without.
      group: None where groups are unknown.
      used: whether a builder makes an example of it, or a table lists it.
      read: makes its array; None for files of images.
    """

    path: str
    place: Path | np.ndarray
    split: str = ALL
    label: str | None = None
    group: str | None = None
    used: bool = True
    read: Callable[[], np.ndarray] | None = None


class Listing(NamedTuple):
    """The images of a dataset, none of them read yet; `place`, `ignored` and `notes` as in the report."""

    name: str
    place: str
    items: list[Item]
    ignored: dict[str, int]
    notes: list[str]


# Lists of images


def folder(
    dir: str,
    group_pattern: str = "",
    table: str = "",
    path_column: str = "path",
    label_column: str = "label",
    group_column: str = "group",
    split_column: str = "split",
) -> Listing:
    """The images in a folder, with splits, classes and groups as `jaxssl.data.datasets.folder` takes them.

    Without a table, outer folders without a second one beside them are passed over; where the loader would refuse the
    layout, a note says so and the images have no class. With one, a note names the images that it lists without their
    files, and those that it does not list are looked at as unused.

    Raises:
      UserError: no such folder, no image in it, a pattern that does not fit, or a table that the loader would refuse.
    """
    root = Path(dir)
    if not root.is_dir():
        raise UserError(f"{dir} is not a folder: name the one that holds the images")
    found = images.find(root)
    columns = {"path": path_column, "label": label_column, "group": group_column, "split": split_column}
    if table:
        return _tabled(root, found, folders.from_table(root, table, columns, group_pattern))
    folders.refuse_columns(columns)
    paths = [path for path in found if images.is_image(root / path)]
    if not paths:
        raise UserError(f"{dir} holds no image ({', '.join(images.EXTENSIONS)}): name another folder")
    groups = folders.match_groups(paths, group_pattern) if group_pattern else [None] * len(paths)
    outer = _outer(paths)
    inner = [path[len(outer) :] for path in paths]
    notes = []
    try:
        official, labels = folders.read_layout(root, inner)
    except UserError as error:
        official, labels, notes = None, None, [f"the folders are no classes: {error}"]
    columns = (official or [ALL] * len(paths), labels or [None] * len(paths), groups)
    items = [Item(name, root / outer / name, *row) for name, *row in zip(inner, *columns, strict=True)]
    return Listing(str(dir), str(root / outer), items, _ignored(set(found) - set(paths)), notes)


def _tabled(root: Path, found: Sequence[str], listing: folders.Listing) -> Listing:
    count = len(listing.paths)
    columns = [column or [None] * count for column in (listing.official, listing.labels, listing.groups)]
    items, absent = {}, []
    for path, split, label, group in zip(listing.paths, *columns, strict=True):
        if (root / path).is_file():
            items[path] = Item(path, root / path, split or ALL, label or None, group or None)
        else:
            absent.append({"path": path})
    if not items:
        raise UserError(f"{root} holds none of the {count} images of the table, such as {listing.paths[0]}")
    notes = [_line("images that the table lists without their files", absent, "path", count)] if absent else []
    alone = [{"path": path} for path, item in items.items() if item.group is None]
    if 0 < len(alone) < len(items):
        notes.append(_line("images without a group, although others have one", alone, "path", len(items)))
    for path in found:
        if path not in items and images.is_image(root / path):
            items[path] = Item(path, root / path, UNUSED, used=False)
    others = _ignored(path for path in found if path not in items)
    return Listing(str(root), str(root), [items[path] for path in sorted(items)], others, notes)


def download(name: str, manual_dir: str, **kw: Any) -> Listing:
    """The images in the download of a builder: all of them, those too of which the builder makes no example.

    An example has the split, class and group that the builder says, another file those that its folders name. Where the
    builder cannot use the download, a note says why, and the folders alone tell.

    Args:
      name: of a module of `jaxssl.data.datasets`.
      manual_dir: the download.
      **kw: what else `examples` of the builder takes.

    Raises:
      UserError: no such folder, or one that holds nothing for the builder and no image either, an unknown keyword.
    """
    # TFDS, which takes seconds to import, is needed for this alone.
    from jaxssl.data.datasets import prepared

    builder = importlib.import_module(f"jaxssl.data.datasets.{name}")
    free = list(inspect.signature(builder.examples).parameters)[1:]
    for key in kw:
        if key not in free:
            raise UserError(
                f"--options={key}: {did_you_mean(key, free)}'{name}' takes {', '.join(free) or 'no keywords'}"
            )
    found = prepared.look(builder.DATASET, manual_dir)
    root = found.root
    try:
        examples = builder.examples(found, **kw)
    except KeyError as error:
        if not kw:
            raise
        raise UserError(f"--options: '{name}' does not know {error}") from error
    except UserError as error:
        if not any(images.is_image(root / file) for file in found.files):
            raise
        listing = folder(manual_dir)
        return listing._replace(name=name, notes=[f"the builder cannot use this download: {error}", *listing.notes])
    absent = [{"path": example.id} for example in examples if example.path is None]
    examples = [example for example in examples if example.path is not None]
    if not examples:
        raise prepared.missing(found, f"the images of '{name}'")
    items = {}
    for item in _examples(builder.DATASET, root, examples, kw):
        # A file may hold several examples.
        items[item.path if item.path not in items else f"{item.path} {len(items)}"] = item
    ends = tuple({example.path.suffix.lower() for example in examples})
    classes = {_plain(label): label for label in (*builder.DATASET.classes, *(e.label for e in examples if e.label))}
    for path in set(found.files) - set(items):
        if path.lower().endswith(ends):
            names = path.split("/")[:-1]
            label = next((classes[_plain(name)] for name in reversed(names) if _plain(name) in classes), None)
            split = next((folders.SPLITS[name.lower()] for name in names if name.lower() in folders.SPLITS), UNUSED)
            items[path] = Item(path, root / path, split, label, used=False)
    outer = _outer(list(items))
    listed = [items[path]._replace(path=path[len(outer) :]) for path in sorted(items)]
    notes = [_line("images that the download lists without their files", absent, "path")] if absent else []
    return Listing(name, str(root / outer), listed, _ignored(set(found.files) - set(items)), notes)


def _examples(dataset: Any, root: Path, examples: Sequence[Any], kw: Mapping[str, Any]) -> Iterable[Item]:
    official = {example.split for example in examples} != {"train"}
    reader = dataset.read
    if reader:
        taken = inspect.signature(reader).parameters
        reader = functools.partial(reader, **{key: value for key, value in kw.items() if key in taken})
    for example in examples:
        path = example.path.relative_to(root).as_posix()
        split, group = example.split if official else ALL, example.group if dataset.group else None
        read = reader and functools.partial(reader, example)
        yield Item(path, example.path, split, example.label, group, read=read)


def archive(path: str) -> Listing:
    """The images in an npz archive, in the layout of `jaxssl.data.datasets.npz`.

    Raises:
      UserError: no archive there, or arrays that are missing, hold objects or do not go together.
    """
    arrays = npz.read_arrays(Path(path))
    sides = [side for side in npz.SPLITS if f"{side}_images" in arrays]
    rows = [(f"{side}_", side, npz.SPLITS[side]) for side in sides] or [("", "images", ALL)]
    items = []
    for prefix, side, split in rows:
        if f"{prefix}images" not in arrays:
            raise UserError(f"{path} holds {', '.join(arrays) or 'nothing'}: 'train_images' or 'images' is missing")
        pixels = arrays[f"{prefix}images"]
        known = bool(sides) or "labels" in arrays
        labels = npz.read_labels(Path(path), arrays, f"{prefix}labels", len(pixels)) if known else [None] * len(pixels)
        names = npz.make_ids(side, len(pixels))
        for one, pixel, label in zip(names, pixels, labels, strict=True):
            items.append(Item(one, pixel, split, None if label is None else str(label)))
    if not items:
        raise UserError(f"{path} holds no image: name another archive")
    return Listing(str(path), str(path), items, {}, [])


def _ignored(paths: Iterable[str]) -> dict[str, int]:
    """How many of these paths have each extension."""
    return _counted(os.path.splitext(path)[1].lower() or "no extension" for path in paths)


def _outer(paths: Sequence[str]) -> str:
    """The folders that all paths share, with a last "/", up to one that is named as a split."""
    shared = ""
    for names in zip(*(path.split("/")[:-1] for path in paths), strict=False):
        if len(set(names)) > 1 or names[0].lower() in folders.SPLITS:
            break
        shared += names[0] + "/"
    return shared


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().lower()


# Reports


def files(listing: Listing) -> dict[str, Any]:
    """Reads every image of the list in threads and reports all that this module knows.

    One image a thread is in memory at a time; what is kept of each is its row and a thumbnail of 2 kB. A bar is drawn
    on stderr where that is a terminal.
    """
    quiet = len(listing.items) <= 1000 or not sys.stderr.isatty()
    with images.strict_decoders(), ThreadPoolExecutor(os.cpu_count()) as pool:
        looked = pool.map(_look, listing.items)
        console = Console(stderr=True)
        done = list(track(looked, "images", len(listing.items), transient=True, disable=quiet, console=console))
    rows = [row for row, _ in done]
    readable = [i for i, row in enumerate(rows) if row["unreadable"] is None]
    details = np.array([done[i][1] for i in readable]).reshape(len(readable), _THUMB**2)
    fine = [rows[i] for i in readable]
    report = {
        "name": listing.name,
        "place": listing.place,
        "bytes": sum(row["bytes"] for row in rows),
        "ignored": listing.ignored,
        "notes": listing.notes,
        "unused": sum(not row["used"] for row in rows),
        **_describe(rows, all(row["group"] is not None for row in rows if row["used"])),
        "formats": _counted(row["format"] for row in fine),
        "modes": _counted(row["mode"] for row in fine if row["mode"]),
        "orientations": _counted(row["orientation"] for row in fine),
        "unreadable": [{"path": row["path"], **row["unreadable"]} for row in rows if row["unreadable"]],
        "misnamed": [{key: row[key] for key in ("path", "format")} for row in fine if _misnamed(row)],
        "near": _near(fine, details),
    }
    report["findings"] = findings(report)
    return report | {"files": rows}


def source(data: Source, parts: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
    """Reports what is cheap to tell of loaded images: 0.4 s of a core for 10,000 of 64 x 64 x 3.

    Args:
      data: the dataset.
      parts: the indices of each split, as of `splits.split`; by default the official split, or all as one.

    Returns:
      The keys with a star; a `path` is an id.
    """
    if parts is None:
        parts = (
            {}
            if data.use_official_split is None
            else {split: data.use_official_split == split for split in splits.SIDES}
        )
    where = np.full(len(data.ids), UNUSED if parts else ALL, dtype="<U16")
    for split, indices in parts.items():
        where[indices] = split
    height, width, channels = data.images.shape[1:]
    rows = []
    for i, image in enumerate(data.images):
        flat = np.ascontiguousarray(image).reshape(-1, channels)
        rows.append(
            {
                "path": str(data.ids[i]),
                "split": str(where[i]),
                "class": None if data.labels[i] == UNLABELLED else data.classes[data.labels[i]],
                "group": str(data.groups[i]) if data.groups_known else None,
                "unreadable": None,
                "sha256": None,
                "width": width,
                "height": height,
                "channels": channels,
                "dtype": str(data.images.dtype),
                "pixels": hashlib.blake2b(flat, digest_size=32).hexdigest(),
                **_values(flat),
            }
        )
    report = _describe(rows, data.groups_known)
    report["findings"] = findings(report)
    return report


def findings(report: Mapping[str, Any]) -> list[str]:
    """The lines that a person should read of a report of `files` or `source`, the most serious first; often few."""
    total, groups = report["images"], report["groups"]
    near = report.get("near") or _clusters([])
    lines = [
        *report.get("notes", ()),
        _line("files that cannot be read", report.get("unreadable", ()), "path", total),
        _line("images with NaN or infinities, for which data.nan is", report["nonfinite"], "path", total),
        _line("groups on two sides of the split", groups["across_splits"], "group"),
    ]
    for split, count in report["exact"]["leaked"].items():
        of = sum(report["counts"].get(split, {}).values())
        if count:
            lines.append(f"{split} images with a copy in train: {count:,} of {of:,}")
        if near["leaked"][split] > count:
            lines.append(f"{split} images with a copy or near copy in train: {near['leaked'][split]:,} of {of:,}")
    for kind, found in (("copy", report["exact"]), ("near copy", near)):
        for key in ("class", "group"):
            lines.append(_line(f"images with a {kind} in another {key}", _torn(found["clusters"], key), "pair"))
    if report["exact"]["extra"]:
        lines.append(f"images that are one more copy of another: {report['exact']['extra']:,} of {total:,}")
    lines.append(_line("images with one value throughout", report["constant"], "path", total))
    for key in ("dtypes", "channels"):
        # Grey among RGB is made RGB by every loader.
        if len(report[key]) > 1 and not (key == "channels" and set(report[key]) == {"1", "3"}):
            kinds = ", ".join(f"{kind} ({n:,})" for kind, n in report[key].items())
            lines.append(f"images differ in {key}, which no loader takes together: {kinds}")
    lines.append(_line("files with the extension of another format", report.get("misnamed", ()), "path"))
    for split, most in report["majority"].items():
        missing = sorted(set(report["classes"]) - set(report["counts"][split]))
        if missing and split != UNUSED:
            lines.append(f"classes that {split} lacks: {', '.join(missing)}")
        if most["imbalance"] >= 10:
            lines.append(
                f"'{most['class']}' is {most['imbalance']:.0f} times as frequent as the rarest class of {split}"
            )
    if groups["count"] == 1 and total > 1:
        lines.append("all images are of one group, so that no split by group can be made")
    if report["classes"] and not groups["known"]:
        lines.append("groups are unknown: nothing tells whether a patient is on two sides of a split")
    return [line for line in lines if line]


def _line(what: str, rows: Sequence[Mapping[str, Any]], key: str, total: int = 0) -> str:
    """How many, and the first of them with what is wrong; nothing without any."""
    some = [row[key] + (f": {row['why']}" if "why" in row else "") for row in rows[:_LISTED]]
    more = ", ..." if len(rows) > _LISTED else ""
    return f"{what}: {len(rows):,}{f' of {total:,}' if total else ''} ({', '.join(some)}{more})" if rows else ""


def _torn(clusters: Sequence[Mapping[str, Any]], key: str) -> list[dict[str, str]]:
    """Of each cluster with several classes or groups, the `pair` of files of two of them."""
    pairs = []
    for cluster in clusters:
        of = {file[key]: file["path"] for file in reversed(cluster["files"]) if file[key] is not None}
        if len(of) > 1:
            pairs.append({"pair": " = ".join(sorted(of.values())[:2])})
    return pairs


# One image


def _look(item: Item) -> tuple[dict[str, Any], np.ndarray | None]:
    """An image's row, and its details [1024] float16; what no decoder can make of it is said in the row."""
    row = {
        "path": item.path,
        "used": item.used,
        "split": item.split,
        "class": item.label,
        "group": item.group,
        **dict.fromkeys(("format", "mode", "orientation", "width", "height", "channels", "dtype")),
        **dict.fromkeys(("low", "high", "constant", "nan", "inf", "sha256", "pixels", "phash", "unreadable")),
        "bytes": 0,
    }
    # Decoders raise nearly anything at a broken file, and one file must not hide what is wrong with the others.
    try:
        if isinstance(item.place, Path):
            row["bytes"] = item.place.stat().st_size
            with open(item.place, "rb") as opened:
                row["sha256"] = hashlib.file_digest(opened, "sha256").hexdigest()
            row.update(_head(item.place))
            image = images.as_image(np.asarray(item.read())) if item.read else images.read(item.place)
        else:
            image = images.as_image(item.place)
            row.update(bytes=item.place.nbytes, format="npz")
        image = np.ascontiguousarray(image)
        row["height"], row["width"], row["channels"] = image.shape
        row["dtype"] = str(image.dtype)
        digest = hashlib.sha256(repr((image.shape, str(image.dtype))).encode())
        digest.update(image)
        row["pixels"] = digest.hexdigest()
        row.update(_values(image.reshape(-1, image.shape[-1])))
        bits, details = _perceive(image)
        row["phash"] = f"{bits:016x}"
        return row, details
    except Exception as error:
        why = images.reason(error) or type(error).__name__
        row["unreadable"] = {"kind": _kind(why, row["bytes"]), "why": why}
        return row, None


def _head(path: Path) -> dict[str, Any]:
    with open(path, "rb") as opened:
        if opened.read(6) == b"\x93NUMPY":
            return {"format": "npy"}
    # What the head of a file has wrong is said by the reader of its pixels.
    try:
        with Image.open(path, formats=("JPEG", "PNG", "TIFF")) as image:
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


def _values(flat: np.ndarray) -> dict[str, Any]:
    """Range and holes of [values, channels]; constant where each channel has one finite value."""
    if flat.dtype.kind != "f":
        return _whole(flat)
    finite = np.isfinite(flat)
    if finite.all():
        return _whole(flat)
    nan = int(np.isnan(flat).sum())
    kept = flat[finite]
    low, high = (float(kept.min()), float(kept.max())) if len(kept) else (None, None)
    return {"low": low, "high": high, "constant": False, "nan": nan, "inf": int((~finite).sum()) - nan}


def _whole(flat: np.ndarray) -> dict[str, Any]:
    """The same where all is finite; minima by channel would take ten times as long."""
    constant = bool((flat[0] == flat[-1]).all() and (flat == flat[0]).all())
    return {"low": flat.min().item(), "high": flat.max().item(), "constant": constant, "nan": 0, "inf": 0}


def _perceive(image: np.ndarray) -> tuple[int, np.ndarray]:
    """The perceptual hash and the details of [H, W, C].

    Returns:
      64 bits: which of the 8 x 8 lowest cosine coefficients of the grey image are above their median (the pHash of
        Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions").
      [1024] float16: what a Gaussian of one pixel takes from the thumbnail of 32 x 32, of mean 0 and norm 1, or zeros.
    """
    if image.dtype.kind == "f":
        image = np.where(np.isfinite(image), image, 0)
        image = image / max(np.abs(image).max(), np.finfo(np.float32).tiny)
    # Grey copies of RGB images are made with these weights.
    weights = (0.299, 0.587, 0.114) if image.shape[-1] == 3 else [1.0] * image.shape[-1]
    grey = sum(np.float32(weight) * image[..., c] for c, weight in enumerate(weights))
    thumb = np.asarray(Image.fromarray(grey).resize((_THUMB, _THUMB), Image.Resampling.LANCZOS))
    low = scipy.fft.dctn(thumb)[:8, :8].ravel()
    bits = int.from_bytes(np.packbits(low > np.median(low[1:])).tobytes(), "big")
    details = (thumb - scipy.ndimage.gaussian_filter(thumb, 1)).ravel()
    details = details - details.mean()
    norm = np.linalg.norm(details)
    return bits, (details / norm if norm > 1e-6 else 0 * details).astype(np.float16)


def _misnamed(row: Mapping[str, Any]) -> bool:
    known = _FORMATS.get(row["format"])
    return bool(known) and not row["path"].lower().endswith(known)


# Many images


def _describe(rows: list[dict[str, Any]], groups_known: bool) -> dict[str, Any]:
    """The keys with a star but for `findings`."""
    fine = [row for row in rows if row["unreadable"] is None]
    order = {split: i for i, split in enumerate((*splits.SIDES, ALL, UNUSED))}
    counts = {}
    for split in sorted({row["split"] for row in rows}, key=lambda split: (order.get(split, len(order)), split)):
        counts[split] = _counted(row["class"] or "unlabelled" for row in rows if row["split"] == split)
    sizes = Counter((row["width"], row["height"]) for row in fine)
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    values = {}
    for row in fine:
        if row["low"] is not None:
            low, high = values.get(row["dtype"], (row["low"], row["high"]))
            values[row["dtype"]] = [min(low, row["low"]), max(high, row["high"])]
    return {
        "images": len(rows),
        "classes": sorted({row["class"] for row in rows if row["class"] is not None}),
        "counts": counts,
        "majority": {split: found for split in counts if (found := _majority(counts[split]))},
        "groups": _groups(rows, groups_known),
        "channels": _counted(row["channels"] for row in fine),
        "dtypes": _counted(row["dtype"] for row in fine),
        "sizes": {
            "distinct": len(sizes),
            "smallest": list(by_area[0]) if sizes else None,
            "largest": list(by_area[-1]) if sizes else None,
            "commonest": [[*size, n] for size, n in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:10]],
        },
        "values": dict(sorted(values.items())),
        "nonfinite": [
            {key: row[key] for key in ("path", "nan", "inf")}
            | {"values": row["width"] * row["height"] * row["channels"]}
            for row in fine
            if row["nan"] or row["inf"]
        ],
        "constant": [{"path": row["path"], "value": row["low"]} for row in fine if row["constant"]],
        "exact": _exact(fine),
    }


def _counted(values: Iterable[Any]) -> dict[str, int]:
    """How often each value stands there, the most frequent first; keys of JSON are strings."""
    counts = Counter("none" if value is None else str(value) for value in values)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _majority(counts: Mapping[str, int]) -> dict[str, Any] | None:
    labelled = {label: n for label, n in counts.items() if label != "unlabelled"}
    if not labelled:
        return None
    best = max(labelled, key=labelled.get)
    accuracy, imbalance = labelled[best] / sum(labelled.values()), labelled[best] / min(labelled.values())
    return {"class": best, "images": labelled[best], "accuracy": accuracy, "imbalance": imbalance}


def _groups(rows: list[dict[str, Any]], known: bool) -> dict[str, Any]:
    where: dict[str, Counter] = {}
    for row in rows:
        if row["group"] is not None:
            where.setdefault(row["group"], Counter())[row["split"]] += 1
    torn = [
        {"group": group, "counts": dict(sorted(counts.items()))}
        for group, counts in sorted(where.items())
        if len(set(counts) & set(splits.SIDES)) > 1
    ]
    return {"known": known, "count": len(where) if known else None, "across_splits": torn}


def _exact(rows: list[dict[str, Any]]) -> dict[str, Any]:
    same: dict[str, list] = {}
    for row in rows:
        same.setdefault(row["pixels"], []).append(row)
    found = [members for members in same.values() if len(members) > 1]
    return _clusters([(members, {"same_bytes": len({row["sha256"] for row in members}) == 1}) for members in found])


def _near(rows: list[dict[str, Any]], details: np.ndarray) -> dict[str, Any]:
    same: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        same.setdefault(row["pixels"], []).append(i)
    # One of each set of equal images will do, and a thousand black ones do not make half a million pairs.
    members = list(same.values())
    first = [equal[0] for equal in members]
    hashes = np.array([int(rows[i]["phash"], 16) for i in first], np.uint64)
    i, j, distance, similarity = near_pairs(hashes, details[first])
    _, component = connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(len(first),) * 2), directed=False)
    joined: dict[int, list[dict[str, Any]]] = {}
    for equal, of in zip(members, component.tolist(), strict=True):
        joined.setdefault(of, []).extend(rows[k] for k in equal)
    worst = {of: {"distance": 0, "similarity": 1.0} for of in component[i].tolist()}
    for of, bits, r in zip(component[i].tolist(), distance.tolist(), similarity.tolist(), strict=True):
        worst[of]["distance"] = max(worst[of]["distance"], bits)
        worst[of]["similarity"] = min(worst[of]["similarity"], round(r, 4))
    found = _clusters([(joined[of], how) for of, how in worst.items()])
    return found | {"leaked": _leaked(joined.values())}


def near_pairs(hashes: np.ndarray, details: np.ndarray) -> tuple[np.ndarray, ...]:
    """All pairs i < j within `DISTANCE` and `SIMILARITY`, by brute force: 0.3 s for 10,000.

    Args:
      hashes: [N] uint64.
      details: [N, 1024] float16, of norm 1 or 0.

    Returns:
      i, j [M] int64, the differing bits [M] uint8, the correlations [M] float32.
    """
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros(0, np.float32))]
    for start in range(0, len(hashes), _BLOCK):
        distance = np.bitwise_count(hashes[start : start + _BLOCK, None] ^ hashes[None, start:])
        rows, columns = np.nonzero(np.triu(distance <= DISTANCE, 1))
        for part in range(0, len(rows), _BLOCK):
            i, j = rows[part : part + _BLOCK], columns[part : part + _BLOCK]
            similarity = np.einsum("nd,nd->n", *(details[start + k].astype(np.float32) for k in (i, j)))
            keep = similarity >= SIMILARITY
            i, j = i[keep], j[keep]
            found.append((start + i, start + j, distance[i, j], similarity[keep]))
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))


def _clusters(found: list[tuple[list[dict[str, Any]], dict[str, Any]]]) -> dict[str, Any]:
    """The section of the report on these clusters of rows: those of the most splits and classes first, then by path."""
    clusters = []
    for members, how in found:
        listed = [{key: row[key] for key in ("path", "split", "class", "group")} for row in members]
        listed.sort(key=lambda row: row["path"])
        inside = {key: {row[key] for row in members} - {None} for key in ("split", "class", "group")}
        clusters.append(
            {
                "splits": [split for split in splits.SIDES if split in inside["split"]],
                "classes": sorted(inside["class"]),
                "groups": sorted(inside["group"]),
                **how,
                "files": listed,
            }
        )
    clusters.sort(key=lambda c: (-len(c["splits"]), -len(c["classes"]), -len(c["groups"]), c["files"][0]["path"]))
    across = {f"across_{key}": sum(len(c[key]) > 1 for c in clusters) for key in ("splits", "classes", "groups")}
    extra = sum(len(cluster["files"]) - 1 for cluster in clusters)
    return {**across, "extra": extra, "leaked": _leaked(members for members, _ in found), "clusters": clusters}


def _leaked(found: Iterable[list[dict[str, Any]]]) -> dict[str, int]:
    leaked = {"validation": 0, "test": 0}
    for members in found:
        where = Counter(row["split"] for row in members)
        for split in leaked:
            leaked[split] += where[split] if where["train"] else 0
    return leaked
