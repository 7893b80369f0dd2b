"""Masks from pictures, run lengths, polygons and COCO."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from skimage.draw import polygon2mask

from jaxssl.data.io import coco, masks
from tests.refusals import refuses

RNG = np.random.default_rng(0)
CLASSES = RNG.integers(0, 3, (7, 9)).astype(np.uint8)
IGNORED = np.where(CLASSES == 2, 255, CLASSES).astype(np.uint8)


def encode(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def palette(values):
    """An indexed image with colors that have nothing to do with the indices."""
    image = Image.frombytes("P", values.shape[::-1], values.tobytes())
    image.putpalette(RNG.permutation(768).astype(np.uint8).tobytes())
    return image


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encode(Image.fromarray(CLASSES)), CLASSES),
        (encode(palette(CLASSES)), CLASSES),
        (encode(palette(CLASSES), "GIF"), CLASSES),
        (encode(palette(CLASSES), "BMP"), CLASSES),
        (encode(Image.fromarray(CLASSES.astype(np.uint16))), CLASSES),
        (encode(Image.fromarray(CLASSES), "TIFF"), CLASSES),
        (encode(Image.fromarray(np.repeat(CLASSES[..., None], 3, -1))), CLASSES),
        (
            encode(Image.fromarray(np.where(CLASSES == 2, 255, CLASSES).astype(np.uint8))),
            np.where(CLASSES == 2, 255, CLASSES),
        ),
        (npy(CLASSES.astype(np.int64)), CLASSES),
    ],
)
def test_pictures_of_several_classes(content, expected):
    found = masks.read(content, 3)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("kind", ["0/255", "0/65535", "0/1", "bit", "color", "jpeg", "rgba", "npy", "palette"])
def test_pictures_of_two_classes(kind):
    mask = np.zeros((16, 24), bool)
    mask[8:, :16] = True
    image = {
        "0/255": Image.fromarray(mask.astype(np.uint8) * 255),
        "0/65535": Image.fromarray(mask.astype(np.uint16) * 65535),
        "0/1": Image.fromarray(mask.astype(np.uint8)),
        "bit": Image.fromarray(mask),
        "color": Image.fromarray(np.where(mask[..., None], [200, 10, 0], 0).astype(np.uint8)),
        "jpeg": Image.fromarray(mask.astype(np.uint8) * 255),
        "rgba": Image.fromarray(np.where(mask[..., None], 255, [0, 0, 0, 255]).astype(np.uint8)),
        "palette": palette(mask.astype(np.uint8) * 255),
    }
    content = npy(mask) if kind == "npy" else encode(image[kind], "JPEG" if kind == "jpeg" else "PNG")
    assert np.array_equal(masks.read(content, 2), mask)


def test_empty_and_full_masks():
    for value, expected in ((0, 0), (255, 1), (1, 1)):
        found = masks.read(encode(Image.fromarray(np.full((4, 5), value, np.uint8))), 2)
        assert (found == expected).all()


@pytest.mark.parametrize(
    ("image", "classes", "words"),
    [
        (Image.fromarray(np.full((4, 4), 7, np.uint8)), 3, "value 7"),
        (Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)), 2, "61 other values"),
        (Image.fromarray(RNG.integers(0, 9, (4, 4, 3)).astype(np.uint8)), 3, "indexed or grey"),
        (Image.fromarray(np.dstack([np.zeros((4, 4, 3)), np.eye(4)]).astype(np.uint8)), 2, "alpha"),
    ],
)
def test_values_that_are_no_class_are_refused(image, classes, words):
    with pytest.raises(ValueError, match=words) as caught:
        masks.read(encode(image), classes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("classes", [2, 3])
def test_soft_or_lossy_masks_are_refused(classes):
    soft = Image.fromarray(np.tile(np.arange(0, 256, 4, dtype=np.uint8), (8, 1)))
    with pytest.raises(ValueError, match="JPEG"):
        masks.read(encode(soft, "JPEG"), classes)


def compress(runs):
    """Encode run lengths as rleToString of pycocotools does, from its description."""
    text = ""
    for i, run in enumerate(runs):
        value = run - (runs[i - 2] if i > 2 else 0)
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
    return text


def test_run_lengths():
    for share in (0, 0.03, 0.5, 1):
        mask = RNG.random((41, 33)) < share
        mask[:, 5:30] &= RNG.random((41, 1)) < 0.5
        runs = masks.encode_rle(mask)
        slow, last = [0], False
        for pixel in mask.T.ravel():
            if pixel != last:
                slow.append(0)
                last = pixel
            slow[-1] += 1
        assert runs == slow
        assert np.array_equal(masks.decode_rle(runs, mask.shape), mask)
        assert np.array_equal(masks.decode_rle(compress(runs), mask.shape), mask)
        flat = np.concatenate([[0], mask.T.ravel(), [0]])
        starts, ends = np.flatnonzero(np.diff(flat) == 1) + 1, np.flatnonzero(np.diff(flat) == -1) + 1
        text = " ".join(f"{start} {end - start}" for start, end in zip(starts, ends, strict=True))
        assert np.array_equal(masks.decode_kaggle(text, mask.shape), mask)


@pytest.mark.parametrize(
    "decode",
    [
        lambda: masks.decode_rle([3, 4], (2, 2)),
        lambda: masks.decode_rle([-1, 5], (2, 2)),
        lambda: masks.decode_rle("4\x7f", (2, 2)),
        lambda: masks.decode_rle("P", (2, 2)),
        lambda: masks.decode_kaggle("1 2 3", (2, 2)),
        lambda: masks.decode_kaggle("0 2", (2, 2)),
        lambda: masks.decode_kaggle("2 9", (2, 2)),
        lambda: masks.decode_kaggle("mask.png", (2, 2)),
        lambda: masks.rasterize(np.zeros((2, 2)), (4, 4)),
        lambda: masks.rasterize(np.array([[0, 0], [1, 1], [np.nan, 2]]), (4, 4)),
    ],
)
def test_broken_outlines_are_refused(decode):
    with pytest.raises(ValueError, match=r"\w"):
        decode()


def test_polygons_are_those_of_scikit_image():
    for corners in (3, 5, 12):
        points = RNG.uniform(-4, 26, (corners, 2))  # Corners beyond the image; edges that cross.
        slow = polygon2mask((20, 23), points[:, ::-1])
        assert np.array_equal(masks.rasterize(points, (20, 23)), slow)
    square = np.array([[2, 3], [5, 3], [5, 7], [2, 7]])
    assert masks.rasterize(square, (9, 9), center=0.5).sum() == 3 * 4  # In COCO, pixel edges are integers.


def annotations(**changes):
    one = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 0}
    small = {"image_id": 7, "category_id": 9, "segmentation": [[2, 3, 3, 3, 3, 4, 2, 4]]}
    return {
        "images": [{"id": 7, "file_name": "a.png", "height": 8, "width": 10}],
        "categories": [{"id": 9, "name": "spot"}, {"id": 3, "name": "lesion"}],
        "annotations": [small, one | {"segmentation": [[1, 2, 4, 2, 4, 6, 1, 6]]} | changes],
    }


def write(folder, content):
    path = folder / "annotations.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_coco(tmp_path):
    found = coco.read(write(tmp_path, annotations()))
    assert found.classes == ("background", "lesion", "spot")
    expected = np.zeros((8, 10), np.uint8)
    expected[2:6, 1:4] = 1
    expected[3, 2] = 2  # The smaller one is on top, wherever it is in the file.
    assert np.array_equal(coco.mask(found, "a.png"), expected)
    boxes, labels = coco.boxes(found, "a.png")
    assert boxes.tolist() == [[2, 3, 3, 4], [1, 2, 4, 6]]
    assert labels.tolist() == [2, 1]
    crowd = coco.read(write(tmp_path, annotations(iscrowd=1)))
    assert (coco.mask(crowd, "a.png") == np.where(expected == 1, 255, expected)).all()
    assert len(coco.boxes(crowd, "a.png")[0]) == 1
    runs = {"size": [8, 10], "counts": masks.encode_rle(expected == 1)}
    assert np.array_equal(coco.mask(coco.read(write(tmp_path, annotations(segmentation=runs))), "a.png"), expected)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[1, 2]",
        "{}",
        json.dumps(annotations(category_id=4)),
        json.dumps(annotations(image_id=4)),
        json.dumps(annotations(bbox=[1, 2, -3, 4])),
        json.dumps(annotations() | {"images": [{"id": 1}]}),
        json.dumps(annotations() | {"images": 2 * annotations()["images"]}),
    ],
)
def test_broken_coco_is_refused(tmp_path, content):
    path = write(tmp_path, content)
    with refuses("unreadable", str(path), "annotations.json"):
        coco.read(path)


@pytest.mark.parametrize(
    "segmentation", [[], [[1, 2, 3]], {"size": [8, 9], "counts": [72]}, {"size": [8, 10], "counts": [3]}, "x"]
)
def test_broken_outlines_of_coco_are_refused(tmp_path, segmentation):
    found = coco.read(write(tmp_path, annotations(segmentation=segmentation)))
    with pytest.raises(ValueError, match=r"\w"):
        coco.mask(found, "a.png")
