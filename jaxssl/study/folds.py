"""A cross-validation as one result: the predictions of all folds together, each image tested once."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxssl.evaluation import calibration, curves
from jaxssl.evaluation.evaluate import count_confusion
from jaxssl.evaluation.intervals import RunPredictions, TestImages, to_estimate
from jaxssl.evaluation.scores import is_value
from jaxssl.evaluation.tasks import Task
from jaxssl.study.arms import Cell, Unit


def pool_folds(cells: Mapping[Unit, Cell], images: TestImages, task: Task) -> dict[str, Any] | None:
    """Return the "out_of_fold" of an arm of compare.json; None unless all its runs are folds that share no image.

    Of each seed the folds are pooled; scores and ROC curves are means over seeds, counts are sums. A pooled AUC
    compares images of different folds, whose networks differ, and is lower than the mean over folds where their scores
    have another scale.

    Args:
      cells: the runs of the arm.
      images: the test images of all runs.
      task: what is predicted.
    """
    pooled = [_pool([c for c in cells.values() if c.seed == seed]) for seed in {seed: None for seed, _ in cells}]
    runs = [run for run in pooled if run is not None]
    if len(runs) < len(pooled):
        return None
    labels = [images.labels[run.rows] for run in runs]
    confusion, reliability = None, []
    if task.has_classes:
        size = runs[0].probabilities.shape[1]
        confusion = np.sum(
            [
                count_confusion(of, task.predicted(run.probabilities), size)
                for run, of in zip(runs, labels, strict=True)
            ],
            axis=0,
        ).tolist()
        reliability = calibration.reliability_bins(
            np.concatenate([run.probabilities for run in runs]), np.concatenate(labels)
        )
    columns = 0 if is_value(images.labels) else runs[0].probabilities.shape[1]
    return {
        "images": len(np.unique(np.concatenate([run.rows for run in runs]))),
        "seeds": len(runs),
        "metrics": {m: to_estimate(images.measure(m, runs)) for m in task.metrics if m != "f1_macro"},
        "confusion": confusion,
        "reliability": reliability,
        "roc": [_mean_roc(runs, labels, c) for c in range(columns)],
    }


def _pool(cells: list[Cell]) -> RunPredictions | None:
    rows = np.concatenate([cell.predictions.rows for cell in cells])
    if len(cells) < 2 or any(cell.fold is None for cell in cells) or len(np.unique(rows)) < len(rows):
        return None
    order = np.argsort(rows)
    return RunPredictions(rows[order], np.concatenate([cell.predictions.probabilities for cell in cells])[order])


def _mean_roc(runs: list[RunPredictions], labels: list[np.ndarray], c: int) -> list[float] | None:
    """Return the true positive rate of class c at the false positive rates of `curves.GRID`; None if undefined."""
    rates = []
    for run, of in zip(runs, labels, strict=True):
        known = of[:, c] >= 0 if of.ndim == 2 else of >= 0
        positive = (of[:, c] == 1 if of.ndim == 2 else of == c)[known]
        if not 0 < np.count_nonzero(positive) < len(positive):
            return None
        rates.append(curves.roc_on_grid(positive, run.probabilities[known, c]))
    return np.mean(rates, axis=0).tolist()
