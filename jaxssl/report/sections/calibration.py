"""Calibration: confidence against accuracy, before and after temperature scaling."""

from collections.abc import Sequence
from typing import cast

import numpy as np

from jaxssl.evaluation import calibration
from jaxssl.evaluation.scores import ECE_BINS
from jaxssl.report import figures
from jaxssl.report.blocks import Cell, Grid, Heading, Panel, Row, Section, Table, Text
from jaxssl.report.figures import Line
from jaxssl.report.run_data import RunData
from jaxssl.report.sections.common import bodies_by_protocol, estimate_cell, init_cell, speak_values
from jaxssl.results.predictions import Predictions
from jaxssl.results.schema import Bin, Evaluation, Results
from jaxssl.results.words import UNDEFINED, clean_text, format_number, get_score, group_by_protocol, protocol_name

TEXT = (
    f"Images in {ECE_BINS} bins of the probability of the predicted class: on the diagonal, eight of ten images "
    "predicted with .8 are right; below it the model is overconfident. A larger dot holds more images. The calibration "
    "error is the mean distance from the diagonal, over images. It is given again after temperature scaling, which "
    "flattens (temperature above 1) or sharpens (below 1) the probabilities as validation suggests and leaves the "
    "predicted class as it is."
)
MIN_IMAGES = 5 * ECE_BINS  # For a diagram.
CAPTION = (
    "Lower is better. Chance alone raises the error, by an amount that is not known, so that it has no interval. Where "
    "validation images set no scale for the probabilities, there is no temperature."
)
HEAD = ("Initialization", "Calibration error", "Temperature", "Calibration error with it")


def section(run: RunData) -> Section | None:
    """Return the reliability diagrams and the calibration errors."""
    shown = [e for e in run.results["evaluations"] if e.get("reliability") and e["name"] in run.predictions]
    if not shown:
        return None
    before = {e["name"]: e["reliability"] for e in shown}
    after = {
        e["name"]: _scaled_bins(run.predictions[e["name"]], temperature)
        for e in shown
        if (temperature := e["temperature"])
    }
    blocks = [Text(TEXT), _table(run.results, shown)]
    images = min(e["images"] for e in shown)
    if images < MIN_IMAGES:
        blocks.append(Text(f"The diagrams are not drawn: {images} test images, {MIN_IMAGES} fill {ECE_BINS} bins."))
        return Section("calibration", "Calibration of the probabilities", blocks)
    for title, bins, error in (("As predicted", before, "ece"), ("With the temperature", after, "ece_calibrated")):
        if bins:
            blocks += [Heading(title), Grid(_panels(shown, bins, error), "square")]
    return Section("calibration", "Calibration of the probabilities", blocks)


def _scaled_bins(p: Predictions, temperature: float) -> list[Bin]:
    bins = calibration.reliability_bins(calibration.apply_temperature(p.probabilities, temperature), p.labels)
    return cast(list[Bin], bins)


def _panels(shown: Sequence[Evaluation], bins: dict[str, list[Bin]], error: str) -> list[Panel]:
    """Return a panel for each protocol, of the evaluations that have bins; `error` is their calibration error."""
    panels = []
    for protocol, of in group_by_protocol(e for e in shown if e["name"] in bins).items():
        lines, images, errors = [], [], []
        for e in of:
            full = [(b["confidence"], b["accuracy"], b["images"]) for b in bins[e["name"]] if b["images"]]
            confidence, accuracy, counts = np.array(full).T
            lines.append(Line(e["init"], confidence, accuracy))
            images.append(counts)
            errors.append((e["init"], format_number(get_score(e, error)["value"])))
        name = protocol_name(protocol)
        label = clean_text(f"Reliability of {name}: calibration error {speak_values(errors)}")
        svg = figures.draw_reliability(f"{error}-{protocol}".replace("_", "-"), label, lines, images)
        panels.append(Panel(name.capitalize(), svg))
    return panels


def _table(results: Results, shown: Sequence[Evaluation]) -> Table:
    def row(e: Evaluation) -> Row:
        before, after = (estimate_cell(get_score(e, error)) for error in ("ece", "ece_calibrated"))
        temperature = UNDEFINED if e["temperature"] is None else f"{e['temperature']:.2f}"
        return Row(init_cell(e, results), [before, Cell(temperature), after])

    return Table("Calibration", CAPTION, HEAD, bodies_by_protocol(shown, row), "scores")
