"""Differences between the arms of a study."""

from collections.abc import Sequence

import numpy as np

from jaxssl.report import figures
from jaxssl.report.blocks import Block, Body, Cell, Details, Row, Section, Table, Text
from jaxssl.report.forest import Difference, Forest, make_forest
from jaxssl.report.sections.study_arms import intervals_cell
from jaxssl.report.study_data import StudyData
from jaxssl.results import study_schema
from jaxssl.results.study_conclusions import format_evidence, headline_metrics, sort_key
from jaxssl.results.study_verdict import describe_where, find_main_differences
from jaxssl.results.words import (
    LOWER_IS_BETTER,
    METRIC_HINTS,
    METRIC_NAMES,
    PROTOCOL_HINTS,
    UNDEFINED,
    arm_title,
    clean_text,
    count_digits,
    format_labels,
    format_p,
    format_range,
    format_signed,
    has_interval,
    protocol_name,
)

MAX_ROWS = 24  # Of more differences, only those from random weights are shown at first.
TEXT = (
    "The dot is the mean over runs, the broad line the 95 % interval over the groups of the test images, the thin line "
    "the one over runs. Each p-value is the larger of that for other seeds and that for other test groups, corrected "
    'by Holm\'s method over all differences; "higher" and "lower" hold for both.'
)
MAX_PLOTTED = 16  # Rows of the forest plot on the first screen.
KEY = "95 % intervals over test groups (broad) and over training runs (thin). Grey: not established."
# What is established has the color of pretraining, what is open a grey.
COLORS = {"higher": "ssl", "lower": "random", "these runs": "open", "open": "open"}
VERDICT_NAMES = {"higher": "higher", "lower": "lower", "these runs": "these networks only", "open": "open"}


def section(data: StudyData) -> Section | None:
    """Return a table for each metric."""
    if not data.study["differences"]:
        return None
    blocks: list[Block] = [Text(TEXT)]
    for metric in headline_metrics(data.study):
        found = [d for d in data.study["differences"] if d["metric"] == metric]
        first = [d for d in found if d["b"] == "random"] if len(found) > MAX_ROWS else found
        rest = [d for d in found if d not in first]
        if first:
            blocks.append(_table(first, metric))
        if rest:
            blocks.append(Details(f"{len(rest)} more differences", [_table(rest, metric, "Further differences")]))
    return Section("differences", "Differences between arms, run by run", blocks, folded=False)


def plot(data: StudyData) -> Forest | None:
    """Return the forest plot of the surest differences, by protocol; None where nothing is compared."""
    surest = sorted(find_main_differences(data.study), key=sort_key)[:MAX_PLOTTED]
    if not surest:
        return None
    differences = sorted(surest, key=lambda d: (d["protocol"], -d["label_fraction"], -(d["mean"] or 0)))
    several = len({arm["labels"] for arm in data.study["arms"]}) > 1
    alone = len({(d["a"], d["b"]) for d in differences}) == 1
    against_random = differences[0]["b"] == "random"
    rows = []
    for d in differences:
        name = arm_title(d["a"]) if against_random else f"{arm_title(d['a'])} − {arm_title(d['b'])}"
        digits = count_digits(d["over_groups"])
        groups, runs = ((of["low"], of["high"]) for of in (d["over_groups"], d["over_runs"]))
        text = format_signed(d["mean"], digits)
        ends = f"({format_range(d['over_groups'])})" if has_interval(d["over_groups"]) else ""
        where, color = describe_where(d, several), COLORS[d["verdict"]]
        names = (where, PROTOCOL_HINTS.get(d["protocol"], "")) if alone else (name, "")
        rows.append(Difference(*names, d["mean"], groups, text, ends, runs, color, "" if alone else where))
    metric = differences[0]["metric"]
    caption = f"Difference in {METRIC_NAMES[metric]} {'from random weights' if against_random else 'between arms'}"
    left, right = (
        ("random weights better", "this start better") if against_random else ("second better", "first better")
    )
    if metric in LOWER_IS_BETTER:
        left, right = right, left
    none = "Random weights: no pretraining." if against_random else ""
    return make_forest(caption, f"{METRIC_HINTS.get(metric, '')} {none} {KEY}".strip(), rows, left, right)


def _table(differences: Sequence[study_schema.Difference], metric: str, label: str = "Differences") -> Table:
    reach = _find_reach(differences)
    head = ["Difference", "figure", "mean", "Holm", "verdict"]
    title = f"Differences in {METRIC_NAMES[metric]}"
    return Table(
        f"{label} in {METRIC_NAMES[metric]}",
        title,
        head,
        [Body("", [_row(d, reach) for d in differences])],
        "scores differences",
    )


def _find_reach(differences: Sequence[study_schema.Difference]) -> float:
    """Return the largest value on the axis; intervals over two or three runs may be far wider, and are cut."""
    ends = [
        abs(end)
        for d in differences
        for of in (d["over_groups"], d["over_runs"])
        for end in (of["low"], of["high"])
        if end is not None
    ]
    most = float(np.percentile(ends, 90)) if ends else 0.0
    return max(1.2 * most, *(1.2 * abs(d["mean"] or 0) for d in differences), 1e-3)


def _row(d: study_schema.Difference, reach: float) -> Row:
    name = Cell(
        f"{arm_title(d['a'])} − {arm_title(d['b'])}", f"{protocol_name(d['protocol'])}, {format_labels(d['labels'])}"
    )
    if d["mean"] is None:
        return Row(name, [Cell(""), Cell(UNDEFINED), Cell(""), Cell("open")])
    groups, runs = ((of["low"], of["high"]) for of in (d["over_groups"], d["over_runs"]))
    label = clean_text(f"{format_signed(d['mean'])} ({format_evidence(d)})")
    p = "" if d["p_holm"] is None else format_p(d["p_holm"])
    return Row(
        name,
        [
            Cell("", svg=figures.draw_interval(label, d["mean"], groups, runs, reach)),
            intervals_cell(d, format_signed),
            Cell(p),
            Cell(VERDICT_NAMES[d["verdict"]]),
        ],
    )
