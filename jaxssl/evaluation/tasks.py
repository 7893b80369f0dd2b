"""What is predicted: a class, several labels, an ordered class or a value, and what of an evaluation depends on it.

Predictions are [N, K] float: probabilities of the classes or labels, or [N, 1] values. Labels are those of
`jaxssl.data.source.Source`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxssl.data.source import UNLABELLED
from jaxssl.errors import UserError
from jaxssl.evaluation import calibration, knn

SMALLEST = 1e-12  # Probabilities are kept so far from 0 and 1 in log losses.


class Task(NamedTuple):
    """One task.

    Attributes:
      name: one of `jaxssl.data.source.TASKS`.
      metrics: scores of results.json, the primary one first.
      compared: those whose paired differences are tested.
      selectable: those that choose on validation, more being better; the first one by default.
      has_classes: whether each image has one class, so that there is a confusion matrix and a majority class.
      losses: (predictions, labels) -> [N], by which overfitting is measured.
      knn: (training features, labels, features, number of classes) -> predictions.
      predicted: predictions -> what each image is predicted as, an array of N rows.
    """

    name: str
    metrics: tuple[str, ...]
    compared: tuple[str, ...]
    selectable: tuple[str, ...]
    has_classes: bool
    losses: Callable[[np.ndarray, np.ndarray], np.ndarray]
    knn: Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]
    predicted: Callable[[np.ndarray], np.ndarray]


def binary_log_losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the mean -log p [N] nats over the labels [N, C] that are known of each image; 0 where none is."""
    p = np.clip(np.asarray(probabilities, np.float64), SMALLEST, 1 - SMALLEST)
    nats = -np.where(labels == 1, np.log(p), np.log1p(-p))
    known = labels != UNLABELLED
    return np.where(known, nats, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)


def squared_errors(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the squared error [N] of values [N, 1] for labels [N]."""
    return (predictions[:, 0].astype(np.float64) - labels) ** 2


def _knn_classes(train: np.ndarray, labels: np.ndarray, features: np.ndarray, classes: int) -> np.ndarray:
    return knn.predict_proba(train, labels, features, classes=classes)


def _knn_labels(train: np.ndarray, labels: np.ndarray, features: np.ndarray, classes: int) -> np.ndarray:
    del classes
    return knn.predict(train, np.where(labels == UNLABELLED, np.nan, labels), features)


def _knn_values(train: np.ndarray, labels: np.ndarray, features: np.ndarray, classes: int) -> np.ndarray:
    del classes
    return knn.predict(train, labels[:, None].astype(np.float64), features)


_CLASS_METRICS = ("auc_macro", "accuracy", "balanced_accuracy", "f1_macro")
_SINGLE = Task(
    name="single",
    metrics=_CLASS_METRICS,
    compared=("auc_macro", "accuracy", "balanced_accuracy"),
    selectable=_CLASS_METRICS,
    has_classes=True,
    losses=calibration.log_losses,
    knn=_knn_classes,
    predicted=lambda p: p.argmax(axis=1),
)
_ORDINAL = _SINGLE._replace(
    name="ordinal",
    metrics=(*_CLASS_METRICS, "quadratic_kappa", "mae"),
    compared=(*_SINGLE.compared, "mae"),
    selectable=(*_CLASS_METRICS, "quadratic_kappa"),
)
_MULTI = Task(
    name="multi",
    metrics=("auc_macro", "average_precision"),
    compared=("auc_macro",),
    selectable=("auc_macro", "average_precision"),
    has_classes=False,
    losses=binary_log_losses,
    knn=_knn_labels,
    predicted=lambda p: p > 0.5,
)
_VALUE = Task(
    name="value",
    metrics=("mae", "r2", "spearman"),
    compared=("mae", "r2"),
    selectable=("r2", "spearman"),
    has_classes=False,
    losses=squared_errors,
    knn=_knn_values,
    predicted=lambda values: values,
)
# Of evaluations of masks in a study, whose labels are 0: what is scored is the Dice and the IoU of each image.
_MASKS = _VALUE._replace(name="masks", metrics=("dice", "iou"), compared=("dice", "iou"), selectable=())
TASKS = {task.name: task for task in (_SINGLE, _ORDINAL, _MULTI, _VALUE, _MASKS)}
SELECTABLE = tuple(dict.fromkeys(metric for task in TASKS.values() for metric in task.selectable))


def selection_metric(task: Task, select: str) -> str:
    """Return the score that chooses on validation: `transfer.select`, or the task's own for "auto".

    Raises:
      UserError: the task does not have this score.
    """
    if select == "auto":
        return task.selectable[0]
    if select not in task.selectable:
        raise UserError(
            f"transfer.select={select!r} is no score of the task {task.name!r}: choose {', '.join(task.selectable)}, "
            "or 'auto'",
            code="conflict",
            field="transfer.select",
        )
    return select
