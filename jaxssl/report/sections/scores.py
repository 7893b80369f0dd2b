"""Scores on the test images, by protocol and initialization."""

import numpy as np

from jaxssl.report.blocks import Body, Cell, Row, Section, Table, Text, cells
from jaxssl.report.run_data import RunData
from jaxssl.report.sections.common import bodies_by_protocol, estimate_cell, init_cell
from jaxssl.results.run_conclusions import CHANCE_AUC
from jaxssl.results.schema import Evaluation
from jaxssl.results.words import (
    METRIC_NAMES,
    UNDEFINED,
    count_common_digits,
    describe_test_images,
    format_number,
    get_score,
)


def section(run: RunData) -> Section:
    """Return the table of scores, or why there is none."""
    results = run.results
    evaluations, title = results["evaluations"], "Scores on the test images"
    if not evaluations:
        why = "no evaluation was asked for" if results["dataset"]["classes"] else "the images have no labels"
        return Section("scores", title, [Text(f"There are none: {why}.")], folded=False)

    digits = {m: count_common_digits(get_score(e, m) for e in evaluations) for m in METRIC_NAMES}

    def row(e: Evaluation) -> Row:
        name = init_cell(e, results, "always one class" if e["constant_predictor"] else "")
        return Row(name, [estimate_cell(get_score(e, metric), digits[metric]) for metric in METRIC_NAMES])

    constant = Row(Cell("always the most frequent class"), cells(*majority_scores(evaluations[0])))
    bodies = [*bodies_by_protocol(evaluations, row), Body("Majority class", [constant])]
    labels = evaluations[0]["label_fraction"]
    share = "" if labels == 1 else f" Transfer uses the labels of {100 * labels:.3g} % of the training groups."
    caption = (
        f"{describe_test_images(results)}, with 95 % intervals. Fine-tuning from random weights is supervised training "
        f"alone.{share}"
    )
    table = Table("Scores", caption, ["Initialization", *METRIC_NAMES.values()], bodies, "scores")
    return Section("scores", title, [table], folded=False)


def majority_scores(e: Evaluation) -> list[str]:
    """Return the scores, one per metric, of always predicting the most frequent class; "" where that says nothing."""
    present = np.count_nonzero(np.array(e["confusion"]).sum(axis=1))
    known = {
        "auc_macro": format_number(CHANCE_AUC) if present > 1 else UNDEFINED,
        "accuracy": format_number(e["majority_accuracy"]),
        "balanced_accuracy": format_number(1 / present) if present else UNDEFINED,
    }
    return [known.get(metric, "") for metric in METRIC_NAMES]
