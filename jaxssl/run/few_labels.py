"""Choices without labelled validation images: cross-validation of the few training labels, by group."""

import itertools
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from jaxssl.evaluation import probe, scores, tasks
from jaxssl.run.finetuning import Task, train_once
from jaxssl.run.setup import Setup
from jaxssl.training import distributed

Tree = Any
Predict = Callable[[dict[str, Tree], np.ndarray], np.ndarray]  # (network, rows) -> predictions [N, classes]

MAX_FOLDS = 5


class Choice(NamedTuple):
    """What cross-validation chose.

    Attributes:
      value: the setting.
      score: its score on the predictions of all held-out parts; -inf where it is undefined.
      held_out: predictions of each labelled image by a model that has not seen its group; None where there are none.
    """

    value: float
    score: float
    held_out: np.ndarray | None


def make_folds(setup: Setup) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return positions among the labelled images to train on and to hold out, by group and as far as possible by class.

    [] where a class has images of a single group.
    """
    labels, groups = setup.source.labels[setup.labelled], setup.source.groups[setup.labelled]
    if setup.source.task in ("multi", "value"):
        count, splitter = len(np.unique(groups)), GroupKFold
    else:
        count = min(len(np.unique(groups[labels == c])) for c in np.unique(labels))
        splitter = StratifiedGroupKFold
    if count < 2:
        return []
    folds = splitter(min(count, MAX_FOLDS), shuffle=True, random_state=setup.config.seed)
    return list(folds.split(np.zeros(len(labels)), labels if labels.ndim == 1 else None, groups))


def choose(
    setup: Setup, values: tuple[float, ...], otherwise: float, metric: str, predict: Callable[..., np.ndarray]
) -> Choice:
    """Return the value that is best by cross-validation; of equal ones the first.

    Args:
      setup: of the run.
      values: to choose from.
      otherwise: value where the labels are too few for a cross-validation.
      metric: one of `scores.SELECTABLE`.
      predict: (value, positions to train on, positions to predict) -> predictions of these.
    """
    labels, folds = setup.source.labels[setup.labelled], make_folds(setup)
    best = Choice(otherwise, -np.inf, None)
    for value in values if folds else ():
        parts = [predict(value, train, held) for train, held in folds]
        held_out = np.empty((len(labels), *parts[0].shape[1:]), parts[0].dtype)
        for (_, held), part in zip(folds, parts, strict=True):
            held_out[held] = part
        score = scores.selection_score(held_out, labels, metric)
        if best.held_out is None or score > best.score:
            best = Choice(value, score, held_out)
    return best


def choose_rate(setup: Setup, name: str, task: Task, variables: Tree, predict: Predict) -> Choice:
    """Choose the learning rate of a fine-tuning; each rate and fold is a training phase, its checkpoint deleted."""
    numbers = itertools.count(1)

    def predict_held_out(rate: float, rows: np.ndarray, held: np.ndarray) -> np.ndarray:
        phase = f"{name}_cv{next(numbers)}"
        network = train_once(setup, phase, rate, task._replace(rows=setup.labelled[rows]), variables)
        predicted = predict(network, setup.labelled[held])
        distributed.from_main(lambda: shutil.rmtree(setup.workdir / "checkpoints" / phase, ignore_errors=True))
        return predicted

    rates = setup.config.transfer.learning_rates
    metric = tasks.selection_metric(tasks.TASKS[setup.source.task], setup.config.transfer.select)
    return choose(setup, rates, rates[0], metric, predict_held_out)


def fit_probe(setup: Setup, features: np.ndarray, metric: str) -> tuple[probe.Probe, np.ndarray | None]:
    """Fit the probe to all labels, with the C that is best by cross-validation.

    Returns:
      The probe, and the held-out predictions of the labelled images; None where there are none.
    """
    labels, classes = setup.source.labels[setup.labelled], len(setup.source.classes)
    balanced = setup.config.transfer.class_weights == "balanced"

    def fit(C: float, rows: np.ndarray) -> probe.Probe:
        part = features[rows], labels[rows]
        return probe.fit(*part, *part, classes=classes, metric=metric, Cs=[C], balanced=balanced)

    def predict(C: float, train: np.ndarray, held: np.ndarray) -> np.ndarray:
        return probe.predict_proba(fit(C, train), features[held])

    chosen = choose(setup, probe.C_GRID, probe.DEFAULT_C, metric, predict)
    return fit(chosen.value, np.arange(len(labels)))._replace(validation=chosen.score), chosen.held_out
