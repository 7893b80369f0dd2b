"""True and predicted masks of test images, every arm side by side, and the scores of their lesions."""

import math

import numpy as np

from jaxssl.evaluation.detection import find_lesions
from jaxssl.report.blocks import Grid, Row, Section, Strip, Table, Text
from jaxssl.report.pictures import MASK_COLORS, make_picture, overlay_boxes, overlay_masks
from jaxssl.report.run_data import RunData
from jaxssl.report.sections.common import bodies_by_protocol, estimate_cell, init_cell
from jaxssl.results.schema import Evaluation
from jaxssl.results.words import format_number, init_name, join_words, protocol_name, shorten

TEXT = (
    "Test images with the best, the median and the worst Dice, averaged over all that is shown: what is predicted is "
    "filled, what is true has a white outline, and Dice is that of the classes which the image has."
)

# Those of `jaxssl.evaluation.detection` that the report shows.
LESION_NAMES = {
    "froc": "FROC",
    "sensitivity_1": "at 1 false positive",
    "average_precision_0.1": "average precision, IoU .1",
    "average_precision_0.3": "IoU .3",
    "average_precision_0.5": "IoU .5",
}


def section(run: RunData) -> Section | None:
    """Return the overlays of gallery.npz, None if it has none."""
    gallery = run.gallery
    if "mask_ids" not in gallery:
        return None
    names = gallery["mask_evaluations"].tolist()
    arms = {e["name"]: e for e in run.results["evaluations"]}
    protocols = {arms[name]["protocol"] for name in names}
    strips = []
    for k, (name, case) in enumerate(zip(gallery["mask_ids"].tolist(), gallery["mask_cases"].tolist(), strict=True)):
        name, image, truth = shorten(name), gallery["mask_images"][k], gallery["mask_true"][k]
        true = make_picture(overlay_masks(image, truth, truth), f"{name}, truth", "truth")
        pictures = [make_picture(image, name, "image"), true]
        for of, predicted, dice in zip(names, gallery["mask_predicted"][:, k], gallery["mask_dice"][:, k], strict=True):
            init, protocol = init_name(arms[of]["init"], run.results), protocol_name(arms[of]["protocol"])
            value = f"Dice {format_number(float(dice))}" if not math.isnan(dice) else ""
            small = f"{value}, {protocol}" if len(protocols) > 1 else value
            alt = f"{name}, {protocol} of {init}, {value}"
            counted = np.where(truth == 255, 0, predicted)  # As in the scores.
            pictures.append(make_picture(overlay_masks(image, counted, truth), alt, init, small))
        strips.append(Strip(name, pictures, f"{case} Dice"))
    blocks = [Text(f"{TEXT}{_colors(run)}"), Grid(strips, "overlays")]
    return Section("masks", "True and predicted masks", blocks)


def lesion_section(run: RunData) -> Section | None:
    """Return the scores of lesions, None if no evaluation has any."""
    found = [e for e in run.results["evaluations"] if sum(e.get("detection", {}).get("lesions_by_class", [])) > 0]
    if not found:
        return None

    def row(e: Evaluation) -> Row:
        metrics = e["detection"]["metrics"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
        return Row(init_cell(e, run.results), [estimate_cell(metrics[name]) for name in LESION_NAMES])

    count = sum(found[0].get("detection", {}).get("lesions_by_class", []))
    caption = (
        f"{count:,} lesions, the connected components of the masks, with 95 % intervals over groups. FROC is the mean "
        "sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives an image, of boxes with an IoU of .1 at least."
    )
    table = Table(
        "Lesions", caption, ["Initialization", *LESION_NAMES.values()], bodies_by_protocol(found, row), "scores"
    )
    return Section("lesions", "Lesions found", [table, *draw_boxes(run)])


def draw_boxes(run: RunData) -> list[Text | Grid]:
    """Return the boxes of true and found lesions in the images of gallery.npz, [] if it has none."""
    gallery = run.gallery
    if "mask_ids" not in gallery:
        return []
    arms = {e["name"]: e for e in run.results["evaluations"]}
    classes = len(run.results["dataset"].get("mask_classes", []))
    strips = []
    for k, name in enumerate(map(shorten, gallery["mask_ids"].tolist())):
        image, truth, pictures = gallery["mask_images"][k], gallery["mask_true"][k], []
        true = find_lesions(truth, classes)
        for of, predicted in zip(gallery["mask_evaluations"].tolist(), gallery["mask_predicted"][:, k], strict=True):
            init, protocol = init_name(arms[of]["init"], run.results), protocol_name(arms[of]["protocol"])
            found = find_lesions(np.where(truth == 255, 0, predicted), classes)
            count = f"{len(found.boxes)} found, {len(true.boxes)} true"
            alt = f"{name}, boxes, {protocol} of {init}, {count}"
            pictures.append(make_picture(overlay_boxes(image, found, true), alt, init, f"{count}, {protocol}"))
        strips.append(Strip(name, pictures))
    text = "The same images with the boxes of lesions: true ones are white, found ones have the color of their class."
    return [Text(text), Grid(strips, "overlays")]


def _colors(run: RunData) -> str:
    """Return which class has which color, if there are several."""
    classes = run.results["dataset"].get("mask_classes", [])[1:]
    if len(classes) < 2:
        return ""
    colors = [*MASK_COLORS]
    return f" Colors: {join_words([f'{colors[i % len(colors)]} is {shorten(c)}' for i, c in enumerate(classes)])}."
