"""Annotations in the JSON of COCO (Lin et al. 2014): masks from polygons and run lengths, and boxes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from jaxssl.data.io import arrays, masks
from jaxssl.errors import UserError
from jaxssl.files import load_json


class Annotation(NamedTuple):
    """One object.

    Attributes:
      label: index of its category among `Coco.classes`, from 1.
      box: x, y, width and height; None if the file has none.
      segmentation: list of polygons, or {"counts", "size"}; None if the file has none.
      crowd: whether it marks a region of many objects, which does not count.
    """

    label: int
    box: tuple[float, float, float, float] | None
    segmentation: Any
    crowd: bool


class Coco(NamedTuple):
    """Annotations of images.

    Attributes:
      path: of the file.
      classes: names, the background first; categories are in the order of their ids.
      shapes: height and width of each image by its file name.
      annotations: objects of each image by its file name, in the order of the file.
    """

    path: Path
    classes: tuple[str, ...]
    shapes: dict[str, tuple[int, int]]
    annotations: dict[str, list[Annotation]]


def read(path: Path) -> Coco:
    """Read a file of annotations. UserError if it cannot be read, or lacks what COCO requires."""
    try:
        content = load_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}", code="unreadable", field=str(path)) from error
    try:
        return _parse(path, content)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{path} is not in the format of COCO ({what}): it needs images, annotations and categories",
            code="unreadable",
            field=str(path),
        ) from error


def _parse(path: Path, content: dict[str, list[dict[str, Any]]]) -> Coco:
    categories = sorted(content["categories"], key=lambda category: int(category["id"]))
    labels = {category["id"]: i for i, category in enumerate(categories, 1)}
    names = {image["id"]: str(image["file_name"]) for image in content["images"]}
    shapes = {str(image["file_name"]): (int(image["height"]), int(image["width"])) for image in content["images"]}
    for height, width in shapes.values():
        arrays.check_pixels(width, height)
    if len(shapes) < len(content["images"]) or len(names) < len(content["images"]):
        raise ValueError("two images have the same id or file_name")
    annotations: dict[str, list[Annotation]] = {name: [] for name in shapes}
    for i, one in enumerate(content["annotations"]):
        if one["image_id"] not in names or one["category_id"] not in labels:
            raise ValueError(f"annotation {one.get('id', i)} is of an image or a category that is not listed")
        box = tuple(float(x) for x in one["bbox"]) if one.get("bbox") else None
        if box is not None and (len(box) != 4 or not np.isfinite(box).all() or min(box[2:]) < 0):
            raise ValueError(f"annotation {one.get('id', i)} has bbox {one['bbox']}: it is x, y, width, height")
        found = Annotation(
            labels[one["category_id"]],
            cast(tuple[float, float, float, float] | None, box),
            one.get("segmentation") or None,
            bool(one.get("iscrowd", 0)),
        )
        annotations[names[one["image_id"]]].append(found)
    return Coco(path, ("background", *(str(category["name"]) for category in categories)), shapes, annotations)


def mask(coco: Coco, name: str) -> np.ndarray:
    """Return the mask [H, W] uint8 of an image in `Coco.classes`; of objects that overlap, the smaller one is on top.

    Raises:
      ValueError: an object has a box only, or its outline is broken.
    """
    shape = coco.shapes[name]
    drawn = [(object_mask(one, shape), one) for one in coco.annotations[name]]
    found = np.zeros(shape, np.uint8)
    for pixels, one in sorted(drawn, key=lambda pair: -int(pair[0].sum())):
        found[pixels] = masks.IGNORE if one.crowd else one.label
    return found


def object_mask(of: Annotation, shape: tuple[int, int]) -> np.ndarray:
    """Return the pixels [H, W] bool of one object. ValueError if it has a box only, or its outline is broken."""
    try:
        return _draw(of.segmentation, shape)
    except (TypeError, OverflowError) as error:  # JSON of other types, and numbers beyond 64 bits.
        raise ValueError(f"an outline is broken: {error}") from error


def _draw(outline: Any, shape: tuple[int, int]) -> np.ndarray:
    if isinstance(outline, dict) and outline.keys() >= {"counts", "size"}:
        if list(outline["size"]) != list(shape):
            raise ValueError(f"run lengths are of {outline['size']}, and the image is {list(shape)}")
        return masks.decode_rle(outline["counts"], shape)
    if isinstance(outline, list):
        found = np.zeros(shape, bool)
        for polygon in outline:
            if len(polygon) < 6 or len(polygon) % 2:
                raise ValueError(f"a polygon of {len(polygon)} numbers: it is x, y of three points or more")
            found |= masks.rasterize(np.reshape(np.asarray(polygon, float), (-1, 2)), shape, center=0.5)
        return found
    raise ValueError("an object has a box and no outline: boxes are for the scores of detection")


def boxes(coco: Coco, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes [K, 4] float (left, top, right, bottom) of an image and their labels [K] int, without crowds.

    Raises:
      ValueError: an object has neither a box nor an outline.
    """
    found = [one for one in coco.annotations[name] if not one.crowd]
    corners = [_corners(one, coco.shapes[name]) for one in found]
    return np.array(corners, float).reshape(-1, 4), np.array([one.label for one in found], int)


def _corners(of: Annotation, shape: tuple[int, int]) -> Sequence[float]:
    if of.box is not None:
        left, top, width, height = of.box
        return left, top, left + width, top + height
    rows, columns = np.nonzero(object_mask(of, shape))
    if not len(rows):
        raise ValueError("an object has no pixels and no box")
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
