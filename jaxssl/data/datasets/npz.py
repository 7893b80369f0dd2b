"""Images in one npz archive, in the layout of MedMNIST (Yang et al. 2023, arXiv:2110.14795) or without a split."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxssl.data import source
from jaxssl.data.io import arrays, loading
from jaxssl.errors import UserError

SPLITS = {"train": "train", "val": "validation", "test": "test"}


def load(
    *, dir: str, size: int, nan: str = "refuse", fit: str = "pad", classes: Sequence[str] | None = None
) -> source.Source:
    """Load `{train,val,test}_{images,labels}`, or `images` with or without `labels`.

    Images are [N, H, W], [N, H, W, C] or [N, C, H, W] (see `jaxssl.data.io.arrays`), labels [N] or [N, 1] integers from
    0.

    Args:
      dir: path of the archive.
      size: side in pixels at which images are held; those that have it are not changed.
      nan: "refuse", "zero" or "median".
      fit: "pad", "crop" or "squash" for images that are not square.
      classes: names of the classes, in the order of the labels; by default "0", "1", ...

    Returns:
      The dataset, with the archive's split as the official one; ids are such as "train/0001", counted from 0.

    Raises:
      UserError: there is no archive, arrays are missing, hold objects or differ in length, or there are several labels
        per image.
    """
    path = Path(dir)
    if not dir or not path.is_file():
        raise UserError(f"data.dir={dir!r} is not a file: set it to the .npz archive", code="missing", field="data.dir")
    contents = read_arrays(path)
    stacks = image_arrays(path, contents)
    counts = {side: len(stack) for side, stack in stacks.items()}
    if "images" in stacks:
        labels = read_labels(path, contents, "labels", counts["images"]) if "labels" in contents else None
        official = None
    else:
        labels = np.concatenate([read_labels(path, contents, f"{side}_labels", n) for side, n in counts.items()])
        official = np.repeat([SPLITS[side] for side in stacks], list(counts.values()))
    ids = [name for side, n in counts.items() for name in make_ids(side, n)]
    rows = [image for stack in stacks.values() for image in stack]
    if not rows:
        raise UserError(f"{path} holds no image: set data.dir to another archive", code="too-few", field="data.dir")
    names = [f"{path}: {name}" for name in ids]
    held, _, unread = loading.stack(lambda i: arrays.as_image(rows[i]), names, size, nan=nan, fit=fit)
    if labels is None:
        return source.make(held, np.full(len(ids), source.UNLABELLED), ids, (), official=official, unread=unread)
    return source.make(held, labels, ids, _classes(path, labels, classes), official=official, unread=unread)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an archive.

    Raises:
      UserError: it is not an archive, is damaged or holds objects.
    """
    try:
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise UserError(
                    f"{path} holds a single array: save it as npz with the key 'images'",
                    code="unsupported",
                    field=str(path),
                )
            return {key: archive[key] for key in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if "Object arrays" in str(error):
            raise UserError(
                f"{path} holds an object array, which would run code: save plain numbers",
                code="unsupported",
                field=str(path),
            ) from error
        raise UserError(
            f"{path} is not an npz archive, or is broken: {' '.join(str(error).split())}",
            code="unreadable",
            field=str(path),
        ) from error


def image_arrays(path: Path, contents: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the images by side of the split, or by "images" if there is none.

    Raises:
      UserError: the archive has neither.
    """
    sides = {side: contents[f"{side}_images"] for side in SPLITS if f"{side}_images" in contents}
    if not sides and "images" not in contents:
        raise UserError(
            f"{path} holds {', '.join(contents) or 'nothing'}: 'train_images' or 'images' is missing",
            code="missing",
            field=str(path),
        )
    return sides or {"images": contents["images"]}


def make_ids(side: str, count: int) -> list[str]:
    """Return train/0000, train/0001, ..."""
    return [f"{side}/{i:04d}" for i in range(count)]


def read_labels(path: Path, contents: Mapping[str, np.ndarray], key: str, count: int) -> np.ndarray:
    """Return labels [N] int32.

    Raises:
      UserError: there are none, or they are not one integer from 0 for each image.
    """
    if key not in contents:
        raise UserError(f"{path} has no '{key}': add it, one integer an image", code="missing", field=key)
    labels = contents[key]
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise UserError(
            f"{path}: '{key}' has {labels.shape[1]} columns: several labels an image are not supported",
            code="unsupported",
            field=key,
        )
    labels = labels.reshape(-1)
    if len(labels) != count:
        raise UserError(f"{path}: '{key}' has {len(labels)} rows for {count} images", code="mismatch", field=key)
    with np.errstate(invalid="ignore"):
        whole = labels.astype(np.int32) if labels.dtype.kind in "biuf" else None
    if whole is None or (whole != labels).any() or (whole < 0).any():
        raise UserError(f"{path}: '{key}' must be integers from 0", code="out-of-range", field=key)
    return whole


def _classes(path: Path, labels: np.ndarray, classes: Sequence[str] | None) -> tuple[str, ...]:
    needed = int(labels.max()) + 1
    if len(np.unique(labels)) == 1:
        raise UserError(
            f"{path} has one class only, {needed - 1}: add images of another", code="too-few", field=str(path)
        )
    if classes is None:
        return tuple(map(str, range(needed)))
    if len(classes) < needed:
        raise UserError(
            f"data.options.classes names {len(classes)} classes, and the labels of {path} go up to {needed - 1}",
            code="mismatch",
            field="data.options.classes",
        )
    return tuple(classes)
