"""Where the masks of listed images are: files next to them or in a folder of their own, a column, or COCO's JSON."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from jaxssl.data import records
from jaxssl.data.io import coco, images, masks, pillow
from jaxssl.data.listing.listed import Listing
from jaxssl.data.masks import attach
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.files import open_regular

ONE_CLASS = ("foreground",)
_MASK = re.compile(
    r"(?:^|[ _.-]+)(?:masks?|seg|segmentations?|gt|ground[ _-]?truths?|labels?|annotations?)[ _.-]*\d*$", re.IGNORECASE
)
_IMAGES = re.compile(r"^(?:images?|imgs?|inputs?|pictures?|scans?)$", re.IGNORECASE)
_TURNED = (5, 6, 7, 8)  # Orientations of EXIF that exchange height and width.


class Masks(NamedTuple):
    """Where the masks of images are.

    Attributes:
      where: "auto", a folder, or a .json file; "" where a table lists them.
      files: those that are masks, relative to the folder of the images.
      of: masks by the paths of their images, of a table: paths, or run lengths.
      classes: names of the classes from value 1; () for one class.
    """

    where: str
    files: list[str]
    of: dict[str, str]
    classes: tuple[str, ...]


def find(root: Path, where: str) -> list[str]:
    """Return the files below `root` that are masks, see `is_mask`; [] for "" and COCO.

    Raises:
      UserError: there is none.
    """
    if not where or where.endswith(".json"):
        return []
    found = [path for path in images.find(root) if is_mask(path, where) and images.is_image(root / path)]
    if not found:
        raise _missing(root, where, "no file is a mask")
    return found


def _missing(root: Path, where: str, what: str) -> UserError:
    return UserError(
        f"data.options.masks={where!r}: {what} below {root}: name masks as their images, with '_mask' or in a folder "
        "'masks', or set it to their folder or to a .json file of COCO",
        code="missing",
        field="data.options.masks",
    )


def without_image_folder(listing: Listing) -> Listing:
    """Return a listing without labels if its only class is a folder called "images", or the like."""
    classes = {*(listing.labels or [])} - {""}
    only_images = len(classes) == 1 and _IMAGES.search(next(iter(classes)))
    return listing._replace(labels=None) if only_images else listing


def attach_all(
    root: Path, source: Source, wanted: Masks, *, fit: str, on_bad_file: str, cache: records.Cache | None
) -> Source:
    """Return the source with the masks of its images, see `jaxssl.data.masks.attach`.

    Raises:
      UserError: no image has a mask, or one cannot be read.
    """
    paths = source.ids.tolist()
    if wanted.where.endswith(".json"):
        read, classes, unread = coco_reader(root / wanted.where, paths)
    else:
        of, unread = (wanted.of, []) if wanted.of else match(paths, wanted.files)
        if not of.keys() & {*paths}:
            raise _missing(root, wanted.where, f"none of {len(wanted.files)} masks is of an image")
        classes = ("background", *(wanted.classes or ONE_CLASS))
        read = reader(root, paths, of, len(classes))
    made = attach(source, read, classes, fit=fit, on_bad_file=on_bad_file, cache=cache)
    return made._replace(unread=(*made.unread, *unread))


def is_mask(path: str, where: str) -> bool:
    """Return whether a path is that of a mask.

    Args:
      path: relative, with "/".
      where: "auto": its name, or that of a folder that it is in, ends in a word for masks, as in `x_mask.png` and
        `masks/x.png`; else the name of the folder.
    """
    pure = PurePosixPath(path)
    if where != "auto":
        return where.strip("/") in map(str, pure.parents)
    return any(_MASK.search(part) for part in (*pure.parts[:-1], pure.stem))


def match(paths: Sequence[str], found: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the mask of each image that has one, and a line on masks without an image.

    A mask has the name of its image, perhaps with a word for masks at its end. Where several images have the name, the
    folders that are not named after images or masks must agree, too.

    Raises:
      UserError: an image has several masks.
    """
    by_name: dict[str, list[str]] = {}
    for path in paths:
        by_name.setdefault(_name(path), []).append(path)
    of: dict[str, str] = {}
    alone = []
    for mask in found:
        candidates = by_name.get(_name(mask), [])
        if len(candidates) > 1:
            candidates = [path for path in candidates if _folders(path) == _folders(mask)]
        if len(candidates) != 1:
            alone.append(mask)
            continue
        other = of.setdefault(candidates[0], mask)
        if other != mask:
            raise UserError(
                f"{candidates[0]} has two masks, {other} and {mask}: join them in one file, a number for each class",
                code="conflict",
                field="data.options.masks",
            )
    unread = [f"{len(alone)} masks without an image, such as {alone[0]}"] if alone else []
    return of, unread


def _name(path: str) -> str:
    return _MASK.sub("", PurePosixPath(path).stem).casefold()


def _folders(path: str) -> list[str]:
    parts = PurePosixPath(path).parts[:-1]
    return [part for part in parts if not _IMAGES.search(part) and not _MASK.search(part)]


def reader(root: Path, paths: Sequence[str], of: Mapping[str, str], classes: int) -> Callable[[int], np.ndarray | None]:
    """Return the function that reads the mask of the image `paths[row]`, None where it has none.

    It raises ValueError for a mask that has another aspect ratio than its image, or a value that is no class.
    """

    def read(row: int) -> np.ndarray | None:
        path = paths[row]
        if path not in of:
            return None
        if masks.is_runs(of[path]):
            return masks.decode_kaggle(of[path], image_shape(root / path)).astype(np.uint8)
        mask = masks.read(root / of[path], classes)
        check_aspect(mask.shape, image_shape(root / path))
        return mask

    return read


def coco_reader(
    file: Path, paths: Sequence[str]
) -> tuple[Callable[[int], np.ndarray | None], tuple[str, ...], list[str]]:
    """Return what reads the mask of `paths[row]` from COCO's JSON, the classes, and a line on what has no image.

    An image that the file does not list has no mask; one that it lists without objects has an empty one.
    """
    found = coco.read(file)
    names = {PurePosixPath(name).name: name for name in found.shapes}
    listed = [path if path in found.shapes else names.get(PurePosixPath(path).name) for path in paths]
    alone = sorted(set(found.shapes) - set(listed))
    unread = [f"annotations of {len(alone)} images that are not there, such as {alone[0]}"] if alone else []

    def read(row: int) -> np.ndarray | None:
        name = listed[row]
        return None if name is None else coco.mask(found, name)

    return read, found.classes, unread


def image_shape(path: Path) -> tuple[int, int]:
    """Return height and width of an image, as far as possible without decoding it."""
    try:
        with open_regular(path) as opened, Image.open(opened, formats=pillow.FORMATS) as image:
            turned = image.getexif().get(0x0112) in _TURNED
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception:  # Another format.
        height, width, _ = images.read(path).shape
        return height, width


def check_aspect(mask: Sequence[int], image: Sequence[int]) -> None:
    """Raise ValueError unless a mask has the aspect ratio of its image, up to a rounded pixel."""
    if abs(mask[0] * image[1] - mask[1] * image[0]) > max(*mask, *image):
        raise ValueError(
            f"is {mask[0]} x {mask[1]} pixels, and its image {image[0]} x {image[1]}: they do not show the same"
        )
