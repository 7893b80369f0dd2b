"""95 % confidence intervals over groups of a mean of per-image scores, such as Dice, and of differences of two arms.

The variance is that of the groups (`influence.cluster_variance`), as in `intervals`; the interval is that of t and,
where it is wider, the one on the logit scale, since Dice near 1 is skewed. Where all images score 0 or 1, that of
Clopper and Pearson for so many groups takes its place.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

from jaxssl.evaluation import intervals, scores
from jaxssl.evaluation.ends import t_quantile
from jaxssl.evaluation.influence import cluster_variance
from jaxssl.evaluation.randomization import least_p_value, swap_p_value
from jaxssl.evaluation.significance import ALPHA

Groups = Sequence | np.ndarray


def mean_and_influence(values: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the mean over columns of the mean of each column, and the influence [N] of each image on it.

    Args:
      values: [N, C] float; NaN is left out of the mean of its column, and a column of NaN out of the mean of columns.
    """
    defined = ~np.isnan(values)
    counts = defined.sum(axis=0)
    columns = counts > 0
    if not columns.any():
        return math.nan, np.full(len(values), np.nan)
    values, defined, counts = values[:, columns], defined[:, columns], counts[columns]
    means = np.where(defined, values, 0).sum(axis=0) / counts
    influence = np.where(defined, (values - means) / counts, 0).mean(axis=1)
    return float(means.mean()), influence


def group_means(values: np.ndarray, groups: Groups) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean [G, C] of each group of images with values [N, C], leaving out NaN, and the groups' names [G]."""
    names, indices = scores.group_indices(np.asarray(groups), len(values))
    sums, counts = (np.zeros((len(names), values.shape[1])) for _ in range(2))
    np.add.at(sums, indices, np.nan_to_num(values))
    np.add.at(counts, indices, ~np.isnan(values))
    return scores.safe_divide(sums, counts), names


def to_interval(value: float, influence: np.ndarray, groups: Groups, high: float = 1.0) -> dict[str, Any]:
    """Return a score with its 95 % interval over groups, as in results.json.

    Args:
      value: the score, at least 0; NaN where it is undefined.
      influence: [N] float, of each image on the score, with sum 0.
      groups: [N] str.
      high: the highest possible score, which may be infinite.

    Returns:
      {"value", "low", "high"}, None where undefined, and "without", the reason, where an interval lacks.
    """
    if math.isnan(value):
        return {"value": None, "low": None, "high": None}
    names, indices = scores.group_indices(np.asarray(groups), len(influence))
    if len(names) < intervals.MIN_GROUPS:
        without = (
            f"{len(names)} group{'s' * (len(names) > 1)} of test images, and an interval needs {intervals.MIN_GROUPS}"
        )
        return {"value": value, "low": None, "high": None, "without": without}
    variance = cluster_variance(influence, indices, np.zeros(len(indices), int))
    if variance.value == 0 and value in (0, 1) and high == 1:
        ends = intervals.proportion_interval(value, len(names))
    else:
        half = t_quantile(variance.df) * math.sqrt(variance.value)
        ends = max(0.0, value - half), min(high, value + half)
        if high == 1 and 0 < value < 1:
            logit, half = special.logit(value), half / (value * (1 - value))
            ends = min(ends[0], special.expit(logit - half)), max(ends[1], special.expit(logit + half))
    return {"value": value, "low": float(ends[0]), "high": float(ends[1])}


def jackknife_influence(without: np.ndarray, groups: Groups) -> np.ndarray:
    """Return the influence of each group on statistics by the jackknife (Efron and Stein 1981), one entry an image.

    Args:
      without: [G, ...] float, the statistics without each group, in the order of their sorted names.
      groups: [N] str.

    Returns:
      [N, ...] float with sum 0: each image has an equal part of the influence of its group. NaN where a statistic is
      undefined without one of the groups.
    """
    names, indices = scores.group_indices(np.asarray(groups), len(groups))
    parts = (without.mean(axis=0) - without) * (len(names) - 1) / len(names)
    return (parts.T / np.bincount(indices)).T[indices]


def paired_difference(a: np.ndarray, b: np.ndarray, groups: Groups) -> dict[str, Any]:
    """Return mean(a) - mean(b) of two arms on the same images, with its 95 % interval over groups and its p-value.

    Args:
      a: [N, C] float, scores of the first arm, as for `mean_and_influence`. Where one arm has NaN, so must the other.
      b: [N, C] float of the second.
      groups: [N] str.

    Returns:
      {"value", "low", "high", "p", "detectable"} and, where an interval lacks, "without"; as `evaluate`'s.

    Raises:
      ValueError: the arms do not agree on where a score is defined.
    """
    if a.shape != b.shape or (np.isnan(a) != np.isnan(b)).any():
        raise ValueError(f"a {a.shape} and b {b.shape} must have scores of the same images and classes")
    value, influence = mean_and_influence(a - b)
    nothing: dict[str, Any] = dict.fromkeys(("low", "high", "p", "detectable"))
    if math.isnan(value):
        return {"value": None} | nothing
    names, indices = scores.group_indices(np.asarray(groups), len(a))
    defined = ~np.isnan(a)
    counts = defined.sum(axis=0)
    parts = np.where(defined, (a - b) / np.maximum(counts, 1), 0).sum(axis=1) / (counts > 0).sum()
    found = {"value": value} | nothing | {"p": swap_p_value(np.bincount(indices, parts, len(names)))}
    if len(names) < intervals.MIN_GROUPS:
        return found | {"without": f"{len(names)} groups of test images, and an interval needs {intervals.MIN_GROUPS}"}
    spread = cluster_variance(influence, indices, np.zeros(len(indices), int))
    half = t_quantile(spread.df) * math.sqrt(spread.value)
    low, high = intervals.agree((value - half, value + half), value, found["p"])
    can_show = least_p_value(len(names)) <= ALPHA
    detectable = intervals.detectable_difference(spread) if can_show else None
    return found | {"low": low, "high": high, "detectable": detectable}
