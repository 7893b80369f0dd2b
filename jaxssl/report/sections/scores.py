"""Scores on the test images, by protocol and initialization."""

from collections.abc import Sequence
from typing import cast

import numpy as np

from jaxssl.report.blocks import Body, Cell, Row, Section, Table, Text, cells
from jaxssl.report.run_data import RunData
from jaxssl.report.sections.common import bodies_by_protocol, estimate_cell, init_cell
from jaxssl.results.schema import Evaluation
from jaxssl.results.words import (
    CHANCE,
    METRIC_NAMES,
    UNDEFINED,
    count_common_digits,
    describe_test_images,
    format_number,
    get_score,
    group_by_metric,
    predicted_noun,
    shown_metrics,
)


def section(run: RunData) -> Section:
    """Return the table of scores, or why there is none."""
    results = run.results
    evaluations, title = results["evaluations"], "Scores on the test images"
    if not evaluations:
        why = "no evaluation was asked for" if results["dataset"]["classes"] else "the images have no labels"
        return Section("scores", title, [Text(f"There are none: {why}.")], folded=False)

    tables = [_make_table(run, of) for of in group_by_metric(evaluations).values()]
    return Section("scores", title, [*tables, *by_group(run)], folded=False)


def _make_table(run: RunData, evaluations: Sequence[Evaluation]) -> Table:
    results, metrics = run.results, shown_metrics(evaluations)
    digits = {m: count_common_digits(get_score(e, m) for e in evaluations) for m in metrics}

    def row(e: Evaluation) -> Row:
        name = init_cell(e, results, f"always one {predicted_noun(results)}" if e["constant_predictor"] else "")
        return Row(name, [estimate_cell(get_score(e, metric), digits[metric]) for metric in metrics])

    title_constant, name, constant = constant_scores(evaluations[0], digits.get("mae", 3))
    row_constant = Row(Cell(name), cells(*(constant.get(metric, "") for metric in metrics)))
    bodies = [*bodies_by_protocol(evaluations, row), *([Body(title_constant, [row_constant])] if constant else [])]
    labels = evaluations[0]["label_fraction"]
    share = "" if labels == 1 else f" Training uses the labels of {100 * labels:.3g} % of the training groups."
    caption = f"{describe_test_images(results)}, with 95 % intervals. Random weights: training by labels alone.{share}"
    head = ["Initialization", *(METRIC_NAMES[metric] for metric in metrics)]
    return Table(f"Scores, {METRIC_NAMES[metrics[0]]}", caption, head, bodies, "scores")


def constant_scores(e: Evaluation, digits: int) -> tuple[str, str, dict[str, str]]:
    """Return title, name and scores of always predicting the same; scores that say nothing are left out."""
    if "constant_mae" in e:
        scores = {"mae": format_number(e["constant_mae"], digits), "r2": "0 at most"}
        return "One value", "always the median of the training images", scores
    if background := e.get("all_background"):
        scores = {metric: format_number(value) for metric, value in background.items()}
        return "Background", "no pixel of any class", scores
    if e.get("confusion") is None:
        return "Chance", "the same for all images", {"auc_macro": format_number(CHANCE["auc_macro"])}
    present = np.count_nonzero(np.array(e["confusion"]).sum(axis=1))
    scores = {
        "auc_macro": format_number(CHANCE["auc_macro"]) if present > 1 else UNDEFINED,
        "accuracy": format_number(e["majority_accuracy"]),
        "balanced_accuracy": format_number(1 / present) if present else UNDEFINED,
    }
    return "Majority class", "always the most frequent class", scores


def by_group(run: RunData) -> list[Table]:
    """Return the scores of the mean predictions of groups, [] where no group has several test images."""
    shown = [(e, of) for e in run.results["evaluations"] if (of := e.get("by_group"))]
    if not shown:
        return []
    found = {e["name"]: {**e, "metrics": of["metrics"]} for e, of in shown}
    metrics = shown_metrics([cast(Evaluation, e) for e in found.values()])

    def row(e: Evaluation) -> Row:
        of = cast(Evaluation, found[e["name"]])
        return Row(init_cell(e, run.results), [estimate_cell(get_score(of, metric)) for metric in metrics])

    caption = f"The mean prediction of each of {shown[0][1]['groups']:,} groups, with 95 % intervals over groups."
    head = ["Initialization", *(METRIC_NAMES[metric] for metric in metrics)]
    return [Table("Scores by group", caption, head, bodies_by_protocol([e for e, _ in shown], row), "scores")]
