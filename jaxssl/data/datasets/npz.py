"""Images in one npz archive, in the layout of MedMNIST (Yang et al. 2023, arXiv:2110.14795) or without a split."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxssl import files
from jaxssl.data import labels as parsing
from jaxssl.data import medmnist, records, source
from jaxssl.data.io import archive, arrays, loading
from jaxssl.data.io.masks import to_classes
from jaxssl.data.masks import attach
from jaxssl.errors import UserError

MAX_CLASSES = 100_000
SPLITS = {"train": "train", "val": "validation", "test": "test"}


def load(
    *,
    dir: str,
    size: int,
    nan: str = "refuse",
    fit: str = "pad",
    cache_dir: str = "",
    memory_mib: float = math.inf,
    classes: Sequence[str] | None = None,
    use_labels: bool = True,
    task: str = "auto",
    masks: bool = False,
    mask_classes: Sequence[str] = (),
) -> source.Source:
    """Load `{train,val,test}_{images,labels}`, or `images` with or without `labels`; also groups and masks.

    Images are [N, H, W], [N, H, W, C] or [N, C, H, W] (see `jaxssl.data.io.arrays`). Labels are integers from 0 or
    names, [N] or [N, 1], or one-hot, [N, classes]; -1, "" and words such as "NA" are no label. Where a row of
    [N, classes] has several ones, or none, images have any number of labels, as in ChestMNIST. Groups, such as
    patients, are `{train,val,test}_groups` or `groups`, [N] or [N, 1] names or numbers; "", NaN and "NA" are none.

    Args:
      dir: path of the archive.
      size: side in pixels at which images are held; those that have it are not changed.
      nan: "refuse", "zero" or "median".
      fit: "pad", "crop" or "squash" for images that are not square.
      cache_dir: where images are kept if they exceed `memory_mib`.
      memory_mib: images up to this size (MiB) are held in memory.
      classes: names of the classes, in the order of the labels; by default those of MedMNIST for an archive of its
        name, and "0", "1", ... for others.
      use_labels: whether to read the labels; False for pretraining alone.
      task: what labels are, see `data.task`; of "value", [N] or [N, 1] numbers, NaN where unknown.
      masks: whether to read masks, [N, H, W] or [N, H, W, 1] numbers of classes; one class may be 0 and 255.
      mask_classes: names of the classes in masks, from value 1; () for one class.

    Returns:
      The dataset, with the archive's split as the official one; ids are such as "train/0001", counted from 0.

    Raises:
      UserError: there is no archive, arrays are missing, hold objects or differ in length, or labels are not of the
        task.
    """
    path = Path(dir)
    if not dir or not path.is_file():
        raise UserError(f"data.dir={dir!r} is not a file: set it to the .npz archive", code="missing", field="data.dir")
    headers = archive.read_headers(path)
    keys = image_keys(path, headers)
    counts = {side: headers[key].shape[0] for side, key in keys.items()}
    if not any(counts.values()):
        raise UserError(f"{path} holds no image: set data.dir to another archive", code="too-few", field="data.dir")
    of_labels = label_keys(headers, counts) if use_labels else {}
    found, numbers, task = read_all_labels(path, headers, of_labels, counts, classes, task)
    ids = [name for side, count in counts.items() for name in make_ids(side, count)]
    of_groups = read_groups(path, headers, counts)
    groups, groups_known = parsing.fill_groups(of_groups, ids, str(path)) if of_groups else (None, False)
    cache = records.Cache(Path(cache_dir), memory_mib, _state(path)) if cache_dir else None
    with _open_arrays(path, headers, list(keys.values()), cache) as stacks:
        rows = [(array, i) for array, count in zip(stacks, counts.values(), strict=True) for i in range(count)]
        places = [f"{path}: {name}" for name in ids]
        stack = loading.stack(
            lambda k: arrays.as_image(rows[k][0][rows[k][1]]), places, size, nan=nan, fit=fit, cache=cache
        )
    others = {array_key(side, what) for side in counts for what in ("groups", *["masks"] * masks)}
    unused = sorted(set(headers) - {*keys.values(), *of_labels.values(), *others})
    unread = [f"arrays of {path.name}: {', '.join(unused)}"] if unused else []
    official = None if "images" in keys else np.repeat([SPLITS[side] for side in keys], list(counts.values()))
    made = source.make(stack.images, numbers, ids, found, groups, official, task=task)
    if empty := [name for name, of in zip(found, made.strata.T, strict=False) if task != "value" and not of.any()]:
        unread.append(f"classes without an image: {', '.join(empty)}")
    made = made._replace(unread=(*unread, *stack.unread), groups_known=groups_known)
    if not masks:
        return made
    read, mask_classes = read_masks(path, headers, counts, mask_classes)
    return attach(made, read, mask_classes, fit=fit, cache=cache)


def read_groups(path: Path, headers: Mapping[str, archive.Header], counts: Mapping[str, int]) -> list[str] | None:
    """Return the group of each image, "" where it is unknown; None for an archive without groups.

    Raises:
      UserError: a side of the split has none, or they are not one group an image.
    """
    keys = {side: array_key(side, "groups") for side in counts}
    if not {*keys.values()} & {*headers}:
        return None
    found = []
    for side, key in keys.items():
        values = _read_array(path, headers, key, counts[side], "one group an image")
        if values.size != counts[side]:
            message = f"{path}: '{key}' is {list(values.shape)}: it must be [N], one group an image"
            raise UserError(message, code="mismatch", field=key)
        found += parsing.parse_values(_texts(values))
    return found


def read_masks(
    path: Path, headers: Mapping[str, archive.Header], counts: Mapping[str, int], names: Sequence[str]
) -> tuple[Callable[[int], np.ndarray], tuple[str, ...]]:
    """Return what makes the mask of an image of its number, and the classes; `names` are those from value 1.

    Raises:
      UserError: a side of the split has no masks, or not one an image.
    """
    keys = {side: array_key(side, "masks") for side in counts}
    arrays_of = [_read_array(path, headers, key, counts[side], "one mask an image") for side, key in keys.items()]
    found = [mask for array in arrays_of for mask in array]
    classes = ("background", *(names or ("foreground",)))
    return lambda i: to_classes(found[i], len(classes)), classes


def array_key(side: str, what: str) -> str:
    """Return the name of the array of "labels" or "masks" of a side of the split, or of "images"."""
    return what if side == "images" else f"{side}_{what}"


def image_keys(path: Path, headers: Mapping[str, archive.Header]) -> dict[str, str]:
    """Return the names of the arrays of images by side of the split, or by "images" if there is none.

    Raises:
      UserError: the archive has neither.
    """
    sides = {side: f"{side}_images" for side in SPLITS if f"{side}_images" in headers}
    if not sides and "images" not in headers:
        raise UserError(
            f"{path} holds {', '.join(headers) or 'nothing'}: 'train_images' or 'images' is missing",
            code="missing",
            field=str(path),
        )
    sides = sides or {"images": "images"}
    if single := next((key for key in sides.values() if not headers[key].shape), None):
        raise UserError(f"{path}: '{single}' is a single value, not images", code="unsupported", field=single)
    return sides


def make_ids(side: str, count: int) -> list[str]:
    """Return train/0000, train/0001, ..."""
    return [f"{side}/{i:04d}" for i in range(count)]


def label_keys(headers: Mapping[str, archive.Header], counts: Mapping[str, int]) -> dict[str, str]:
    """Return the names of the arrays of labels by side; {} for an archive without labels."""
    if "images" in counts and "labels" not in headers:
        return {}
    return {side: array_key(side, "labels") for side in counts}


def read_all_labels(
    path: Path,
    headers: Mapping[str, archive.Header],
    keys: Mapping[str, str],
    counts: Mapping[str, int],
    classes: Sequence[str] | None,
    task: str,
) -> tuple[tuple[str, ...], np.ndarray, str]:
    """Return the names of the classes, the labels and the task."""
    total = sum(counts.values())
    if not keys:
        return (), np.full(total, source.UNLABELLED), "single"
    if task == "value":
        values = [_read_values(path, headers, key, counts[side]) for side, key in keys.items()]
        return tuple(classes or ("value",))[:1], np.concatenate(values), task
    arrays_of = [archive.read_array(path, key) for key in keys.values() if key in headers]
    columns = {array.shape[1] for array in arrays_of if array.ndim == 2}
    several = max(columns, default=1) > 1 and not all(map(_is_one_hot, arrays_of))
    if task == "multi" or (task == "auto" and several and len(columns) == 1):
        labels = [_read_several(path, headers, key, counts[side]) for side, key in keys.items()]
        return _name_labels(path, labels, classes), np.concatenate(labels), "multi"
    names = [name for side, key in keys.items() for name in read_labels(path, headers, key, counts[side])]
    found, numbers = _number(path, names, classes) if any(names) else ((), np.full(total, source.UNLABELLED))
    return found, numbers, "single" if task == "auto" else task


def _is_one_hot(values: np.ndarray) -> bool:
    """Return whether each row of [N, classes] has a single 1 and otherwise 0."""
    return (
        values.ndim == 2
        and values.dtype.kind in "biuf"
        and bool(np.isin(values, (0, 1)).all() and (values.sum(1) == 1).all())
    )


def _read_array(
    path: Path, headers: Mapping[str, archive.Header], key: str, count: int, what: str = "one label an image"
) -> np.ndarray:
    """Return an array with `count` rows, of labels or of `what`. UserError if it is missing or has another number."""
    if key not in headers:
        raise UserError(f"{path} has no '{key}': add it, {what}", code="missing", field=key)
    values = archive.read_array(path, key)
    if values.shape[:1] != (count,):
        rows = values.shape[0] if values.ndim else 0
        raise UserError(f"{path}: '{key}' has {rows} rows for {count} images", code="mismatch", field=key)
    return values


def _read_values(path: Path, headers: Mapping[str, archive.Header], key: str, count: int) -> np.ndarray:
    values = _read_array(path, headers, key, count).reshape(count, -1)
    if values.shape[1] != 1 or values.dtype.kind not in "biuf" or np.isinf(values.astype(float)).any():
        raise UserError(
            f"{path}: '{key}' must be [N] finite numbers for data.task='value'; NaN is unknown",
            code="out-of-range",
            field=key,
        )
    return values[:, 0].astype(np.float32)


def _read_several(path: Path, headers: Mapping[str, archive.Header], key: str, count: int) -> np.ndarray:
    """Return several labels an image, [N, C] int32 of 1, 0 and -1."""
    values = _read_array(path, headers, key, count)
    numbers = np.where(np.isnan(values.astype(float)), -1, values) if values.dtype.kind in "biuf" else None
    if numbers is None or values.ndim != 2 or not np.isin(numbers, (-1, 0, 1)).all():
        raise UserError(
            f"{path}: '{key}' must be [N, labels] of 1, 0 and -1 (unknown) for data.task='multi'",
            code="out-of-range",
            field=key,
        )
    return numbers.astype(np.int32)


def _name_labels(path: Path, labels: Sequence[np.ndarray], classes: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of several labels: those given, those of MedMNIST, or "0", "1", ..."""
    widths = {of.shape[1] for of in labels}
    if len(widths) > 1:
        raise UserError(
            f"{path}: the arrays of labels have {' and '.join(map(str, sorted(widths)))} columns",
            code="mismatch",
            field=str(path),
        )
    width = widths.pop()
    names = classes if classes is not None else medmnist.find_classes(path)
    if classes is not None and len(classes) != width:
        raise UserError(
            f"data.options.classes names {len(classes)} labels, and those of {path} have {width} columns",
            code="mismatch",
            field="data.options.classes",
        )
    names = names if names is not None and len(names) == width else tuple(map(str, range(width)))
    parsing.check_label_names(names, "data.options.classes")
    return tuple(names)


