"""Masks over images, and the section that shows them."""

import json
from typing import Any

import numpy as np

from jaxssl.evaluation import detection
from jaxssl.report.pictures import MASK_COLORS, overlay_boxes, overlay_masks
from jaxssl.report.run_data import RunData
from jaxssl.report.sections import overlays

SIDE = 200


def square(label, start):
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[start : start + 40, start : start + 40] = label
    return mask


def test_predictions_are_filled_and_truth_is_outlined():
    image = np.full((SIDE, SIDE, 1), 100, np.uint8)
    drawn = overlay_masks(image, square(2, 10), square(1, 100))
    orange = np.rint(0.45 * 100 + 0.55 * np.array(MASK_COLORS["orange"]))
    assert (drawn[10:50, 10:50] == orange).all()
    assert (drawn[100, 100:140] == 255).all()
    assert (drawn[99, 100:140] == 0).all()
    assert (drawn[101:139, 101:139] == 100).all()
    assert (drawn[:10] == 100).all()


def test_small_images_are_enlarged_and_unknown_pixels_left_alone():
    image = np.full((32, 32, 3), 100, np.uint8)
    unknown = np.full((32, 32), 255, np.uint8)
    drawn = overlay_masks(image, unknown, unknown)
    assert drawn.shape == (160, 160, 3)
    assert (drawn == 100).all()


def test_boxes_are_drawn_as_boxes():
    image = np.full((SIDE, SIDE, 1), 100, np.uint8)
    found, true = (detection.find_lesions(square(label, start), 3) for label, start in ((2, 10), (1, 100)))
    drawn = overlay_boxes(image, found, true)
    edge = np.zeros((SIDE, SIDE), bool)
    edge[10:50, [10, 49]] = edge[[10, 49], 10:50] = True
    assert (drawn[edge] == MASK_COLORS["orange"]).all()
    outer = np.zeros((SIDE, SIDE), bool)
    outer[99:141, [99, 140]] = outer[[99, 140], 99:141] = True
    assert (drawn[outer] == 255).all() and (drawn[~(edge | outer)] == 100).all()
    small = overlay_boxes(np.full((32, 32, 3), 100, np.uint8), *2 * [detection.find_lesions(square(1, 8)[:32, :32], 2)])
    assert small.shape == (160, 160, 3) and (small[40, 40:160] == MASK_COLORS["sky blue"]).all()


def run(classes, names, gallery):
    evaluations = [
        {"name": name, "protocol": name.rpartition("_")[0], "init": name.rpartition("_")[2]} for name in names
    ]
    dataset = {"mask_classes": ["background", *classes]}
    pretrain = {"objective": "mae", "supervised": False}
    results: Any = {"dataset": dataset, "evaluations": evaluations, "pretrain": pretrain}
    return RunData(results, *[None] * 5, gallery, None)  # pyright: ignore


def make(names, images=2):
    masks = np.stack([square(1, 10 * k) for k in range(images)])
    return {
        "about": np.array(json.dumps({})),
        "mask_ids": np.array([f"<b>{k}" for k in range(images)]),
        "mask_cases": np.array(["best", "worst"]),
        "mask_images": np.zeros((images, SIDE, SIDE, 1), np.uint8),
        "mask_true": masks,
        "mask_evaluations": np.array(names),
        "mask_predicted": np.stack([masks] * len(names)),
        "mask_dice": np.full((len(names), images), 0.5),
    }


def test_every_arm_is_beside_the_truth():
    names = ["segment_ssl", "segment_random", "segment_linear_random"]
    section = overlays.section(run(["spot", "line"], names, make(names)))
    text, grid = section.blocks
    assert "orange is line" in text.text
    assert [[picture.below for picture in strip.pictures] for strip in grid.blocks] == 2 * [
        ["image", "truth", "pretrained by MAE", "random weights", "random weights"]
    ]
    assert grid.blocks[0].pictures[2].small.startswith("Dice .500")
    assert grid.blocks[0].pictures[2].src == grid.blocks[0].pictures[1].src  # The prediction is perfect.
    assert [strip.small for strip in grid.blocks] == ["best Dice", "worst Dice"]
    assert overlays.section(run([], [], {})) is None


def test_scores_of_lesions():
    found = run(["spot"], ["segment_ssl", "segment_random"], {})
    assert overlays.lesion_section(found) is None
    estimate = {"value": 0.5, "low": 0.4, "high": 0.6}
    for e in found.results["evaluations"]:
        e["detection"] = {"lesions_by_class": [7], "metrics": dict.fromkeys(detection.NAMES, estimate)}
    (table,) = overlays.lesion_section(found).blocks
    drawn = run(["spot"], ["segment_ssl", "segment_random"], make(["segment_ssl", "segment_random"]))
    drawn.results["evaluations"][0]["detection"] = found.results["evaluations"][0]["detection"]
    _, _, grid = overlays.lesion_section(drawn).blocks
    assert [picture.small for picture in grid.blocks[1].pictures] == 2 * ["1 found, 1 true, segmentation"]
    assert table.caption.startswith("7 lesions")
    assert [len(row.cells) for body in table.bodies for row in body.rows] == [5, 5]
    assert table.bodies[0].rows[0].cells[0].small.startswith("(.40")
