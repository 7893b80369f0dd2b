"""Cross-validations as one result: ROC, confusion and calibration from the predictions of all folds together."""

import itertools
import zlib
from collections.abc import Sequence

import numpy as np

from jaxssl.evaluation import curves
from jaxssl.report import figures
from jaxssl.report.blocks import Body, Cell, Confusion, Grid, Heading, Key, Legend, Panel, Row, Section, Table, Text
from jaxssl.report.sections.confusion import pool_rare_classes
from jaxssl.report.study_data import StudyData
from jaxssl.results.study_conclusions import headline_metrics, split_by_metric
from jaxssl.results.study_schema import Arm
from jaxssl.results.words import (
    METRIC_NAMES,
    arm_title,
    clean_text,
    format_ends,
    format_labels,
    format_value_of,
    protocol_name,
    shorten,
)

TEXT = (
    "Each image is tested once per seed, by the network of the fold that did not train on it. Where networks of "
    "different folds have scores of different scale, the pooled AUC is lower than the mean over folds above."
)
CAPTION = "From all folds together; 95 % intervals over the groups of the test images."


def section(data: StudyData) -> Section | None:
    """Return pooled scores, ROC curves, confusion and reliability of each arm whose runs are folds."""
    arms = [arm for arm in data.study["arms"] if arm["out_of_fold"]]
    if not arms:
        return None
    classes, names = data.study["dataset"]["classes"], list(dict.fromkeys(arm["name"] for arm in arms))
    by_title: dict[str, list[Arm]] = {}
    for arm in arms:
        by_title.setdefault(_title(arm), []).append(arm)
    legend = Legend([Key(arm_title(name), kind=kind) for kind, name in enumerate(names)])
    blocks = [Text(TEXT), *map(_make_table, split_by_metric(arms)), legend]
    for title, of in by_title.items():
        panels = [p for c, name in enumerate(classes) if (p := _roc(title, names, of, c, name))]
        if of[0]["majority_accuracy"] is None:  # Several labels, or values.
            blocks += [Heading(title), Grid(panels, "square")] if panels else []
            continue
        panels = panels[1:] if len(classes) == 2 == len(panels) else panels
        confusions = [_confusion(title, arm, classes) for arm in of]
        blocks += [Heading(title), Grid([*panels, _reliability(title, names, of)], "square"), Grid(confusions, "wide")]
    return Section("folds", "All folds together", blocks)


def _title(arm: Arm) -> str:
    return f"{protocol_name(arm['protocol']).capitalize()}, {format_labels(arm['labels'])}"


def _make_table(arms: Sequence[Arm]) -> Table:
    metrics = headline_metrics(arms)
    bodies = [Body(title, [_row(arm, metrics) for arm in of]) for title, of in itertools.groupby(arms, _title)]
    head = ["Arm", *(METRIC_NAMES[metric] for metric in metrics)]
    return Table(f"Scores of all folds, {METRIC_NAMES[metrics[0]]}", CAPTION, head, bodies, "scores")


def _row(arm: Arm, metrics: Sequence[str]) -> Row:
    of = arm["out_of_fold"]
    assert of
    estimates = [of["metrics"][metric] for metric in metrics]
    return Row(Cell(arm_title(arm["name"])), [Cell(format_value_of(e), format_ends(e)) for e in estimates])


def _roc(title: str, names: list[str], arms: list[Arm], c: int, name: str) -> Panel | None:
    lines = []
    for arm in arms:
        of = arm["out_of_fold"]
        if of and c < len(of["roc"]) and (rates := of["roc"][c]):
            lines.append((names.index(arm["name"]), figures.Line(arm["name"], curves.GRID, np.array(rates))))
    if not lines:
        return None
    label = clean_text(f"ROC of {shorten(name)} over all folds, {title}")
    return Panel(f"ROC, {shorten(name)}", figures.draw_study_roc(_name("roc", title, c), label, lines))


def _reliability(title: str, names: list[str], arms: list[Arm]) -> Panel:
    lines = []
    for arm in arms:
        of = arm["out_of_fold"]
        full = [(b["confidence"], b["accuracy"]) for b in (of["reliability"] if of else []) if b["images"]]
        lines.append((names.index(arm["name"]), figures.Line(arm["name"], *np.array(full, float).T)))
    label = clean_text(f"Accuracy by confidence over all folds, {title}")
    return Panel("Reliability", figures.draw_study_roc(_name("reliability", title, 0), label, lines, reliability=True))


def _confusion(title: str, arm: Arm, classes: list[str]) -> Confusion:
    of = arm["out_of_fold"]
    assert of
    counts, shown = pool_rare_classes(np.array(of["confusion"]), classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    label = clean_text(f"Confusion of {arm_title(arm['name'])} over all folds, {title}")
    return Confusion(label, arm_title(arm["name"]), arm["init"], shown, counts.tolist(), shares.tolist())


def _name(kind: str, title: str, c: int) -> str:
    """Return a name for the ids of a figure."""
    return f"folds-{kind}-{c}-{zlib.crc32(title.encode()):08x}"
