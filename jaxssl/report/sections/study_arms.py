"""Scores of the arms of a study."""

from collections.abc import Callable, Sequence
from typing import Any

from jaxssl.report.blocks import Body, Cell, Row, Section, Table, cells
from jaxssl.report.study_data import StudyData
from jaxssl.results.study_conclusions import headline_metrics, split_by_metric
from jaxssl.results.study_schema import Arm
from jaxssl.results.words import (
    METRIC_NAMES,
    UNDEFINED,
    arm_title,
    count_digits,
    format_labels,
    format_number,
    format_range,
    has_interval,
    protocol_name,
)

CAPTION = "Means over runs. 95 % intervals: over runs in [ ], over the groups of the test images in ( )."


def section(data: StudyData) -> Section:
    """Return a row for each arm, by protocol and share of the labels."""
    return Section("arms", "Arms", [_make_table(arms) for arms in split_by_metric(data.study["arms"])], folded=False)


def _make_table(arms: Sequence[Arm]) -> Table:
    bodies: dict[str, list[Row]] = {}
    metrics = headline_metrics(arms)
    for arm in arms:
        scores = [intervals_cell(arm["metrics"][metric], format_number) for metric in metrics]
        seconds = arm["pretrain_seconds"]
        trained = "" if arm["trained_images"] is None else f"{arm['trained_images']:,.0f}"
        time = f"{seconds / 60:.1f} min" if seconds else ""
        title = f"{protocol_name(arm['protocol']).capitalize()}, {format_labels(arm['labels'])}"
        counts = cells(f"{arm['images']:,}", str(len(arm["seeds"])), str(arm["runs"]), trained, time)
        row = Row(Cell(arm_title(arm["name"])), [*scores, *counts])
        bodies.setdefault(title, []).append(row)
    counts = ["test images", "seeds", "runs", "images trained on", "pretraining"]
    head = ["Arm", *(METRIC_NAMES[metric] for metric in metrics), *counts]
    rows = [row for of in bodies.values() for row in of]
    filled = [i for i in range(len(head) - 1) if any(row.cells[i].text for row in rows)]
    head = [head[0], *(head[i + 1] for i in filled)]
    bodies = {title: [row._replace(cells=[row.cells[i] for i in filled]) for row in of] for title, of in bodies.items()}
    label = f"Scores of the arms, {METRIC_NAMES[metrics[0]]}"
    return Table(label, CAPTION, head, [Body(*item) for item in bodies.items()], "scores")


def intervals_cell(of: Any, form: Callable[[float | None, int], str]) -> Cell:
    """Return a mean, and its intervals over runs and over groups in small print."""
    if of["mean"] is None:
        return Cell(UNDEFINED)
    known = [of[kind] for kind in ("over_groups", "over_runs") if has_interval(of[kind])]
    digits = min(map(count_digits, known), default=3)
    ends = [
        f"{opening}{format_range(of[kind], form, digits)}{closing}"
        for kind, (opening, closing) in (("over_runs", "[]"), ("over_groups", "()"))
        if has_interval(of[kind])
    ]
    return Cell(form(of["mean"], digits), " ".join(ends))