def read_labels(path: Path, headers: Mapping[str, archive.Header], key: str, count: int) -> list[str]:
    """Return a label for each image: a number from "0", the name of a class, or "" for none.

    Raises:
      UserError: there are none, or they are not one label for each image.
    """
    values = _read_array(path, headers, key, count)
    if values.ndim == 2 and values.shape[1] > 1:
        values = _from_one_hot(path, key, values)
    values = values.reshape(-1)
    if values.dtype.kind in "US":
        return parsing.parse_classes(_texts(values))
    numbers = values.astype(float) if values.dtype.kind in "biuf" else np.full(len(values), 0.5)
    missing = np.isnan(numbers) | (numbers == -1)
    if not (missing | ((numbers >= 0) & (numbers % 1 == 0))).all():
        raise UserError(
            f"{path}: '{key}' must be integers from 0, or names; -1 is no label; numbers to be predicted need "
            "data.task='value'",
            code="out-of-range",
            field=key,
        )
    return ["" if none else str(int(number)) for number, none in zip(numbers, missing, strict=True)]


def _texts(values: np.ndarray) -> list[str]:
    """Return the values of an array as texts, bytes as UTF-8."""
    flat = values.reshape(-1)
    return (np.char.decode(flat, "utf-8", "backslashreplace") if flat.dtype.kind == "S" else flat.astype(str)).tolist()


