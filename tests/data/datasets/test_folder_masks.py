"""Masks of images in folders, tables and COCO's JSON, against the pixels that were written."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxssl.data.datasets import folder
from jaxssl.data.source import UNKNOWN
from tests.refusals import refuses

RNG = np.random.default_rng(0)
SIDE, NAMES = 12, ("a", "b", "c", "d")
PIXELS = {name: RNG.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for name in NAMES}
MASKS = {name: (RNG.random((SIDE, SIDE)) < 0.3).astype(np.uint8) for name in NAMES}


def write(root, image, mask, names=NAMES, scale=255):
    """Write images to root/image and masks to root/mask, where {} is the name."""
    for name in names:
        for pattern, pixels in ((image, PIXELS[name]), (mask, MASKS[name] * scale)):
            path = root / pattern.format(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


def load(root, **kw):
    return folder.load(dir=str(root), size=SIDE, **({"masks": "auto"} | kw))


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/{}.png", "masks/{}.png"),
        ("{}.png", "{}_mask.png"),
        ("{}.png", "GT_{}.png"),
        ("images/{}.png", "masks/{}.png.png"),
        ("Training_Input/{}.png", "Training_GroundTruth/{}_segmentation.png"),
    ],
)
def test_masks_are_found(tmp_path, image, mask):
    write(tmp_path, image, mask)
    got = load(tmp_path, use_labels="Input" not in image)
    assert [name.rsplit("/", 1)[-1] for name in got.ids] == [f"{name}.png" for name in NAMES]
    assert got.classes == () and got.mask_classes == ("background", "foreground")
    np.testing.assert_array_equal(got.masks, np.stack([*MASKS.values()]))
    np.testing.assert_array_equal(got.images, np.stack([*PIXELS.values()]))


def test_masks_change_the_fingerprint_and_nothing_else(tmp_path):
    write(tmp_path, "{}.png", "{}_mask.png")
    without, got = load(tmp_path, masks=""), load(tmp_path)
    assert without.masks is None and without.fingerprint != got.fingerprint
    np.testing.assert_array_equal(without.images, got.images)


def test_masks_stream(tmp_path):
    write(tmp_path, "images/{}.png", "masks/{}.png")
    got = load(tmp_path)
    lazy = load(tmp_path, cache_dir=str(tmp_path / "cache"), memory_mib=0)
    assert not isinstance(lazy.masks, np.ndarray) and lazy.fingerprint == got.fingerprint
    np.testing.assert_array_equal(lazy.masks[np.array([2, 0])], got.masks[[2, 0]])


def test_an_image_without_a_mask_and_a_mask_without_an_image(tmp_path):
    write(tmp_path, "images/{}.png", "masks/{}.png")
    (tmp_path / "masks" / "b.png").unlink()
    (tmp_path / "images" / "c.png").unlink()
    got = load(tmp_path)
    assert got.masked.tolist() == [True, False, True] and (got.masks[1] == UNKNOWN).all()
    assert any("1 masks without an image, such as masks/c.png" in line for line in got.unread)


def test_a_table_lists_masks(tmp_path):
    write(tmp_path, "x/{}.png", "y/{}-outline.png")
    rows = [f"x/{name}.png,y/{name}-outline.png" for name in NAMES[:3]] + ["x/d.png,"]
    (tmp_path / "t.csv").write_text("path,mask\n" + "\n".join(rows) + "\n")
    got = load(tmp_path, masks="", table="t.csv", mask_column="mask")
    assert got.masked.tolist() == [True, True, True, False]
    np.testing.assert_array_equal(got.masks[:3], np.stack([*MASKS.values()])[:3])
    (tmp_path / "empty.csv").write_text("path,mask\nx/d.png,\n")
    with refuses("missing", "data.options.mask_column"):
        load(tmp_path, masks="", table="empty.csv", mask_column="mask")
    with refuses("unknown-name", "data.options.mask_column", "masks"):
        load(tmp_path, masks="", table="t.csv", mask_column="masks")


def test_a_table_lists_run_lengths(tmp_path):
    write(tmp_path, "x/{}.png", "y/{}.png")
    shape = (SIDE, SIDE)
    runs = f"{2 * SIDE + 3} 4 {5 * SIDE + 1} 2"  # Columns 2 and 5, from rows 2 and 0.
    (tmp_path / "t.csv").write_text(f"path,EncodedPixels\nx/a.png,{runs}\nx/b.png,-1\nx/c.png,\nx/d.png,\n")
    got = load(tmp_path, masks="", table="t.csv", mask_column="EncodedPixels")
    expected = np.zeros(shape, np.uint8)
    expected[2:6, 2] = expected[0:2, 5] = 1
    assert got.masked.tolist() == [True, True, False, False]
    np.testing.assert_array_equal(got.masks[:2], np.stack([expected, np.zeros(shape, np.uint8)]))


def test_polygons_of_coco(tmp_path):
    write(tmp_path, "{}.png", "elsewhere/{}.txt.png", names=("a", "b"))
    (tmp_path / "elsewhere" / "a.txt.png").unlink()
    (tmp_path / "elsewhere" / "b.txt.png").unlink()
    images = [{"id": i, "file_name": f"{name}.png", "height": SIDE, "width": SIDE} for i, name in enumerate("ab")]
    # The pixels of rows 2 to 5 and columns 3 to 8.
    square = {"id": 1, "image_id": 0, "category_id": 7, "segmentation": [[3, 2, 9, 2, 9, 6, 3, 6]], "iscrowd": 0}
    content = {"images": images, "annotations": [square], "categories": [{"id": 7, "name": "lesion"}]}
    (tmp_path / "lesions.json").write_text(json.dumps(content))
    got = load(tmp_path, masks="lesions.json")
    expected = np.zeros((2, SIDE, SIDE), np.uint8)
    expected[0, 2:6, 3:9] = 1
    assert got.mask_classes == ("background", "lesion")
    np.testing.assert_array_equal(got.masks, expected)


@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
def test_masks_are_fitted_as_images_are(tmp_path, fit):
    """An image whose value is that of its mask stays so, except for pixels that the image interpolates."""
    mask = np.zeros((24, 48), np.uint8)
    mask[6:18, 12:36] = 1
    Image.fromarray(mask * 200).save(tmp_path / "a.png")
    Image.fromarray(mask * 255).save(tmp_path / "a_mask.png")
    got = load(tmp_path, fit=fit)
    image, known = got.images[0, ..., 0], got.masks[0] != UNKNOWN
    assert known.all() == (fit != "pad") and (image[~known] == 0).all()
    sharp = known & ((image < 20) | (image > 180))
    assert sharp.sum() > SIDE * SIDE / 4
    np.testing.assert_array_equal(got.masks[0][sharp], image[sharp] > 100)


def test_a_mask_of_another_shape_or_value_is_refused(tmp_path):
    write(tmp_path, "{}.png", "{}_mask.png")
    Image.fromarray(np.zeros((SIDE, 2 * SIDE), np.uint8)).save(tmp_path / "b_mask.png")
    with refuses("unreadable", "data.on_bad_file", "mask of b.png", "12 x 24"):
        load(tmp_path)
    assert load(tmp_path, on_bad_file="skip").masked.tolist() == [True, False, True, True]
    Image.fromarray(np.full((SIDE, SIDE), 3, np.uint8)).save(tmp_path / "b_mask.png")
    with refuses("unreadable", "data.on_bad_file", "value 3"):
        load(tmp_path)
    assert load(tmp_path, mask_classes=("x", "y", "z"), on_bad_file="skip").masked.all()


def test_no_mask_at_all_is_refused(tmp_path):
    write(tmp_path, "{}.png", "other/{}.png")
    with refuses("missing", "data.options.masks"):
        load(tmp_path)


@pytest.mark.parametrize(("pattern", "code"), [("masks/{1}/{0}.png", "conflict"), ("masks/{0}_{1}.png", "missing")])
def test_each_class_may_have_masks_of_its_own(tmp_path, pattern, code):
    """Where they overlap, the first class counts; image b has no mask of the first, d has none at all."""
    other = {name: (RNG.random((SIDE, SIDE)) < 0.5).astype(np.uint8) for name in NAMES}
    for name in NAMES:
        image = tmp_path / "images" / f"{name}.png"
        image.parent.mkdir(exist_ok=True)
        Image.fromarray(PIXELS[name]).save(image)
        for kind, of in (("MA", MASKS), ("ex", other)):
            if name != "d" and (name, kind) != ("b", "MA"):
                path = tmp_path / pattern.format(name, kind)
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(of[name] * 255).save(path)
    got = load(tmp_path, mask_classes=("MA", "EX"))
    assert got.mask_classes == ("background", "MA", "EX") and got.masked.tolist() == [True, True, True, False]
    for mask, name in zip(got.masks[:3], "abc", strict=True):
        first = MASKS[name] * (name != "b")
        np.testing.assert_array_equal(mask, np.where(first, 1, 2 * other[name]))
    with refuses(code, "data.options.masks", "mask_classes"):
        load(tmp_path)
