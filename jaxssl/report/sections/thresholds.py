"""Sensitivity and specificity at a threshold chosen on validation."""

from collections.abc import Sequence

import numpy as np

from jaxssl.report.blocks import Cell, Grid, Row, Section, Table, Text
from jaxssl.report.run_data import RunData
from jaxssl.report.sections.common import bodies_by_protocol, estimate_cell, find_commonest, init_cell, limit_note
from jaxssl.results.schema import Evaluation, Results
from jaxssl.results.words import format_number, shorten

HEAD = ("Initialization", "Threshold", "Sensitivity", "Specificity")


def section(run: RunData) -> Section | None:
    """Return a table for each class that is compared with all others."""
    results = run.results
    shown = [e for e in results["evaluations"] if e["images"] and e.get("operating_point") and e["protocol"] != "knn"]
    if not shown:
        return None
    classes, points = results["dataset"]["classes"], shown[0]["operating_point"]
    counts, total = count_classes(shown[0])
    separable = {classes[c] for c in find_commonest(counts) if counts[c] < total[c]}
    places = {point["class"]: k for k, point in enumerate(points) if point["class"] in separable}
    if not places:
        return None
    wanted = f"{100 * points[0]['specificity_wanted']:.3g} %"
    text = (
        "An image is positive for a class if the probability of the class is above a threshold, which is chosen such "
        f"that {wanted} of the validation images of other classes are below it. Sensitivity is the share of the "
        "class's test images that are positive, specificity the share of the others that are not, which need not be "
        f"{wanted} again. The 95 % intervals take the threshold as given."
    )
    tables = [_table(results, shown, name, k) for name, k in places.items()]
    note = limit_note(classes) if len(points) > 1 else []
    return Section(
        "thresholds", "Sensitivity and specificity at a threshold", [Text(text), *note, Grid(tables, "wide")]
    )


def count_classes(e: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """Return the test images of each class or label, and those in which it is known."""
    if e.get("confusion") is None:
        labels = e.get("by_label", [])
        return np.array([of["positives"] for of in labels]), np.array([of["images"] for of in labels])
    counts = np.array(e["confusion"]).sum(axis=1)
    return counts, np.full(len(counts), counts.sum())


def _table(results: Results, shown: Sequence[Evaluation], name: str, k: int) -> Table:
    """Return the table of the `k`-th class that has operating points."""

    def row(e: Evaluation) -> Row:
        point = e["operating_point"][k]
        estimates = [estimate_cell(point["sensitivity"]), estimate_cell(point["specificity"])]
        return Row(init_cell(e, results), [Cell(format_number(point["threshold"])), *estimates])

    name = shorten(name)
    return Table(f"Thresholds, {name}", name, HEAD, bodies_by_protocol(shown, row), "scores thresholds")
