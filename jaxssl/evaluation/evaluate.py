"""Scores of predictions, and differences between two, with intervals over groups: plain JSON values."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxssl.evaluation import scores
from jaxssl.evaluation import tasks as kinds
from jaxssl.evaluation.intervals import RunPredictions, TestImages, to_estimate

BIASED = "its estimate is biased upwards by an unknown amount"


def evaluate(
    probabilities: np.ndarray,
    labels: np.ndarray,
    groups: Sequence | np.ndarray,
    *,
    calibrated: np.ndarray | None = None,
    task: str = "single",
) -> dict[str, Any]:
    """Score predictions, with 95 % intervals over groups.

    An interval describes how the score of this model would vary with the test images; images of one patient are not
    independent, so that groups count. It does not include the variation between training seeds.

    Args:
      probabilities: [N, C] float; where each image has one class, rows sum to 1. Of values [N, 1].
      labels: [N] int in [0, C), or as `scores.check_predictions` has them.
      groups: [N] str, the patient, lesion or series of each image.
      calibrated: [N, C] float, the calibrated probabilities, whose `ece` is added as "ece_calibrated".
      task: one of `tasks.TASKS`.

    Returns:
      The fields of an evaluation in `results.json` that come from predictions: `images`, `metrics` as
      `{name: {"value", "low", "high"}}` with "without", the reason, where an interval lacks, `majority_accuracy` (of
      always predicting the most frequent of `labels`), `constant_predictor` (the same predicted for every image),
      `confusion` (rows true, columns predicted), `groups_by_class`, `by_label` and `by_group`. Undefined values are
      None, and so are majority and confusion where images have no single class.

    Raises:
      ValueError: if the shapes disagree, a label is outside [0, C), or a row does not sum to 1.
      TrainingFailedError: if a probability is not finite.
    """
    of_task = kinds.TASKS[task]
    probabilities, labels = scores.check_predictions(probabilities, labels)
    images, rows = TestImages(labels, groups), np.arange(len(labels))
    predicted = of_task.predicted(probabilities)
    metrics = _measure(of_task, images, probabilities)
    for name, of in {"ece": probabilities, "ece_calibrated": calibrated}.items():
        if of is not None and of_task.has_classes:
            value = scores.compute("ece", of, labels)
            metrics[name] = {"value": value, "low": None, "high": None, "without": BIASED}
    groups_by_class = images.groups_by_class(rows)
    confusion = count_confusion(labels, predicted, probabilities.shape[1]) if of_task.has_classes else None
    majority = None if confusion is None or not len(labels) else float(confusion.sum(axis=1).max() / len(labels))
    return {
        "images": len(labels),
        "metrics": metrics,
        "majority_accuracy": majority,
        "constant_predictor": bool(len(labels) and (predicted == predicted[:1]).all()),
        "confusion": None if confusion is None else confusion.tolist(),
        "groups_by_class": []
        if task == "value"
        else [groups_by_class.get(c, 0) for c in range(probabilities.shape[1])],
        "by_label": _score_labels(images, probabilities) if labels.ndim == 2 else [],
        "by_group": _score_groups(of_task, images, probabilities),
    }


def _measure(task: kinds.Task, images: TestImages, probabilities: np.ndarray) -> dict[str, Any]:
    runs = [RunPredictions(np.arange(len(probabilities)), probabilities)] if len(probabilities) else []
    return {name: to_estimate(images.measure(name, runs)) for name in task.metrics}


def count_confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return the images by true class (row) and predicted class (column)."""
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (labels, predicted), 1)
    return confusion


def _score_labels(images: TestImages, probabilities: np.ndarray) -> list[dict[str, Any]]:
    """Return the scores of each of several labels, on the images in which it is known."""
    found = []
    for c in range(probabilities.shape[1]):
        known = np.flatnonzero(images.labels[:, c] >= 0)
        one = TestImages(images.labels[known][:, [c]], images.groups[known])
        metrics = _measure(kinds.TASKS["multi"], one, probabilities[known][:, [c]])
        found.append({"images": len(known), "positives": int((one.labels == 1).sum()), "metrics": metrics})
    return found


def _score_groups(task: kinds.Task, images: TestImages, probabilities: np.ndarray) -> dict[str, Any] | None:
    """Score the mean prediction of each group, such as the slices of a volume.

    None where no group has several images, or where the images of one have different labels.
    """
    labels, _, first = images.labels, *np.unique(images.groups, return_index=True)
    if len(first) == len(labels) or (labels != labels[first[images.groups]]).any():
        return None
    sums = np.zeros((len(first), probabilities.shape[1]))
    np.add.at(sums, images.groups, probabilities)
    means = sums / np.bincount(images.groups)[:, None]
    return {"groups": len(first), "metrics": _measure(task, TestImages(labels[first], np.arange(len(first))), means)}


def paired_difference(
    a: np.ndarray, b: np.ndarray, labels: np.ndarray, groups: Sequence | np.ndarray, metric: str
) -> dict[str, Any]:
    """Return score(a) - score(b) on the same images, with its 95 % interval over groups and its p-value.

    Both are scored on the same groups, so that what makes it hard for both cancels: the interval of the difference is
    narrower than a comparison of two intervals. It does not include the variation between training seeds.

    Args:
      a: [N, C] float, predictions as for `evaluate`.
      b: [N, C] float of the same images in the same order.
      labels: as for `evaluate`.
      groups: [N] str, the patient, lesion or series of each image.
      metric: one of the `compared` of the task.

    Returns:
      {"value", "low", "high", "p", "detectable"}, as in `intervals.Compared`, with "without" where an interval lacks;
      None where undefined.

    Raises:
      ValueError: if the shapes disagree, a label is outside [0, C), or a row does not sum to 1.
      TrainingFailedError: if a probability is not finite.
    """
    if np.shape(a) != np.shape(b):
        raise ValueError(f"a and b must be of the same images and classes, not {np.shape(a)} and {np.shape(b)}")
    checked = [scores.check_predictions(of, labels)[0] for of in (a, b)]
    rows = np.arange(len(labels))
    first, second = ([RunPredictions(rows, of)] if len(rows) else [] for of in checked)
    compared = TestImages(labels, groups).compare(metric, first, second)
    return to_estimate(compared) | {"p": compared.p, "detectable": compared.detectable}
