"""Images in class folders, unlabelled images in one folder, or either of these in the folders of a split."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import logging

from jaxssl.data import labels
from jaxssl.data.io import images
from jaxssl.data.listing.listed import Listing, count_extensions, find_masks, name_some
from jaxssl.errors import UserError

# Formats of images, of which some are not read.
_PICTURES = frozenset(
    {
        ".avif",
        ".cr2",
        ".dng",
        ".heic",
        ".heif",
        ".jpx",
        ".jxl",
        ".mha",
        ".mhd",
        ".mrxs",
        ".ndpi",
    }
    | {".nrrd", ".raw", ".svs", ".tga"}
)


class Layout(NamedTuple):
    """What folders say of images.

    Attributes:
      official: split of each image, None without a split.
      classes: class of each image, "" for none; None if all images are unlabelled.
      unread: what the folders say that is not used, a line each.
    """

    official: list[str] | None
    classes: list[str] | None
    unread: list[str]


def list_images(
    root: Path,
    group_pattern: str = "",
    exclude_pattern: str = "",
    ignore_masks: bool = True,
    masks: Collection[str] = (),
) -> Listing:
    """List the images of a folder, without those that are the `masks` of others.

    See `jaxssl.data.datasets.folder.load`.
    """
    files = [path for path in images.find(root) if path not in masks]
    found = [path for path in files if images.is_image(root / path)]
    if not found:
        kinds = ", ".join(images.EXTENSIONS)
        raise UserError(
            f"data.dir={root} holds no image ({kinds}) among {len(files)} files: set it to another folder",
            code="missing",
            field="data.dir",
        )
    images.check_names(root, found)
    paths, unread = select_paths(found, exclude_pattern, ignore_masks)
    others = sorted(set(files) - set(found))
    layout = read_layout(root, paths)
    _check_classes(root, paths, layout, set(files) - set(paths))
    if others:
        unread.append(f"{len(others)} files that are not images: {count_extensions(others)}")
        listed = count_extensions(others)
        logging.warning("%s: ignored %d files that are not images (%s)", root, len(others), listed)
    groups = labels.match_groups(paths, group_pattern) if group_pattern else None
    return Listing(paths, layout.official, layout.classes, groups, (*unread, *layout.unread))


def select_paths(found: Sequence[str], exclude_pattern: str, ignore_masks: bool) -> tuple[list[str], list[str]]:
    """Leave out images by a pattern, and those that are named as masks of others.

    Returns:
      The paths that are left, and a line for each reason of leaving some out.

    Raises:
      UserError: the pattern is not a regular expression, or leaves nothing.
    """
    paths, unread = list(found), []
    if exclude_pattern:
        field = "data.options.exclude_pattern"
        compiled = labels.compile_pattern(exclude_pattern, field)
        paths = [path for path in paths if not compiled.search(path)]
        if not paths:
            raise UserError(f"{field}={exclude_pattern!r} leaves no image", code="too-few", field=field)
        if len(paths) < len(found):
            unread.append(f"{len(found) - len(paths)} images that {field} leaves out")
    masks = set(find_masks(paths)) if ignore_masks else set()
    if masks:
        unread.append(
            f"{len(masks)} files named as masks of others, such as {min(masks)}; data.options.ignore_masks=False reads "
            "them as images"
        )
    return [path for path in paths if path not in masks], unread


def read_layout(root: Path, paths: Sequence[str]) -> Layout:
    """Return what the folders say of each path.

    Folders whose names plainly are of a split (`train`, `seg_test`, `Test data`) are one, if one of them is "train".

    Args:
      root: the folder, for the messages.
      paths: relative to it, with "/".

    Raises:
      UserError: folders of a split without "train", or with others among them; images among class folders; a class is
        spelt in two ways.
    """
    parts = [path.split("/") for path in paths]
    tops = sorted({part[0] for part in parts if len(part) > 1})
    sides = {name: side for name in tops if (side := labels.find_split(name))}
    free = [name for name in tops if name not in sides and labels.is_unlabelled(name)]
    others = sorted({part[0] for part in parts} - {*sides, *free})
    nested = any(len(part) > 2 and sides.get(part[0]) == "train" for part in parts)
    if "train" in sides.values() and not others:
        _check_sides(root, sides)
        return _read_split(root, paths, parts, sides)
    if len(set(sides.values())) > 1 or (others and nested):
        lacks = f"also {others[0]!r}" if others else "none called 'train'"
        raise UserError(
            f"data.dir={root} has the folders {', '.join(sides)} of a split, and {lacks}: for a split, move away all "
            "other folders and name one 'train'; if they are classes, rename them",
            code="conflict",
            field="data.dir",
        )
    return Layout(None, *_read_classes(root, paths, parts))


def _check_sides(root: Path, sides: Mapping[str, str]) -> None:
    """Raise UserError if two folders may be the same side of the split, unless their names are exact."""
    for side in set(sides.values()):
        names = [name for name in sides if sides[name] == side]
        if len(names) > 1 and not all(name.lower() in labels.SPLITS for name in names):
            raise UserError(
                f"data.dir={root}: the folders {', '.join(names)} may all be {side}: rename them to 'train', 'val' and "
                "'test', or move away what is not of the split",
                code="conflict",
                field="data.dir",
            )


def _read_split(root: Path, paths: Sequence[str], parts: list[list[str]], sides: Mapping[str, str]) -> Layout:
    official = [sides.get(part[0], "train") for part in parts]
    inner = [part[1:] for part in parts]
    classes, unread = [""] * len(parts), []
    for name in sorted({part[0] for part in parts}):
        rows = [i for i, part in enumerate(parts) if part[0] == name]
        own = _without_wrapper([inner[i] for i in rows], sides.get(name))
        if name not in sides:
            unread.append(f"the folder {name} counts as {len(rows)} training images without a label")
            continue
        found, lines = _read_classes(root, [paths[i] for i in rows], own)
        unread += lines
        for i, label in zip(rows, found or [""] * len(rows), strict=True):
            classes[i] = label
    labelled = {side for side, label in zip(official, classes, strict=True) if label}
    if not labelled:
        return Layout(official, None, unread)
    if "train" not in labelled:
        stray = next(path for path, side in zip(paths, official, strict=True) if side == "train")
        raise UserError(
            f"{root / stray} is in no class folder, and those of {', '.join(sorted(labelled))} are: move the training "
            "images into class folders",
            code="conflict",
            field="data.dir",
        )
    for side in sorted(set(official) - labelled):
        count = official.count(side)
        unread.append(f"{side} has no class folders: its {count} images count as training images without a label")
        official = ["train" if one == side else one for one in official]
    return Layout(official, labels.match_classes(classes, official, "data.dir"), unread)


def _without_wrapper(parts: list[list[str]], side: str | None) -> list[list[str]]:
    """Strip a folder that all share and that repeats the name of the split, as in `seg_train/seg_train/cats`."""
    first = {part[0] for part in parts}
    if side and len(first) == 1 and all(len(part) > 1 for part in parts) and labels.find_split(*first) == side:
        return [part[1:] for part in parts]
    return parts


def _read_classes(
    root: Path, paths: Sequence[str], parts: Sequence[Sequence[str]]
) -> tuple[list[str] | None, list[str]]:
    """Return the class of each image, None if all images are flat, and what is not used of the folders."""
    flat = [len(part) == 1 for part in parts]
    if all(flat):
        return None, []
    if any(flat):
        stray = paths[flat.index(True)]
        raise UserError(
            f"{root / stray} is in no class folder, and other images are: move all such images into class folders or "
            "away",
            code="conflict",
            field="data.dir",
        )
    free = sorted({part[0] for part in parts if labels.is_unlabelled(part[0])})
    if len(free) == len({part[0] for part in parts}):
        return None, []
    unread = [f"images of the folder {name} count as unlabelled" for name in free]
    deeper = sorted({part[1] for part in parts if len(part) > 2})
    if deeper:
        unread.append(
            f"folders inside the class folders: {name_some(deeper)}; data.options.group_pattern can make groups of them"
        )
    return ["" if part[0] in free else part[0] for part in parts], unread


def _check_classes(root: Path, paths: Sequence[str], layout: Layout, others: Collection[str]) -> None:
    """Raise UserError if a class folder holds images of formats that are not read, and no other image."""
    if layout.classes is None:
        return
    parents = {path.rpartition("/")[0] for path in paths}
    siblings = {parent.rpartition("/")[0] for parent in parents}
    lost: dict[str, list[str]] = {}
    for path in others:
        parent = path.rpartition("/")[0]
        picture = any(path.lower().endswith(extension) for extension in _PICTURES)
        if picture and parent and parent not in parents and parent.rpartition("/")[0] in siblings:
            lost.setdefault(parent, []).append(path)
    for parent, files in sorted(lost.items()):
        raise UserError(
            f"{root / parent} holds {len(files)} images of formats that are not read ({count_extensions(files)}), and "
            "no other: its class would be lost: convert them, or move the folder away",
            code="unsupported",
            field="data.dir",
        )
