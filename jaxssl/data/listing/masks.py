"""Where the masks of listed images are: files next to them or in a folder of their own, a column, or COCO's JSON.

Volumes have volumes of the same grid as masks, also in the layouts of the Medical Segmentation Decathlon (`imagesTr`,
`labelsTr`) and of nnU-Net, where `imagesTr/x_0000.nii.gz` has `labelsTr/x.nii.gz`; classes are those of `dataset.json`.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from jaxssl.data import records
from jaxssl.data.io import coco, images, masks, pillow, volumes
from jaxssl.data.listing.listed import Listing
from jaxssl.data.masks import ReadMask, attach
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.files import open_regular, read_json

ONE_CLASS = ("foreground",)
_WORDS = r"(?:masks?|seg|segmentations?|gt|ground[ _-]?truths?|labels?|annotations?)"
_MASK = re.compile(rf"(?:^|[ _.-]+){_WORDS}(?:tr|ts)?[ _.-]*\d*$", re.IGNORECASE)
_PREFIX = re.compile(rf"^{_WORDS}[ _.-]+", re.IGNORECASE)
_IMAGES = re.compile(r"^(?:images?|imgs?|inputs?|pictures?|scans?)(?:tr|ts)?$", re.IGNORECASE)
_CHANNEL = re.compile(r"(?:^|/)images(?:tr|ts)/[^/]+_(\d{4})\.nii(?:\.gz)?$", re.IGNORECASE)  # Of nnU-Net.
_EXTENSIONS = re.compile(f"(?:{'|'.join(map(re.escape, images.EXTENSIONS))})+$", re.IGNORECASE)
_TURNED = (5, 6, 7, 8)  # Orientations of EXIF that exchange height and width.


class Masks(NamedTuple):
    """Where the masks of images are.

    Attributes:
      where: "auto", a folder, or a .json file; "" where a table lists them.
      files: those that are masks, relative to the folder of the images.
      of: masks by the paths of their images, of a table: paths, or run lengths.
      classes: names of the classes from value 1; () for those of `dataset.json`, else for one class.
      axis: along which volumes are cut, see `io.volumes`.
    """

    where: str
    files: list[str]
    of: dict[str, str]
    classes: tuple[str, ...]
    axis: int = 2


def find(root: Path, where: str) -> list[str]:
    """Return the files below `root` that are masks, see `is_mask`; [] for "" and COCO.

    Raises:
      UserError: there is none.
    """
    if not where or where.endswith(".json"):
        return []
    every = [path for path in images.find(root) if images.is_image(root / path)]
    found = {path for path in every if is_mask(path, where)}
    if where == "auto":
        names = {_name(path) for path in every if path not in found}
        found |= {path for path in every if _PREFIX.search(_stem(path)) and _name(path, _PREFIX) in names}
    if not found:
        raise _missing(root, where, "no file is a mask")
    return sorted(found)


def _missing(root: Path, where: str, what: str) -> UserError:
    if not where:
        message = "data.options.mask_column: it has no mask of any image: write paths of masks, or run lengths, into it"
        return UserError(message, code="missing", field="data.options.mask_column")
    return UserError(
        f"data.options.masks={where!r}: {what} below {root}: name masks as their images, with '_mask' or in a folder "
        "'masks', set it to their folder or to a .json file of COCO, or mask_classes to the classes in their names",
        code="missing",
        field="data.options.masks",
    )


def without_image_folder(listing: Listing) -> Listing:
    """Return a listing without labels if its only classes are folders called "images", or the like."""
    return listing._replace(labels=None) if are_image_folders(listing.labels or []) else listing


def are_image_folders(names: Iterable[str]) -> bool:
    """Return whether all folders, "" for none, are called "images" or the like, which is no class."""
    folders = {*names} - {""}
    return bool(folders) and all(map(_IMAGES.search, folders))


def check_classes(names: Collection[str]) -> None:
    """Raise UserError if class folders are images and their masks: a network would learn to tell one from the other."""
    found = [name for name in names if _MASK.search(name)]
    if found and are_image_folders({*names} - {*found}):
        raise UserError(
            f"the folders {', '.join(sorted(names))} are no classes but images and masks: set data.options.masks=auto, "
            f"or data.options.exclude_pattern=^{found[0]}/ for the images alone",
            code="conflict",
            field="data.options.masks",
        )


def attach_all(
    root: Path, source: Source, wanted: Masks, *, fit: str, on_bad_file: str, cache: records.Cache | None
) -> Source:
    """Return the source with the masks of its images, see `jaxssl.data.masks.attach`.

    Raises:
      UserError: no image has a mask, or one cannot be read.
    """
    read, classes, unread = make_reader(root, source.ids.tolist(), wanted)
    made = attach(source, read, classes, fit=fit, on_bad_file=on_bad_file, cache=cache)
    return made._replace(unread=(*made.unread, *unread))


def make_reader(root: Path, paths: Sequence[str], wanted: Masks) -> tuple[ReadMask, tuple[str, ...], list[str]]:
    """Return what reads the mask of `paths[row]`, None where it has none; the classes; a line on what has no image.

    Raises:
      UserError: no image has a mask, or one has several.
    """
    if wanted.where.endswith(".json"):
        return coco_reader(root / wanted.where, paths)
    if by_class := group_by_class(wanted.files, wanted.classes):
        return class_reader(root, paths, by_class, wanted)
    of, unread = (wanted.of, []) if wanted.of else match(paths, wanted.files)
    if not of.keys() & {volumes.split_name(path)[0] for path in paths}:
        raise _missing(root, wanted.where, f"none of {len(wanted.files)} masks is of an image")
    classes = ("background", *(wanted.classes or read_names(root) or ONE_CLASS))
    return reader(root, paths, of, len(classes), wanted.axis), classes, unread


def read_names(root: Path) -> tuple[str, ...]:
    """Return the names of the classes from value 1 of a `dataset.json`, () without one or if it has others.

    Its "labels" are {"0": "background", "1": name} (Medical Segmentation Decathlon) or {"background": 0, name: 1}.
    """
    file = root / "dataset.json"
    content = read_json(file, "repair it, or set data.options.mask_classes") if file.is_file() else None
    labels = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(labels, dict):
        return ()
    pairs = [(key, name) if str(key).isdecimal() else (name, key) for key, name in labels.items()]
    names = {int(value): str(name) for value, name in pairs if str(value).isdecimal()}
    return tuple(names[i] for i in range(1, len(names))) if names.keys() == {*range(len(labels))} else ()


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
    return any(_MASK.search(part) for part in (*pure.parts[:-1], _stem(path)))


def group_by_class(files: Sequence[str], classes: Sequence[str]) -> dict[str, list[str]]:
    """Return the masks of each class where all are in a folder, or end in a word, of the name of one; else {}.

    Of several classes two at least must have masks: folders of images may have such a name, too.

    >>> group_by_class(["masks/MA/1.png", "masks/ex/1.png", "masks/1_MA.png"], ("MA", "EX"))
    {'MA': ['masks/MA/1.png', 'masks/1_MA.png'], 'EX': ['masks/ex/1.png']}
    """
    found: dict[str, list[str]] = {name: [] for name in classes}
    for path in files:
        words = [*PurePosixPath(path).parts[:-1], re.split("[ _-]", _stem(path))[-1]]
        named = [name for name in classes if name.casefold() in map(str.casefold, words)]
        if len(named) != 1:
            return {}
        found[named[0]].append(path)
    return found if sum(map(bool, found.values())) >= min(2, max(1, len(classes))) else {}


def class_reader(
    root: Path, paths: Sequence[str], by_class: Mapping[str, Sequence[str]], wanted: Masks
) -> tuple[ReadMask, tuple[str, ...], list[str]]:
    """Return the same as `make_reader` where each class has masks of its own; of a pixel of several the first counts.

    An image that has a mask of one class, and none of another, has no pixel of the other.
    """
    reads, unread, matched = [], [], set()
    for name, files in by_class.items():
        of, alone = match(paths, files, re.compile(rf"[ _-]+{re.escape(name)}$", re.IGNORECASE))
        reads.append(reader(root, paths, of, 2, wanted.axis))
        unread += alone
        matched |= {*of}
    if not matched:
        raise _missing(root, wanted.where, f"none of {len(wanted.files)} masks is of an image")

    def read(row: int) -> np.ndarray | None:
        found = [(label, mask) for label, one in enumerate(reads, 1) if (mask := one(row)) is not None]
        if not found:
            return None
        if len({mask.shape for _, mask in found}) > 1:
            raise ValueError(f"the masks of its classes differ in size: {[mask.shape for _, mask in found]}")
        joined = np.zeros_like(found[0][1])
        for label, mask in reversed(found):
            joined[mask > 0] = np.where(mask == masks.IGNORE, masks.IGNORE, label)[mask > 0]
        return joined

    return read, ("background", *by_class), unread


def match(paths: Sequence[str], found: Sequence[str], ending: re.Pattern = _MASK) -> tuple[dict[str, str], list[str]]:
    """Return the mask of each image that has one, and a line on masks without an image.

    A mask has the name of its image, perhaps with a word for masks at its end or its start, or an `ending`. Where
    several images have the name, the folders that are not named after images or masks must agree, too. Slices have the
    mask of their volume.

    Raises:
      UserError: an image has several masks, or a mask several files of channels.
    """
    by_name: dict[str, list[str]] = {}
    for path in dict.fromkeys(volumes.split_name(path)[0] for path in paths):
        if (channel := _CHANNEL.search(path)) and channel[1] != "0000":
            raise UserError(
                f"{path} is another channel of an image: join the channels of each case in one file of four axes",
                code="unsupported",
                field="data.options.masks",
            )
        by_name.setdefault(_name(path), []).append(path)
    of: dict[str, str] = {}
    alone = []
    for mask in found:
        names = (_name(mask), _name(mask, _PREFIX), _name(mask, ending))
        candidates = next((by_name[name] for name in names if name in by_name), [])
        if len(candidates) > 1:
            candidates = [path for path in candidates if _folders(path) == _folders(mask)]
        if len(candidates) != 1:
            alone.append(mask)
            continue
        other = of.setdefault(candidates[0], mask)
        if other != mask:
            raise UserError(
                f"{candidates[0]} has two masks, {other} and {mask}: if they are of classes in the names of folders or "
                "files, set data.options.mask_classes; else join them in one file, a number for each class",
                code="conflict",
                field="data.options.masks",
            )
    unread = [f"{len(alone)} masks without an image, such as {alone[0]}"] if alone else []
    return of, unread


def _name(path: str, word: re.Pattern = _MASK) -> str:
    """Return the name that image and mask share: without extensions, a word for masks, and the channel of nnU-Net."""
    stem = _stem(path)
    return word.sub("", stem[:-5] if _CHANNEL.search(path) else stem).casefold()


def _stem(path: str) -> str:
    """Return the name of a file without its extensions: "x" for "x.png", "x.jpg.png" and "x.nii.gz"."""
    name = PurePosixPath(path).name
    stem = _EXTENSIONS.sub("", name)
    return PurePosixPath(name).stem if stem == name else stem


def _folders(path: str) -> list[str]:
    parts = PurePosixPath(path).parts[:-1]
    return [part for part in parts if not _IMAGES.search(part) and not _MASK.search(part)]


def reader(root: Path, paths: Sequence[str], of: Mapping[str, str], classes: int, axis: int = 2) -> ReadMask:
    """Return the function that reads the mask of the image `paths[row]`, None where it has none.

    It raises ValueError for a mask that has another aspect ratio than its image, or a value that is no class; and for a
    volume of another grid.
    """

    def read(row: int) -> np.ndarray | None:
        path = paths[row]
        file, number = volumes.split_name(path)
        if number is not None and file in of and not (root / path).is_file():
            volumes.check_same_grid(root / file, root / of[file], axis)
            return masks.to_classes(volumes.read(root, f"{of[file]}:{number:03d}", None, axis), classes)
        if path not in of:
            return None
        if masks.is_runs(of[path]):
            return masks.decode_kaggle(of[path], image_shape(root / path)).astype(np.uint8)
        mask = masks.read(root / of[path], classes)
        check_aspect(mask.shape, image_shape(root / path))
        return mask

    return read


def coco_reader(file: Path, paths: Sequence[str]) -> tuple[ReadMask, tuple[str, ...], list[str]]:
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
    except Exception:  # Another format, or a slice of a volume.
        height, width, _ = volumes.read(path.parent, path.name, None, 2).shape
        return height, width


def check_aspect(mask: Sequence[int], image: Sequence[int]) -> None:
    """Raise ValueError unless a mask has the aspect ratio of its image, up to a rounded pixel."""
    if abs(mask[0] * image[1] - mask[1] * image[0]) > max(*mask, *image):
        raise ValueError(
            f"is {mask[0]} x {mask[1]} pixels, and its image {image[0]} x {image[1]}: they do not show the same"
        )
