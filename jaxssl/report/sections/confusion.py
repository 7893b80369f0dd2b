"""Confusion matrices."""

from collections.abc import Sequence

import numpy as np

from jaxssl.report.blocks import Confusion, Grid, Section, Text
from jaxssl.report.run_data import RunData
from jaxssl.report.sections.common import find_commonest, limit_note
from jaxssl.results.schema import Evaluation, Results
from jaxssl.results.words import MAX_CLASSES, PROTOCOL_NAMES, init_name, protocol_name, shorten_list

TEXT = "Rows are the true class, columns the predicted one, and cells count images. The shade is the share of the row."


def section(run: RunData) -> Section | None:
    """Return the confusion matrix of each evaluation by probing or fine-tuning."""
    shown = [e for e in run.results["evaluations"] if e["protocol"] != "knn" and e.get("confusion") and e["images"]]
    order = list(PROTOCOL_NAMES)
    shown.sort(key=lambda e: order.index(e["protocol"]) if e["protocol"] in order else len(order))
    if not shown:
        return None
    blocks = [Text(TEXT), *limit_note(run.results["dataset"]["classes"])]
    return Section("confusion", "Confusion", [*blocks, Grid([confusion_matrix(run.results, e) for e in shown], "wide")])


def confusion_matrix(results: Results, e: Evaluation) -> Confusion:
    """Return the confusion matrix of one evaluation, with rare classes pooled."""
    counts, classes = pool_rare_classes(np.array(e["confusion"]), results["dataset"]["classes"])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    name = f"{protocol_name(e['protocol']).capitalize()}, {init_name(e['init'], results)}"
    return Confusion(f"Confusion, {name}", name, e["init"], classes, counts.tolist(), shares.tolist())


def pool_rare_classes(counts: np.ndarray, classes: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Return a confusion matrix and its classes, with all but the most frequent ones in the last row and column."""
    if len(classes) <= MAX_CLASSES:
        return counts, shorten_list(classes)
    shown = find_commonest(counts.sum(axis=1))
    most = np.array(shown, int)
    rest = np.setdiff1d(np.arange(len(classes)), most)
    counts = np.block(
        [
            [counts[np.ix_(most, most)], counts[np.ix_(most, rest)].sum(axis=1, keepdims=True)],
            [counts[np.ix_(rest, most)].sum(axis=0, keepdims=True), counts[np.ix_(rest, rest)].sum(keepdims=True)],
        ]
    )
    return counts, [*shorten_list([classes[c] for c in shown]), f"{len(rest)} others"]
