"""Boxes of lesions: from COCO's JSON or a table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxssl.data.io import coco, table
from jaxssl.errors import UserError, did_you_mean

CORNERS = (("left", "top", "right", "bottom"), ("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))
SIZES = (("x", "y", "width", "height"), ("x", "y", "w", "h"))
IMAGE, LABEL = "image", "class"

# {image: (boxes [K, 4] float: left, top, right, bottom in pixels; labels [K] int from 1)}
Boxes = dict[str, tuple[np.ndarray, np.ndarray]]


def read(path: Path, classes: Sequence[str]) -> Boxes:
    """Read the boxes of each image that the file lists.

    Args:
      path: .json of COCO, or a table with the column "image", four columns of one of `CORNERS` and `SIZES`, and, if
        there are several classes, "class". An image without lesions has a row without numbers.
      classes: names of the classes, the background first; the others of the file must be among them.

    Raises:
      UserError: the file cannot be read, a class is unknown, or a box is none.
    """
    return _read_coco(path, classes) if path.suffix.lower() == ".json" else _read_table(path, classes)


def _read_coco(path: Path, classes: Sequence[str]) -> Boxes:
    of = coco.read(path)
    numbers = np.array([0, *(_number(name, classes, path) for name in of.classes[1:])])
    found: Boxes = {}
    for name in of.shapes:
        try:
            boxes, labels = coco.boxes(of, name)
        except ValueError as error:
            raise UserError(f"{path}: {name}: {error}", code="unreadable", field=str(path)) from error
        found[name] = boxes, numbers[labels]
    return found


def _read_table(path: Path, classes: Sequence[str]) -> Boxes:
    names = [name for group in (*CORNERS, *SIZES) for name in group]
    rows = table.read(path, (IMAGE,), optional=(*dict.fromkeys(names), LABEL))
    columns = next((of for of in (*CORNERS, *SIZES) if {*of} <= rows[0][1].keys()), None)
    if columns is None:
        message = f"{path} has no columns {', '.join(CORNERS[0])}, nor {', '.join(SIZES[0])}: add them"
        raise UserError(message, code="missing", field=str(path))
    found: dict[str, list[tuple[list[float], int]]] = {}
    for place, row in rows:
        of = found.setdefault(row[IMAGE], [])
        if any(row[name] for name in columns):
            label = _number(row[LABEL], classes, path) if row.get(LABEL) else 1
            if label == 1 and not row.get(LABEL) and len(classes) > 2:
                raise UserError(f"{place} has no class: fill the column '{LABEL}'", code="missing", field=LABEL)
            of.append((_corners(place, [row[name] for name in columns], columns in SIZES), label))
    return {
        name: (np.array([box for box, _ in of], float).reshape(-1, 4), np.array([label for _, label in of], int))
        for name, of in found.items()
    }


def _corners(place: str, texts: Sequence[str], has_size: bool) -> list[float]:
    try:
        left, top, right, bottom = map(float, texts)
    except ValueError as error:
        raise UserError(f"{place}: {', '.join(texts)} is no box: {error}", code="unreadable", field=place) from error
    if has_size:
        right, bottom = left + right, top + bottom
    if not np.isfinite([left, top, right, bottom]).all() or right <= left or bottom <= top:
        message = f"{place}: {', '.join(texts)} is no box: it has no area"
        raise UserError(message, code="out-of-range", field=place)
    return [left, top, right, bottom]


def _number(name: str, classes: Sequence[str], path: Path) -> int:
    if name not in classes[1:]:
        message = f"{path}: class '{name}' is none of the masks: {did_you_mean(name, classes[1:])}"
        raise UserError(f"{message}valid: {', '.join(classes[1:])}", code="unknown-name", field=str(path))
    return list(classes).index(name)
