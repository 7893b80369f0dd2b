"""Scores of the arms of a study."""

from collections.abc import Callable
from typing import Any

from jaxssl.report.blocks import Body, Cell, Row, Section, Table
from jaxssl.report.study_data import StudyData
from jaxssl.results.study_conclusions import TESTED_METRICS
from jaxssl.results.words import (
    METRIC_NAMES,
    UNDEFINED,
    format_labels,
    format_number,
    format_range,
    has_interval,
    protocol_name,
    shorten,
)

CAPTION = "Means over runs. 95 % intervals: over runs in [ ], over the groups of the test images in ( )."


def section(data: StudyData) -> Section:
    """Return a row for each arm, by protocol and share of the labels."""
    bodies: dict[str, list[Row]] = {}
    for arm in data.study["arms"]:
        scores = [intervals_cell(arm["metrics"][metric], format_number) for metric in TESTED_METRICS]
        seconds = arm["pretrain_seconds"]
        time = f"{seconds / 60:.1f} min" if seconds else ""
        title = f"{protocol_name(arm['protocol']).capitalize()}, {format_labels(arm['labels'])}"
        row = Row(Cell(shorten(arm["name"])), [*scores, Cell(str(arm["runs"])), Cell(time)])
        bodies.setdefault(title, []).append(row)
    head = ["Arm", *(METRIC_NAMES[metric] for metric in TESTED_METRICS), "runs", "pretraining"]
    table = Table("Scores of the arms", CAPTION, head, [Body(*item) for item in bodies.items()], "scores")
    return Section("arms", "Arms", [table])


def intervals_cell(of: Any, form: Callable[[float | None], str]) -> Cell:
    """Return a mean, and its intervals over runs and over groups in small print."""
    if of["mean"] is None:
        return Cell(UNDEFINED)
    ends = [
        f"{opening}{format_range(of[kind], form)}{closing}"
        for kind, (opening, closing) in (("over_runs", "[]"), ("over_groups", "()"))
        if has_interval(of[kind])
    ]
    return Cell(form(of["mean"]), " ".join(ends))
