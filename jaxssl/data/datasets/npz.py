"""Images in one npz archive, in the layout of MedMNIST (Yang et al. 2023, arXiv:2110.14795) or without a split."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxssl.data import source
from jaxssl.data.io import images
from jaxssl.errors import UserError

SPLITS = {"train": "train", "val": "validation", "test": "test"}


def load(*, dir: str, size: int, nan: str = "refuse", classes: Sequence[str] | None = None) -> source.Source:
    """Loads `{train,val,test}_{images,labels}`, or `images` with or without `labels`.

    Images are [N, H, W], [N, H, W, C] or [N, C, H, W] (see `jaxssl.data.io.images`), labels [N] or [N, 1] integers from 0.

    Args:
      dir: path of the archive.
      size: side in pixels at which images are held; those that have it are not touched.
      nan: "refuse", "zero" or "median".
      classes: names of the classes, in the order of the labels; "0", "1", ... where not given.

    Returns:
      The dataset, with the archive's split as the official one; ids are such as "train/0001", counted from 0.

    Raises:
      UserError: no archive there, arrays that are missing, hold objects or do not go together, several labels an image.
    """
    path = Path(dir)
    if not dir or not path.is_file():
        raise UserError(f"data.dir={dir!r} is not a file: set it to the .npz archive")
    arrays = read_arrays(path)
    stacks = image_arrays(path, arrays)
    counts = {side: len(stack) for side, stack in stacks.items()}
    if "images" in stacks:
        labels = read_labels(path, arrays, "labels", counts["images"]) if "labels" in arrays else None
        official = None
    else:
        labels = np.concatenate([read_labels(path, arrays, f"{side}_labels", n) for side, n in counts.items()])
        official = np.repeat([SPLITS[side] for side in stacks], list(counts.values()))
    ids = [name for side, n in counts.items() for name in make_ids(side, n)]
    rows = [image for stack in stacks.values() for image in stack]
    if not rows:
        raise UserError(f"{path} holds no image: set data.dir to another archive")
    held, _ = images.stack(lambda i: images.as_image(rows[i]), [f"{path}: {name}" for name in ids], size, nan=nan)
    if labels is None:
        return source.make(held, np.full(len(ids), source.UNLABELLED), ids, (), official=official)
    return source.make(held, labels, ids, _classes(path, labels, classes), official=official)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an archive. UserError where it is none, is damaged or holds objects."""
    try:
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise UserError(f"{path} holds a single array: save it as npz with the key 'images'")
            return {key: archive[key] for key in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if "Object arrays" in str(error):
            raise UserError(f"{path} holds an object array, which would run code: save plain numbers") from error
        raise UserError(f"{path} is not an npz archive, or is broken: {' '.join(str(error).split())}") from error


def image_arrays(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Images by the side of the split, or by "images" where there is none. UserError where the archive has neither."""
    sides = {side: arrays[f"{side}_images"] for side in SPLITS if f"{side}_images" in arrays}
    if not sides and "images" not in arrays:
        raise UserError(f"{path} holds {', '.join(arrays) or 'nothing'}: 'train_images' or 'images' is missing")
    return sides or {"images": arrays["images"]}


def make_ids(side: str, count: int) -> list[str]:
    """train/0000, train/0001, ..."""
    return [f"{side}/{i:04d}" for i in range(count)]


def read_labels(path: Path, arrays: dict[str, np.ndarray], key: str, count: int) -> np.ndarray:
    """[N] integers of one column."""
    if key not in arrays:
        raise UserError(f"{path} has no '{key}': add it, one integer an image")
    labels = arrays[key]
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise UserError(f"{path}: '{key}' has {labels.shape[1]} columns: several labels an image are not supported")
    labels = labels.reshape(-1)
    if len(labels) != count:
        raise UserError(f"{path}: '{key}' has {len(labels)} rows for {count} images")
    with np.errstate(invalid="ignore"):
        whole = labels.astype(np.int32) if labels.dtype.kind in "biuf" else None
    if whole is None or (whole != labels).any() or (whole < 0).any():
        raise UserError(f"{path}: '{key}' must be integers from 0")
    return whole


def _classes(path: Path, labels: np.ndarray, classes: Sequence[str] | None) -> tuple[str, ...]:
    needed = int(labels.max()) + 1
    if len(np.unique(labels)) == 1:
        raise UserError(f"{path} has one class only, {needed - 1}: add images of another")
    if classes is None:
        return tuple(map(str, range(needed)))
    if len(classes) < needed:
        raise UserError(
            f"data.options.classes names {len(classes)} classes, and the labels of {path} go up to {needed - 1}"
        )
    return tuple(classes)