def _from_one_hot(path: Path, key: str, values: np.ndarray) -> np.ndarray:
    """Return the class of each row of [N, classes] that has a single 1. UserError for several labels per image."""
    if _is_one_hot(values):
        return values.argmax(1)
    raise UserError(
        f"{path}: '{key}' has {values.shape[1]} columns, of which not exactly one is 1 in each row: several labels an "
        "image need data.task='multi' or 'auto', and the same columns in each array",
        code="conflict",
        field=key,
    )


def _number(path: Path, names: list[str], classes: Sequence[str] | None) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the classes, and of each image the index of its class."""
    known = set(names) - {""}
    if len(known) == 1:
        raise UserError(
            f"{path} has one class only, {known.pop()}: add images of another", code="too-few", field=str(path)
        )
    if not all(map(str.isdecimal, known)):
        found = tuple(sorted(known))
        if classes is not None and tuple(classes) != found:
            raise UserError(
                f"data.options.classes={tuple(classes)}, and the labels of {path} are names: {', '.join(found)}",
                code="conflict",
                field="data.options.classes",
            )
        index = {name: i for i, name in enumerate(found)}
        return found, np.array([index.get(name, source.UNLABELLED) for name in names])
    needed = max(map(int, known)) + 1
    if needed > MAX_CLASSES:
        raise UserError(
            f"{path} has a label {needed - 1}, above the limit of {MAX_CLASSES:,} classes: count them from 0",
            code="out-of-range",
            field=str(path),
        )
    given = classes if classes is not None else medmnist.find_classes(path)
    if given is not None and len(given) < needed:
        raise UserError(
            f"data.options.classes names {len(given)} classes, and the labels of {path} go up to {needed - 1}",
            code="mismatch",
            field="data.options.classes",
        )
    found = tuple(given) if given is not None else tuple(map(str, range(needed)))
    return found, np.array([int(name) if name else source.UNLABELLED for name in names])


@contextlib.contextmanager
def _open_arrays(
    path: Path, headers: Mapping[str, archive.Header], keys: list[str], cache: records.Cache | None
) -> Iterator[list[np.ndarray]]:
    """Yield these arrays in memory or, if they exceed it, as memory maps of files that are deleted at the end."""
    if cache is None or cache.holds(archive.total_bytes(headers, keys)):
        yield [archive.read_array(path, key) for key in keys]
        return
    with files.temporary_folder(cache.folder, "npz") as folder:
        yield [archive.map_array(path, key, folder / f"{i}.npy") for i, key in enumerate(keys)]


def _state(path: Path) -> str:
    seen = path.stat()
    return repr((str(path.resolve()), seen.st_size, seen.st_mtime_ns))
