"""Boxes from COCO's JSON and tables."""

import json

import numpy as np
import pytest

from jaxssl.data.io import boxes, resize
from jaxssl.inference.score_masks import match_names, to_square
from tests.refusals import refuses

CLASSES = ("background", "spot", "line")


def write(folder, text, name="boxes.csv"):
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("head", "row"), [("left,top,right,bottom", "1,2,4,7"), ("xmin;ymin;xmax;ymax", "1;2;4;7"), ("x,y,w,h", "1,2,3,5")]
)
def test_tables(tmp_path, head, row):
    gap = ";" if ";" in head else ","
    path = write(
        tmp_path, f"image{gap}{head}{gap}class\na.png{gap}{row}{gap}line\nb.png{5 * gap}\na.png{gap}{row}{gap}spot\n"
    )
    found = boxes.read(path, CLASSES)
    assert found["a.png"][0].tolist() == [[1, 2, 4, 7], [1, 2, 4, 7]]
    assert found["a.png"][1].tolist() == [2, 1]
    assert found["b.png"][0].shape == (0, 4)


def test_coco_has_its_own_order_of_classes(tmp_path):
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 9, "width": 9}],
        "categories": [{"id": 1, "name": "line"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 5]}],
    }
    found = boxes.read(write(tmp_path, json.dumps(content), "a.json"), CLASSES)
    assert found["a.png"][0].tolist() == [[1, 2, 4, 7]]
    assert found["a.png"][1].tolist() == [2]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("image,left,top\na,1,2\n", "missing"),
        ("image,left,top,right,bottom,class\na,1,2,3,4,dot\n", "unknown-name"),
        ("image,left,top,right,bottom\na,1,2,3,4\n", "missing"),
        ("image,left,top,right,bottom,class\na,1,2,one,4,spot\n", "unreadable"),
        ("image,left,top,right,bottom,class\na,1,2,1,4,spot\n", "out-of-range"),
        ("image,left,top,right,bottom,class\na,nan,2,1,4,spot\n", "out-of-range"),
    ],
)
def test_broken_tables_are_refused(tmp_path, text, code):
    with refuses(code, None, "boxes.csv"):
        boxes.read(write(tmp_path, text), CLASSES)


@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (50, 50)])
def test_boxes_move_as_images_do(fit, shape):
    """A box drawn into the image is found by its pixels in the square."""
    image = np.zeros((*shape, 1), np.uint8)
    image[20:30, 22:38] = 255
    square = resize.fit(image, 100, fit)[..., 0] > 127
    rows, columns = np.nonzero(square)
    drawn = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    moved = to_square(np.array([[22.0, 20, 38, 30]]), shape, 100, fit)[0]
    assert np.allclose(moved, drawn, atol=1.01)


def test_names_are_paths_or_their_last_parts():
    ids = ["images/a.png", "images/b.png", "masks/a.png"]
    assert match_names(ids, {"images/a.png": 0, "b.png": 1}) == {
        "images/a.png": "images/a.png",
        "images/b.png": "b.png",
    }
    with refuses("conflict", "--boxes", "images/a.png", "masks/a.png"):
        match_names(ids, {"a.png": 0})
