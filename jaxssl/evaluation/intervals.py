"""95 % confidence intervals of scores and of differences between two arms, for few and for many groups of test images.

Percentiles of a bootstrap are too narrow for few groups, and have no width at all for a perfect score. Here the
variance is that of the groups (`influence.cluster_variance`), and the shape that of the score:
  accuracy and other proportions: Clopper and Pearson (1934); for groups of several images with the effective number of
    images of Korn and Graubard (1998, Survey Methodology 24:193).
  AUC: the score interval of Newcombe (2006, Statistics in Medicine 25:559, method 5) with the variance of Hanley and
    McNeil (1982), enlarged by what groups and the data add to that; where it is wider, the interval on the logit scale.
  average precision: t interval on the logit scale; correlations and kappa: on Fisher's z scale; errors and R2: t.
  differences: t interval; where it is wider, the interval made of those of the two scores (Zou and Donner 2008,
    Statistics in Medicine 27:1693), which also holds where one of them is near 1.
Coverage in simulations: docs/statistics.md.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from jaxssl.evaluation import scores
from jaxssl.evaluation.ends import (
    TRANSFORMS,
    Ends,
    auc_interval,
    difference_interval,
    proportion_interval,
    t_quantile,
    transformed_interval,
)
from jaxssl.evaluation.influence import Variance, auc_classes, cluster_variance, influence, swap_contributions
from jaxssl.evaluation.randomization import least_p_value, swap_p_value
from jaxssl.evaluation.significance import ALPHA, POWER

MIN_GROUPS = 5  # In each class, for an interval.
# A significant difference whose interval would reach 0 begins at so much: the smallest number that is printed.
_PRINTED = 0.001, 0.01  # Of intervals up to, and above, this width:
_WIDE = 0.1
_ROUNDING = 1e-12
# Metrics whose variance is over all groups, and not within classes.
UNSTRATIFIED = ("accuracy", "mae", "r2", "spearman", "quadratic_kappa", "dice", "iou")


class RunPredictions(NamedTuple):
    """Test predictions of one run.

    Attributes:
      rows: [n] int, the index of each test image among all N images.
      probabilities: [n, C] float; of values [n, 1], the predicted ones.
    """

    rows: np.ndarray
    probabilities: np.ndarray


class Measured(NamedTuple):
    """The mean score of one arm over its runs.

    Attributes:
      value: the mean; NaN where it is undefined in all runs.
      values: one per run, NaN where it is undefined.
      influence: [N] float, of each of all images on the mean.
      ends: 95 % interval over groups; None where there is none.
      without: why there is no interval; "" where there is one.
    """

    value: float
    values: tuple[float, ...]
    influence: np.ndarray
    ends: Ends | None
    without: str


class Compared(NamedTuple):
    """The mean difference of two arms over their runs.

    Attributes:
      value: the mean; NaN where it is undefined.
      values: one per run.
      ends: 95 % interval over groups, apart from 0 if and only if p is at most .05; None where there is none.
      p: of the randomization test; None where the difference is undefined.
      detectable: the true difference that would be shown with 80 % power; None where none could be, or it is unknown.
      without: why there is no interval; "" where there is one.
    """

    value: float
    values: tuple[float, ...]
    ends: Ends | None
    p: float | None
    detectable: float | None
    without: str


class TestImages:
    """The N test images of one or several runs: labels [N] int, [N, C] int or [N] float (see `scores`), groups [N]."""

    __test__ = False  # For pytest.

    def __init__(self, labels: np.ndarray, groups: Sequence | np.ndarray) -> None:
        labels = np.asarray(labels)
        self.labels = labels if scores.is_value(labels) and len(labels) else labels.astype(int)
        self.names, self.groups = scores.group_indices(np.asarray(groups), len(self.labels))

    def measure(self, metric: str, runs: Sequence[RunPredictions]) -> Measured:
        """Return the mean score of runs with its interval over groups.

        Args:
          metric: one of `scores.METRICS`, except for "ece".
          runs: of one arm. Those in which the score is undefined do not count.

        Raises:
          ValueError: if the shapes disagree, a label is out of range, or a row does not sum to 1.
          TrainingFailedError: if a probability is not finite.
        """
        values, total, defined = [], np.zeros(len(self.labels)), []
        for run in runs:
            checked, labels = scores.check_predictions(run.probabilities, self.labels[run.rows])
            value = scores.compute(metric, checked, labels)
            values.append(math.nan if value is None else value)
            if value is not None:
                total[run.rows] += influence(metric, checked, labels)
                defined.append(run)
        if not defined:
            return Measured(math.nan, tuple(values), total, None, "undefined")
        mean, total, tested = float(np.nanmean(values)), total / len(defined), _union(defined)
        without = self.why_no_interval(metric, tested)
        if metric == "quadratic_kappa" and np.abs(total).max() < _ROUNDING:
            without = without or "the same is predicted for every image"
        ends = None if without else self._interval(metric, mean, total, tested, defined[0].probabilities.shape[1])
        return Measured(mean, tuple(values), total, ends, without)

    def compare(
        self,
        metric: str,
        a: Sequence[RunPredictions],
        b: Sequence[RunPredictions],
        of_a: Measured | None = None,
        of_b: Measured | None = None,
    ) -> Compared:
        """Return the mean of score(a) - score(b) over runs that are paired: the k-th of both have the same images.

        Args:
          metric: one that `influence.swap_contributions` knows.
          a: runs of one arm.
          b: runs of the other.
          of_a: `measure(metric, a)`, if it is known.
          of_b: likewise.
        """
        of_a, of_b = of_a or self.measure(metric, a), of_b or self.measure(metric, b)
        values = tuple(x - y for x, y in zip(of_a.values, of_b.values, strict=True))
        value = of_a.value - of_b.value
        # Whether a score is defined depends on the labels only, so that both arms have it in the same runs.
        pairs = [pair for pair, known in zip(zip(a, b, strict=True), values, strict=True) if not math.isnan(known)]
        if not pairs:
            return Compared(value, values, None, None, None, "undefined")
        tested, swaps = _union([one for one, _ in pairs]), np.zeros(len(self.labels))
        for one, other in pairs:
            swapped = swap_contributions(metric, one.probabilities, other.probabilities, self.labels[one.rows])
            swaps[one.rows] += swapped / len(pairs)
        p = swap_p_value(np.bincount(self.groups[tested], swaps[tested], len(self.names)))
        without = of_a.without or of_b.without
        if without or of_a.ends is None or of_b.ends is None:
            return Compared(value, values, None, p, None, without)
        variances = [self._variance(metric, of.influence, tested) for of in (of_a, of_b)]
        spread = self._variance(metric, of_a.influence - of_b.influence, tested)
        bound = math.inf if metric in ("mae", "r2") else 1.0
        plain = difference_interval((of_a.value, of_b.value), (of_a.ends, of_b.ends), variances, spread, bound)
        groups = len(np.unique(self.groups[tested]))
        can_show = least_p_value(groups) <= ALPHA
        detectable = detectable_difference(spread) if can_show else None
        return Compared(value, values, agree(plain, value, p), p, detectable, "")

    def groups_by_class(self, rows: np.ndarray) -> dict[int, int]:
        """Return the number of groups with an image of each class, or with each label, that occurs in these rows."""
        labels, groups = self.labels[rows], self.groups[rows]
        if scores.is_value(labels):
            return {}
        if labels.ndim == 2:
            present = np.flatnonzero((labels == 1).any(axis=0)).tolist()
            return {c: len(np.unique(groups[labels[:, c] == 1])) for c in present}
        return {int(c): len(np.unique(groups[labels == c])) for c in np.unique(labels)}

    def why_no_interval(self, metric: str, rows: np.ndarray) -> str:
        """Return why these images allow no interval; "" where they do."""
        groups = len(np.unique(self.groups[rows]))
        if metric in UNSTRATIFIED:
            if metric == "accuracy" and groups == len(rows) and groups > 1:
                return ""
            return (
                "" if groups >= MIN_GROUPS else f"{_count(groups)} of test images, and an interval needs {MIN_GROUPS}"
            )
        if self.labels.ndim == 2:
            # A rare label among many has little weight in the mean.
            sides = self._groups_by_side(rows)
            if min(sides, default=0) > 1 and _mean_df(sides) >= MIN_GROUPS - 1:
                return ""
            return (
                f"labels are present or absent in too few groups of test images, the fewest in {min(sides, default=0)}"
            )
        fewest = min(self.groups_by_class(rows).values(), default=0)
        if fewest >= MIN_GROUPS:
            return ""
        return f"a class has test images of {_count(fewest)}, and an interval needs {MIN_GROUPS} in each"

    def _groups_by_side(self, rows: np.ndarray) -> list[int]:
        """Return the number of groups on the smaller side, with or without it, of each label that is scored."""
        labels, groups = self.labels[rows], self.groups[rows]
        sides = [
            [len(np.unique(groups[known][positive == side])) for side in (True, False)]
            for _, known, positive in scores.known_labels(labels)
        ]
        return [min(of) for of in sides]

    def _variance(self, metric: str, values: np.ndarray, rows: np.ndarray) -> Variance:
        labels = self.labels[rows]
        stratified = metric not in UNSTRATIFIED and labels.ndim == 1
        variance = cluster_variance(values[rows], self.groups[rows], labels if stratified else np.zeros(len(rows), int))
        if labels.ndim == 1:
            return variance
        return variance._replace(df=min(variance.df, _mean_df(self._groups_by_side(rows))))

    def _interval(self, metric: str, value: float, values: np.ndarray, rows: np.ndarray, classes: int) -> Ends:
        variance, labels = self._variance(metric, values, rows), self.labels[rows]
        groups = len(np.unique(self.groups[rows]))
        if metric in TRANSFORMS:
            return transformed_interval(metric, value, variance, groups)
        if metric == "auc_macro":
            if labels.ndim == 2:
                positive = [of for _, _, of in scores.known_labels(labels)]
            else:
                positive = [labels == c for c in auc_classes(classes, labels)]
            images = [(int(of.sum()), int((~of).sum())) for of in positive]
            return auc_interval(value, variance, images, len(rows) / groups)
        if metric == "accuracy":
            return proportion_interval(value, len(rows), variance if groups < len(rows) else None, groups)
        by_class = self.groups_by_class(rows)
        return proportion_interval(value, len(rows), variance, len(by_class) * min(by_class.values()))


def share_of(hits: np.ndarray, groups: Sequence | np.ndarray) -> Measured:
    """Return the share of images that are hits [n] bool, with its interval over their groups [n]."""
    images = TestImages(np.zeros(len(hits), int), groups)
    predicted = np.stack([hits, ~np.asarray(hits, bool)], axis=1).astype(float)
    return images.measure("accuracy", [RunPredictions(np.arange(len(hits)), predicted)] if len(hits) else [])


def difference_of_means(
    a: np.ndarray, a_groups: Sequence | np.ndarray, b: np.ndarray, b_groups: Sequence | np.ndarray
) -> dict[str, Any]:
    """Return mean(a) - mean(b) of two sets of images without a group in common, with its 95 % t interval over groups.

    Args:
      a: [N] float.
      a_groups: [N].
      b: [M] float.
      b_groups: [M].

    Returns:
      {"value", "low", "high"}, as `to_estimate`.
    """
    variances = []
    for values, groups in ((a, a_groups), (b, b_groups)):
        names, indices = scores.group_indices(np.asarray(groups), len(values))
        if len(names) < MIN_GROUPS:
            without = f"{_count(len(names))} of images on one side, and an interval needs {MIN_GROUPS}"
            value = float(np.mean(a) - np.mean(b)) if len(a) and len(b) else None
            return {"value": value, "low": None, "high": None} | ({} if value is None else {"without": without})
        influences = (values - np.mean(values)) / len(values)
        variances.append(cluster_variance(influences, indices, np.zeros(len(values), int)))
    total = sum(of.value for of in variances)
    spread = sum(of.value**2 / of.df for of in variances)
    half = t_quantile(total**2 / spread) * math.sqrt(total) if spread else 0.0
    value = float(np.mean(a) - np.mean(b))
    return {"value": value, "low": value - half, "high": value + half}


def to_estimate(of: Measured | Compared) -> dict[str, Any]:
    """Return {"value", "low", "high"} for results.json, None where undefined, and "without" where an interval lacks."""
    low, high = of.ends or (None, None)
    estimate = {"value": None if math.isnan(of.value) else of.value, "low": low, "high": high}
    return estimate | ({"without": of.without} if of.without and not math.isnan(of.value) else {})


def agree(ends: Ends, value: float, p: float | None) -> Ends:
    """Return an interval that lies apart from 0 if and only if p is at most .05.

    The interval then consists of the differences that are not rejected, as far as 0 goes: what the randomization test
    says of 0 is exact, what the interval says approximate.
    """
    low, high = ends
    if p is None or p > ALPHA:
        return min(low, 0.0), max(high, 0.0)
    least = min(_PRINTED[high - low > _WIDE], abs(value))
    return (max(low, least), high) if value > 0 else (low, min(high, -least))


def detectable_difference(spread: Variance, power: float = POWER) -> float | None:
    """Return the true difference that a test at 5 % shows with this power; None where the variance is unknown or 0.

    Args:
      spread: variance of the difference.
      power: share of test sets of this size that would show it.
    """
    if not spread.value > 0:
        return None
    return (t_quantile(spread.df) + float(stats.t.ppf(power, spread.df))) * math.sqrt(spread.value)


def _mean_df(groups: Sequence[int]) -> float:
    """Return the degrees of freedom of a mean over labels with so many groups, 2 or more, on their smaller sides.

    By Satterthwaite (1946), for variances that are inverse to these numbers.
    """
    parts = 1 / np.array(groups, float)
    return float(parts.sum() ** 2 / (parts**2 / (1 / parts - 1)).sum())


def _union(runs: Sequence[RunPredictions]) -> np.ndarray:
    return np.unique(np.concatenate([run.rows for run in runs])) if runs else np.empty(0, int)


def _count(groups: int) -> str:
    return f"{groups} group{'' if groups == 1 else 's'}"
