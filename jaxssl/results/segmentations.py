"""Scores of masks of a run, read from segmentations.csv, and the paired differences from their start."""

from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from jaxssl.evaluation.segmentation import paired_differences
from jaxssl.results.cells import Row, parse_rows, unescape_cell
from jaxssl.results.schema import Results, TestedDifference
from jaxssl.results.words import find_start, is_segmentation

COLUMNS = ("true_pixels", "predicted_pixels", "common_pixels", "dice", "iou", "hausdorff95")


class Segmentations(NamedTuple):
    """The rows of one evaluation in segmentations.csv, N images and C classes.

    Attributes:
      ids: of the images.
      groups: [N] str.
      scores: {one of `COLUMNS`: [N, C] float64}, NaN where undefined.
    """

    ids: list[str]
    groups: np.ndarray
    scores: dict[str, np.ndarray]


def read_segmentations(workdir: Path, results: Results) -> dict[str, Segmentations]:
    """Return the scores of each evaluation of masks, by name.

    Raises:
      UserError: segmentations.csv is missing or does not agree with `results`.
    """
    expected = {e["name"]: e["images"] for e in results["evaluations"] if is_segmentation(e)}
    if not expected:
        return {}
    classes = results["dataset"].get("mask_classes", [])[1:]

    def parse(rows: dict[str, list[Row]]) -> dict[str, Segmentations]:
        found = {name: _parse(rows[name], classes) for name in expected}
        wrong = [name for name, of in found.items() if len(of.ids) != expected[name]]
        if wrong:
            raise ValueError(f"it has {len(found[wrong[0]].ids)} images of {wrong[0]}, not {expected[wrong[0]]}")
        return found

    return parse_rows(Path(workdir) / "segmentations.csv", parse)


def _parse(rows: list[Row], classes: list[str]) -> Segmentations:
    if [unescape_cell(row[3]) for row in rows] != classes * (len(rows) // max(1, len(classes))):
        raise ValueError("its classes are others")
    first = rows[:: len(classes)]
    values = np.array([[float(cell or "nan") for cell in row[4:]] for row in rows])
    values = values.reshape(len(first), len(classes), len(COLUMNS))
    scores = {name: values[..., i] for i, name in enumerate(COLUMNS)}
    return Segmentations(
        [unescape_cell(row[1]) for row in first], np.array([unescape_cell(row[2]) for row in first]), scores
    )


def compare_masks(results: Results, masks: dict[str, Segmentations]) -> dict[str, dict[str, TestedDifference]]:
    """Return the scores of each evaluation of masks minus those of its start with the same protocol, by name."""
    found = {}
    for e in results["evaluations"]:
        partner = find_start(results, e)
        if partner is None or not {e["name"], partner["name"]} <= masks.keys():
            continue
        a, b, side = masks[e["name"]], masks[partner["name"]], e.get("mask_side", 1)
        if a.ids == b.ids:
            differences = paired_differences(a.scores, b.scores, a.groups, (side, side))
            found[e["name"]] = cast(dict[str, TestedDifference], differences)
    return found
