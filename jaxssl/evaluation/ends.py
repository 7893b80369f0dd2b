"""Ends of 95 % intervals of scores and of differences, from their variances over groups; see `intervals`."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import optimize, special, stats

from jaxssl.evaluation.influence import Variance
from jaxssl.evaluation.significance import ALPHA

_EDGE = 1e-9
# Range, scale of the interval and back, and the derivative of the scale.
TRANSFORMS: dict[str, tuple[tuple[float, float], Callable, Callable, Callable]] = {
    **dict.fromkeys(
        ("average_precision", "dice", "iou"),
        ((0.0, 1.0), special.logit, special.expit, lambda p: 1 / (p * (1 - p))),
    ),
    "spearman": ((-1.0, 1.0), np.arctanh, np.tanh, lambda r: 1 / (1 - r * r)),
    "quadratic_kappa": ((-1.0, 1.0), np.arctanh, np.tanh, lambda r: 1 / (1 - r * r)),
    "mae": ((0.0, math.inf), float, float, lambda x: 1.0),
    "r2": ((-math.inf, 1.0), float, float, lambda x: 1.0),
}

Ends = tuple[float, float]


def proportion_interval(value: float, images: int, variance: Variance | None = None, units: int = 0) -> Ends:
    """Return the interval of Clopper and Pearson of a proportion, with the effective number of images.

    Args:
      value: the proportion, in [0, 1].
      images: number of images.
      variance: of `value`; None for independent images.
      units: number of independent units, which counts where the variance is 0.
    """
    size = float(images)
    if variance is not None:
        spread = value * (1 - value)
        size = min(size, spread / variance.value) if variance.value > 0 and spread > 0 else float(min(images, units))
        if images > 1 and variance.df > 2:
            # Few groups tell the variance badly, and its inverse is too large by df / (df - 2) in the mean.
            size *= (t_quantile(images - 1) / t_quantile(variance.df)) ** 2 * (variance.df - 2) / variance.df
    hits = value * size
    low = float(stats.beta.ppf(ALPHA / 2, hits, size - hits + 1)) if hits > 0 else 0.0
    high = float(stats.beta.ppf(1 - ALPHA / 2, hits + 1, size - hits)) if size - hits > 0 else 1.0
    return min(low, value), max(high, value)


def auc_interval(value: float, variance: Variance, images: Sequence[tuple[int, int]], group_size: float) -> Ends:
    """Return the interval of a (macro) AUC: the hull of the score interval and, where defined, of that of the logit.

    Args:
      value: the AUC, or the mean of the one-vs-rest AUCs.
      variance: of `value`.
      images: numbers of positive and negative images, for each AUC of the mean.
      group_size: images per group, by which the variance is enlarged where it cannot be estimated.
    """

    def expected(auc: float) -> float:
        return sum(_hanley_mcneil(auc, *counts) for counts in images) / len(images) ** 2

    inside = 0 < value < 1 and variance.value > 0
    excess = max(1.0, variance.value / expected(value) if inside else group_size)
    quantile = t_quantile(variance.df) if excess > 1 else t_quantile(math.inf)

    def distance(auc: float) -> float:
        return abs(auc - value) - quantile * math.sqrt(excess * expected(auc))

    # At 0 and 1 the expected variance is 0, which solves the equation without meaning anything.
    low = _root(distance, 0.0, min(value, 1 - _EDGE)) if value > 0 else 0.0
    high = _root(distance, max(value, _EDGE), 1.0) if value < 1 else 1.0
    if inside:
        logit = math.log(value / (1 - value))
        half = t_quantile(variance.df) * math.sqrt(variance.value) / (value * (1 - value))
        low = min(low, float(special.expit(logit - half)))
        high = max(high, float(special.expit(logit + half)))
    return low, high


def transformed_interval(metric: str, value: float, variance: Variance, units: int) -> Ends:
    """Return the t interval of a score on the scale of its metric in `TRANSFORMS`.

    Without variance it is that of Clopper and Pearson for a proportion of so many units, where the score has a range.
    """
    (low, high), to_scale, from_scale, slope = TRANSFORMS[metric]
    half = t_quantile(variance.df) * math.sqrt(variance.value)
    if math.isfinite(low + high) and not (half > 0 and low < value < high):
        ends = proportion_interval((value - low) / (high - low), units)
        return ends[0] * (high - low) + low, ends[1] * (high - low) + low
    at, half = to_scale(value), half * slope(value)
    return max(low, float(from_scale(at - half))), min(high, float(from_scale(at + half)))


def difference_interval(
    values: tuple[float, float],
    ends: tuple[Ends, Ends],
    variances: Sequence[Variance],
    spread: Variance,
    bound: float = 1.0,
) -> Ends:
    """Return the interval of a difference: the hull of the t interval and of that made of two intervals.

    Args:
      values: of `a` and `b`.
      ends: their intervals.
      variances: their variances.
      spread: variance of the difference.
      bound: the largest possible difference.
    """
    (a, b), ((low_a, high_a), (low_b, high_b)) = values, ends
    both = variances[0].value * variances[1].value
    shared = (variances[0].value + variances[1].value - spread.value) / 2
    correlation = min(1.0, max(-1.0, shared / math.sqrt(both))) if both > 0 else 0.0
    half = t_quantile(spread.df) * math.sqrt(spread.value)
    value = a - b
    low = value - _combine(a - low_a, high_b - b, correlation)
    high = value + _combine(high_a - a, b - low_b, correlation)
    return max(-bound, min(low, value - half)), min(bound, max(high, value + half))


def t_quantile(df: float) -> float:
    """Return the quantile of t by which the standard error is multiplied."""
    return float(stats.t.ppf(1 - ALPHA / 2, df))


def _combine(x: float, y: float, correlation: float) -> float:
    return math.sqrt(max(0.0, x * x + y * y - 2 * correlation * x * y))


def _hanley_mcneil(auc: float, positives: int, negatives: int) -> float:
    """Return the variance of an AUC (Hanley and McNeil 1982), with equal numbers as in method 5 of Newcombe (2006)."""
    others = (positives + negatives) / 2 - 1
    factor = 1 + others * (1 - auc) / (2 - auc) + others * auc / (1 + auc)
    return auc * (1 - auc) * factor / (positives * negatives)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    ends = function(low), function(high)
    if ends[0] * ends[1] > 0:
        return low if abs(ends[0]) < abs(ends[1]) else high
    return float(optimize.brentq(function, low, high, xtol=1e-7))  # pyright: ignore[reportArgumentType]
