"""ROC and precision-recall curves of one class, with pointwise bootstrap bands over the groups."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from jaxssl.evaluation import scores

GRID = np.linspace(0, 1, 51)  # Values of x at which the band is computed.
# Images x resamples. With more images fewer resamples are drawn, which leaves the band slightly rougher.
MAX_WORK = 2 * 10**6


class Curve(NamedTuple):
    """A curve with its 95 % band.

    Attributes:
      x: [T] float, recall or false positive rate.
      y: [T] float, precision or true positive rate.
      low: [G] float, lower end of the pointwise band over `GRID`; NaN where no interval can be given.
      high: [G] float, upper end.
    """

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray


def roc(truth: np.ndarray, score: np.ndarray, groups: np.ndarray, *, seed: int = 0) -> Curve:
    """Compute the ROC curve: true positive rate over false positive rate.

    Args:
      truth: [N] bool, with both values in it.
      score: [N] float, higher for more certainly positive.
      groups: [N], resampled as a whole.
      seed: seed of the resamples.
    """
    x, y, _ = roc_curve(truth, score)

    def at_grid(true: np.ndarray, false: np.ndarray) -> np.ndarray:
        if not (true[-1] and false[-1]):
            return np.full(len(GRID), np.nan)
        return np.interp(GRID, np.append(0, false) / false[-1], np.append(0, true) / true[-1])

    return Curve(x, y, *_bootstrap_band(truth, score, groups, at_grid, seed))


def roc_on_grid(truth: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return the true positive rate [G] at the false positive rates of `GRID`; arguments as for `roc`."""
    false, true, _ = roc_curve(truth, score)
    return np.interp(GRID, false, true)


def precision_recall(truth: np.ndarray, score: np.ndarray, groups: np.ndarray, *, seed: int = 0) -> Curve:
    """Compute precision over recall; arguments as for `roc`. At recall 0 the band is that of the highest scores."""
    precision, recall, _ = precision_recall_curve(truth, score)

    def at_grid(true: np.ndarray, false: np.ndarray) -> np.ndarray:
        if not true[-1]:
            return np.full(len(GRID), np.nan)
        # No image with one of the highest scores may be in this resample.
        predicted = true + false > 0
        true, false = true[predicted], false[predicted]
        first = np.searchsorted(true / true[-1], GRID)
        return (true / (true + false))[np.minimum(first, len(true) - 1)]

    # Without scikit-learn's last point (precision 1 at recall 0), which no image has shown.
    return Curve(recall[:-1], precision[:-1], *_bootstrap_band(truth, score, groups, at_grid, seed))


def _bootstrap_band(
    truth: np.ndarray,
    score: np.ndarray,
    groups: np.ndarray,
    at_grid: Callable[[np.ndarray, np.ndarray], np.ndarray],
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends [G], [G] of the percentile interval at each point of the grid.

    `at_grid` takes the numbers of true and false positives [T] at each threshold, highest threshold first.
    """
    names, group_of = scores.group_indices(groups, len(truth))
    undefined = np.full(len(GRID), np.nan)
    if len(names) < 2:
        return undefined, undefined
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.append(np.diff(score[order]), 1) != 0)  # The last image of each tie.
    truth, group_of = truth[order], group_of[order]
    drawn = []
    resamples = int(np.clip(MAX_WORK // len(truth), 50, 400))
    for weights in scores.bootstrap_weights(group_of, len(names), seed, resamples):
        true, false = (np.cumsum(weights * positive, axis=1)[:, last] for positive in (truth, ~truth))
        drawn += [at_grid(*counts) for counts in zip(true, false, strict=True)]
    drawn = np.array([curve for curve in drawn if not np.isnan(curve).any()])
    if not len(drawn):
        return undefined, undefined
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return low, high
