"""Learning curves of an arm, and how much its networks overfit: means over its runs."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxssl.evaluation import significance
from jaxssl.study.arms import Cell, Unit
from jaxssl.training import metrics

LOSSES = ("train_loss", "validation_loss")


def learning_curves(cells: Mapping[Unit, Cell]) -> dict[str, list[float]] | None:
    """Return the "learning" of an arm of compare.json; None unless each run has a log loss by epoch.

    Args:
      cells: the runs of the arm; epochs that not all of them have are left out.
    """
    curves = [_read_losses(cell) for cell in cells.values()]
    epochs = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    if not epochs:
        return None
    values = np.array([[curve[epoch] for epoch in epochs] for curve in curves]).mean(axis=0)
    return {"epochs": epochs} | {name: values[:, i].tolist() for i, name in enumerate(LOSSES)}


def _read_losses(cell: Cell) -> dict[int, tuple[float, ...]]:
    phase = cell.evaluation.get("phase")
    rows = metrics.read(cell.run.folder, phase) if phase else []
    return {
        row["epoch"]: tuple(row[name] for name in LOSSES) for row in rows if all(row.get(n) is not None for n in LOSSES)
    }


def mean_overfitting(cells: Mapping[Unit, Cell], ratio: float) -> dict[str, Any] | None:
    """Return the "overfitting" of an arm of compare.json; None unless each run has one.

    Args:
      cells: the runs of the arm.
      ratio: test over train images, as for `significance.corrected_t_test`.
    """
    found = [cell.evaluation.get("overfitting") for cell in cells.values()]
    known = [of for of in found if of]
    if not known or len(known) < len(found):
        return None
    gaps = np.array([of["validation_loss"] - of["train_loss"] for of in known])
    gap = significance.corrected_t_test(gaps, seeds=len({seed for seed, _ in cells}), test_to_train=ratio)
    means = {name: float(np.mean([of[name] for of in known])) for name in LOSSES}
    return means | {"gap": {"value": gap["mean"], "low": gap["low"], "high": gap["high"]}}
