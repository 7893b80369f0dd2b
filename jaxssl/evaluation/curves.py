"""ROC and precision-recall curves of one class, with bands by resampling the groups."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from jaxssl.evaluation import scores

GRID = np.linspace(0, 1, 51)  # Where bands are measured.
# Images x resamples; more images take fewer resamples, which leaves a band a little rougher.
MOST_WORK = 2 * 10**6


class Curve(NamedTuple):
    """`y` over `x`, and the 95 % band over `GRID`, pointwise; the band is NaN where no interval can be given."""

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray


def roc(truth: np.ndarray, scored: np.ndarray, groups: np.ndarray, *, seed: int = 0) -> Curve:
    """True positive rate over false positive rate.

    Args:
      truth: [N] bool, with both values in it.
      scored: [N] float, the higher the surer.
      groups: [N], which are resampled as a whole.
      seed: of the resamples.
    """
    x, y, _ = roc_curve(truth, scored)

    def at_grid(true: np.ndarray, false: np.ndarray) -> np.ndarray:
        if not (true[-1] and false[-1]):
            return np.full(len(GRID), np.nan)
        return np.interp(GRID, np.append(0, false) / false[-1], np.append(0, true) / true[-1])

    return Curve(x, y, *band(truth, scored, groups, at_grid, seed))


def precision_recall(truth: np.ndarray, scored: np.ndarray, groups: np.ndarray, *, seed: int = 0) -> Curve:
    """Precision over recall; arguments as for `roc`. At recall 0 the band is that of the surest images."""
    precision, recall, _ = precision_recall_curve(truth, scored)

    def at_grid(true: np.ndarray, false: np.ndarray) -> np.ndarray:
        if not true[-1]:
            return np.full(len(GRID), np.nan)
        # The surest images alone may be of groups that were not drawn.
        called = true + false > 0
        true, false = true[called], false[called]
        first = np.searchsorted(true / true[-1], GRID)
        return (true / (true + false))[np.minimum(first, len(true) - 1)]

    # Without scikit-learn's last point, a precision of 1 at a recall of 0, which no image has shown.
    return Curve(recall[:-1], precision[:-1], *band(truth, scored, groups, at_grid, seed))


def band(
    truth: np.ndarray,
    scored: np.ndarray,
    groups: np.ndarray,
    at_grid: Callable[[np.ndarray, np.ndarray], np.ndarray],
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Ends [G] of the interval at each point of the grid.

    `at_grid` takes how many true and false positives [T] there are at each threshold, the highest first.
    """
    names, group_of = scores.grouped(groups, len(truth))
    nothing = np.full(len(GRID), np.nan)
    if len(names) < 2:
        return nothing, nothing
    order = np.argsort(-scored, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scored[order]), 1) != 0)  # Of equal scores.
    truth, group_of = truth[order], group_of[order]
    drawn = []
    for weights in scores.resample(group_of, len(names), seed, int(np.clip(MOST_WORK // len(truth), 50, 400))):
        true, false = (np.cumsum(weights * of, axis=1)[:, last] for of in (truth, ~truth))
        drawn += [at_grid(*of) for of in zip(true, false, strict=True)]
    drawn = np.array([of for of in drawn if not np.isnan(of).any()])
    if not len(drawn):
        return nothing, nothing
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return low, high
