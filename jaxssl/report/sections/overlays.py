"""True and predicted masks of test images, every arm side by side."""

import math

from jaxssl.report.blocks import Grid, Section, Strip, Text
from jaxssl.report.pictures import MASK_COLORS, make_picture, overlay_masks
from jaxssl.report.run_data import RunData
from jaxssl.results.words import format_number, init_name, join_words, protocol_name, shorten

TEXT = (
    "Test images with the best, the median and the worst Dice, averaged over all that is shown: what is predicted is "
    "filled, what is true has a white outline, and Dice is that of the classes which the image has."
)


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
            pictures.append(make_picture(overlay_masks(image, predicted, truth), alt, init, small))
        strips.append(Strip(name, pictures, f"{case} Dice"))
    return Section("masks", "True and predicted masks", [Text(f"{TEXT}{_colors(run)}"), Grid(strips, "overlays")])


def _colors(run: RunData) -> str:
    """Return which class has which color, if there are several."""
    classes = run.results["dataset"].get("mask_classes", [])[1:]
    if len(classes) < 2:
        return ""
    colors = [*MASK_COLORS]
    return f" Colors: {join_words([f'{colors[i % len(colors)]} is {shorten(c)}' for i, c in enumerate(classes)])}."
