"""ROC and precision-recall curves of each class."""

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from jaxssl.evaluation import curves
from jaxssl.evaluation.scores import is_value
from jaxssl.report import figures
from jaxssl.report.blocks import Block, Grid, Heading, Panel, Section, Text
from jaxssl.report.figures import Line
from jaxssl.report.run_data import RunData
from jaxssl.report.sections.common import find_commonest, init_legend, iter_predictions, limit_note, speak_values
from jaxssl.results.predictions import Predictions
from jaxssl.results.words import clean_text, format_number, protocol_name, shorten

BANDS = "Bands hold 95 % of the curves of resampled test groups."
ROC_TEXT = f"Each class against all others (of two classes, the second); the diagonal is chance. {BANDS}"
PRECISION_TEXT = (
    "Precision is the share of the images predicted as a class at some threshold that belong to it, recall the share "
    f"of the class that is predicted as it; the thin line is chance. {BANDS}"
)
MIN_IMAGES = 10  # Of a class, and of all others, for its curves.
Draw = Callable[[str, int, str, dict[str, Predictions]], Panel]


def roc_section(run: RunData) -> Section | None:
    """Return the ROC curves, a panel for each protocol and class."""
    return _section(run, "roc", "ROC by class", ROC_TEXT, _roc_panel)


def precision_section(run: RunData) -> Section | None:
    """Return the precision-recall curves, a panel for each protocol and class."""
    return _section(run, "precision", "Precision and recall by class", PRECISION_TEXT, _precision_panel)


def _section(run: RunData, name: str, title: str, text: str, draw: Draw) -> Section | None:
    classes = run.results["dataset"]["classes"]
    parts, inits = [], {}
    for protocol, of in iter_predictions(run):
        if protocol == "knn":
            continue
        inits |= of
        labels = next(iter(of.values())).labels
        if is_value(labels):
            continue
        counts, known = zip(*(_count_sides(labels, c) for c in range(len(classes))), strict=True)
        shown = find_commonest(np.array(counts))
        # With two classes, the curves of the first are the mirror image of those of the second.
        shown = shown[1:] if labels.ndim == 1 and len(classes) == 2 == len(shown) else shown
        drawn, few = _divide_by_size(shown, counts, known)
        panels = [draw(protocol, c, classes[c], of) for c in drawn]
        blocks: list[Block] = [Grid(panels, "square")] if panels else []
        blocks += [
            Text(f"{shorten(classes[c])} is not drawn: {size} images on one side; it takes {MIN_IMAGES}.")
            for c, size in few
        ]
        if blocks:
            parts += [Heading(protocol_name(protocol).capitalize()), *blocks]
    if not parts:
        return None
    return Section(name, title, [Text(text), init_legend(run.results, inits), *limit_note(classes), *parts])


def _count_sides(labels: np.ndarray, c: int) -> tuple[int, int]:
    """Return the images of a class, or with a label, and all of which that is known."""
    of = labels if labels.ndim == 1 else labels[:, c]
    return int((of == (c if labels.ndim == 1 else 1)).sum()), int((of >= 0).sum())


def _sides(p: Predictions, c: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return truth, score and group of the images in which a class, or a label, is known."""
    if p.labels.ndim == 1:
        return p.labels == c, p.probabilities[:, c], p.groups
    known = p.labels[:, c] >= 0
    return p.labels[known, c] == 1, p.probabilities[known, c], p.groups[known]


def _divide_by_size(
    shown: Sequence[int], counts: Sequence[int], known_of: Sequence[int]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the classes to draw, and (class, images on its smaller side) of those that are too small."""
    sizes = [(c, min(counts[c], known_of[c] - counts[c])) for c in shown]
    known = [(c, size) for c, size in sizes if size > 0]
    return [c for c, size in known if size >= MIN_IMAGES], [(c, size) for c, size in known if size < MIN_IMAGES]


def _roc_panel(protocol: str, c: int, name: str, of: dict[str, Predictions]) -> Panel:
    lines, areas = [], []
    for init, p in of.items():
        truth, scored, groups = _sides(p, c)
        curve = curves.roc(truth, scored, groups)
        lines.append(Line(init, curve.x, curve.y, (curves.GRID, curve.low, curve.high)))
        areas.append((init, format_number(float(roc_auc_score(truth, scored)))))
    label = clean_text(f"ROC of {shorten(name)}, {protocol}: AUC {speak_values(areas)}")
    return Panel(shorten(name), figures.draw_roc(f"roc-{protocol}-{c}", label, lines), _count(of, c), "AUC", areas)


def _precision_panel(protocol: str, c: int, name: str, of: dict[str, Predictions]) -> Panel:
    lines, areas = [], []
    for init, p in of.items():
        truth, scored, groups = _sides(p, c)
        curve = curves.precision_recall(truth, scored, groups)
        lines.append(Line(init, curve.x, curve.y, (curves.GRID, curve.low, curve.high)))
        areas.append((init, format_number(float(average_precision_score(truth, scored)))))
    share = float(_sides(next(iter(of.values())), c)[0].mean())
    label = clean_text(f"Precision and recall of {shorten(name)}, {protocol}: average precision {speak_values(areas)}")
    svg = figures.draw_precision_recall(f"precision-{protocol}-{c}", label, lines, share)
    return Panel(shorten(name), svg, _count(of, c), "average precision", areas)


def _count(of: dict[str, Predictions], c: int) -> str:
    count, known = _count_sides(next(iter(of.values())).labels, c)
    return f"{count:,} of {known:,} images"
