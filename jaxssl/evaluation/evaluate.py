"""Scores of predictions, and differences between two, with intervals over groups: plain JSON values."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxssl.evaluation import scores
from jaxssl.evaluation.intervals import Compared, RunPredictions, TestImages, to_estimate

BIASED = "its estimate is biased upwards by an unknown amount"


def evaluate(
    probabilities: np.ndarray,
    labels: np.ndarray,
    groups: Sequence | np.ndarray,
    *,
    calibrated: np.ndarray | None = None,
) -> dict[str, Any]:
    """Score predictions, with 95 % intervals over groups.

    An interval describes how the score of this model would vary with the test images; images of one patient are not
    independent, so that groups count. It does not include the variation between training seeds.

    Args:
      probabilities: [N, C] float, rows sum to 1.
      labels: [N] int in [0, C).
      groups: [N] str, the patient, lesion or series of each image.
      calibrated: [N, C] float, the calibrated probabilities, whose `ece` is added as "ece_calibrated".

    Returns:
      The fields of an evaluation in `results.json` that come from predictions: `images`, `metrics` as
      `{name: {"value", "low", "high"}}` with "without", the reason, where an interval lacks, `majority_accuracy` (of
      always predicting the most frequent of `labels`), `constant_predictor` (one class predicted for every image),
      `confusion` (rows true, columns predicted), `groups_by_class`. Undefined values are None.

    Raises:
      ValueError: if the shapes disagree, a label is outside [0, C), or a row does not sum to 1.
      TrainingFailedError: if a probability is not finite.
    """
    probabilities, labels = scores.check_predictions(probabilities, labels)
    images = TestImages(labels, groups)
    classes, rows = probabilities.shape[1], np.arange(len(labels))
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (labels, predicted), 1)
    metrics = {
        name: to_estimate(images.measure(name, [RunPredictions(rows, probabilities)] if len(rows) else []))
        for name in scores.METRICS
        if name != "ece"
    }
    for name, of in {"ece": probabilities, "ece_calibrated": calibrated}.items():
        if of is not None:
            value = scores.ece(of, labels)
            metrics[name] = {"value": value, "low": None, "high": None, "without": BIASED}
    groups_by_class = images.groups_by_class(rows)
    return {
        "images": len(labels),
        "metrics": metrics,
        "majority_accuracy": float(confusion.sum(axis=1).max() / len(labels)) if len(labels) else None,
        "constant_predictor": bool(len(np.unique(predicted)) == 1),
        "confusion": confusion.tolist(),
        "groups_by_class": [groups_by_class.get(c, 0) for c in range(classes)],
    }


def paired_difference(
    a: np.ndarray, b: np.ndarray, labels: np.ndarray, groups: Sequence | np.ndarray, metric: str
) -> dict[str, Any]:
    """Return score(a) - score(b) on the same images, with its 95 % interval over groups and its p-value.

    Both are scored on the same groups, so that what makes it hard for both cancels: the interval of the difference is
    narrower than a comparison of two intervals. It does not include the variation between training seeds.

    Args:
      a: [N, C] float, rows sum to 1.
      b: [N, C] float of the same images in the same order.
      labels: [N] int in [0, C).
      groups: [N] str, the patient, lesion or series of each image.
      metric: "auc_macro", "accuracy" or "balanced_accuracy".

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
    return to_difference(TestImages(labels, groups).compare(metric, first, second))


def to_difference(of: Compared) -> dict[str, Any]:
    """Return a difference as in results.json."""
    return to_estimate(of) | {"p": of.p, "detectable": of.detectable}
