"""Intervals and tests for the difference between two arms: arrays in, plain numbers out.

Two sources of variation are kept apart, and neither replaces the other:
  over runs: another seed gives other weights, another order of the images and, where the split depends on the seed,
    other training and test images. `corrected_t_test` takes one number per run.
  over groups: another sample of patients would score differently. `bootstrap_scores` resamples the groups of the test
    images, once for all runs and arms: differences between arms are paired, and an image that is in the test set of
    several runs counts once. `group_interval` and `group_p_value` use the mean over the runs in each resample.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from jaxssl.evaluation import scores

ALPHA = 0.05  # Significance level; intervals have the level 1 - ALPHA.
MIN_SEEDS = 5  # With fewer seeds no p-value is given.
_EXACT = 1e-12  # A smaller difference between runs is rounding.


class RunPredictions(NamedTuple):
    """Test predictions of one run.

    Attributes:
      rows: [n] int, the index of each test image among all N images.
      probabilities: [n, C] float, rows sum to 1.
    """

    rows: np.ndarray
    probabilities: np.ndarray


def bootstrap_scores(
    runs: Sequence[RunPredictions],
    labels: np.ndarray,
    groups: np.ndarray,
    metrics: Sequence[str],
    *,
    seed: int,
    resamples: int = 2000,
) -> list[dict[str, np.ndarray]]:
    """Score every run on the same cluster-bootstrap resamples of the groups.

    The groups of all N images are drawn with replacement, as many as there are, and each run is scored on those of its
    test images whose groups were drawn. Runs with the same test images are thereby paired; folds, which share no group,
    vary independently; random splits that overlap vary together in what they share. For one run with all images these
    are the resamples of `scores.paired_difference`.

    Args:
      runs: test predictions of each run.
      labels: [N] int in [0, C).
      groups: [N] str, the patient, lesion or series of each image.
      metrics: names from `scores.METRICS`.
      seed: seed of the resamples, which depend on it and on the names of the groups only.
      resamples: number of resamples R.

    Returns:
      For each run {metric: [1 + R] float}: the score, then the score in each resample; NaN where it is undefined. With
      fewer than two groups [1], the score only.

    Raises:
      ValueError: if the shapes disagree, a label is outside [0, C), or a row does not sum to 1.
      TrainingFailedError: if a probability is not finite.
    """
    names, group_of = scores.group_indices(groups, len(labels))
    measures, drawn = [], []
    for rows, probabilities in runs:
        probabilities, true = scores.check_predictions(probabilities, np.asarray(labels)[rows])
        measures.append({metric: scores.METRICS[metric](probabilities, true) for metric in metrics})
        drawn.append({metric: [] for metric in metrics})
    draws = scores.bootstrap_weights(group_of, len(names), seed, resamples) if len(names) > 1 else ()
    for weights in itertools.chain([np.ones((1, len(labels)))], draws):
        for run, measure, chunks in zip(runs, measures, drawn, strict=True):
            run_weights = np.take(weights, run.rows, axis=1)
            for metric in metrics:
                chunks[metric].append(measure[metric](run_weights))
    return [{metric: np.concatenate(chunks) for metric, chunks in run.items()} for run in drawn]


def group_interval(drawn: np.ndarray) -> dict[str, float | None]:
    """Return the mean over runs with its 95 % percentile bootstrap interval over the groups of the test images.

    It is conditional on these trained networks: the variation between seeds is not included.

    Args:
      drawn: [K, 1 + R] float from `bootstrap_scores`, a score or a difference of two for each of K runs. Resamples in
        which it is undefined for one of the runs are left out.

    Returns:
      {"value", "low", "high"}; None where undefined.
    """
    means = np.asarray(drawn, float).mean(axis=0) if len(drawn) else np.array([np.nan])
    value = None if np.isnan(means[0]) else float(means[0])
    low, high = scores.percentile_interval([means[1:]]) if value is not None else (None, None)
    return {"value": value, "low": low, "high": high}


def group_p_value(drawn: np.ndarray) -> float | None:
    """Return the p-value of the hypothesis that the mean over runs is 0 for other groups of test images.

    A normal approximation with the standard deviation of the resamples: the share of resamples of either sign cannot be
    smaller than 1/R, which would not survive the correction for many comparisons.

    Args:
      drawn: [K, 1 + R] float, as for `group_interval`.

    Returns:
      None where it is undefined, or where all resamples are equal.
    """
    means = np.asarray(drawn, float).mean(axis=0)
    resampled = means[1:][~np.isnan(means[1:])]
    std = float(resampled.std()) if len(resampled) else 0.0
    return None if np.isnan(means[0]) or std <= _EXACT else float(2 * stats.norm.sf(abs(means[0]) / std))


def corrected_t_test(values: np.ndarray, *, seeds: int, test_to_train: float = 0.0) -> dict[str, float | None]:
    """Return the mean over runs, its 95 % t interval, and the p-value of the hypothesis that the expected mean is 0.

    Runs on folds or on random splits of the same images share training images, so that their scores vary less than
    those of new images would. The corrected resampled t-test enlarges the variance of the mean from s²/K to
    (1/K + n_test/n_train) s² (Nadeau and Bengio 2003, Machine Learning 52:239; for repeated folds Bouckaert and Frank
    2004, PAKDD), with K - 1 degrees of freedom. Runs that differ in the training seed only, or that have images of
    their own, need no correction.

    Args:
      values: [K] float, one per run: a score, or the difference of two arms in this run.
      seeds: number of different seeds among the runs.
      test_to_train: n_test/n_train where training images are shared and test images differ, else 0.

    Returns:
      {"mean", "std", "low", "high", "p"}. `std`, with K - 1 in the denominator, and the interval need two runs; `p`
      needs `MIN_SEEDS` seeds. The interval and `p` are also None where all runs gave the same number: then the result
      does not depend on the seed, and more runs add no information.
    """
    values = np.asarray(values, float)
    runs = len(values)
    result: dict[str, float | None] = dict.fromkeys(("mean", "std", "low", "high", "p"))
    if not runs:
        return result
    result["mean"] = mean = float(values.mean())
    if runs < 2:
        return result
    result["std"] = std = float(values.std(ddof=1))
    if std <= _EXACT:
        return result
    error = std * math.sqrt(1 / runs + test_to_train)
    margin = float(stats.t.ppf(1 - ALPHA / 2, runs - 1)) * error
    result |= {"low": mean - margin, "high": mean + margin}
    if seeds >= MIN_SEEDS:
        result["p"] = float(2 * stats.t.sf(abs(mean) / error, runs - 1))
    return result


def intersection_union_p(*p_values: float | None) -> float | None:
    """Return the p-value of an intersection-union test: all hypotheses are rejected at once (Berger 1982).

    It is the largest p-value; None where one of them is None.
    """
    known = [p for p in p_values if p is not None]
    return max(known) if len(known) == len(p_values) else None


def count_discordant(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    """Count the images that only `a` classifies correctly, and only `b`.

    Args:
      a: [N] bool, whether the first classifier is right.
      b: [N] bool, whether the second is, on the same images.
    """
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if a.shape != b.shape:
        raise ValueError(f"a and b must be of the same images, not {a.shape} and {b.shape}")
    return int((a & ~b).sum()), int((b & ~a).sum())


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Return the exact two-sided p-value of McNemar's test that two classifiers have equal error rates (McNemar 1947).

    The binomial distribution serves for any number of discordant images. Valid only for independent images: not where
    a group has several.

    Args:
      only_a: number of images that only the first classifier has right.
      only_b: number of images that only the second has right.
    """
    both = only_a + only_b
    return float(stats.binomtest(only_a, both, 0.5).pvalue) if both else 1.0


def combine_p_values(p_values: Sequence[float]) -> float:
    """Combine K dependent p-values of one comparison by the rule of order statistics: K/k times the k-th smallest.

    Valid under any dependence. With k = ceil(K/2) it is at most twice the median (Rüger 1978, Metrika 25).
    """
    ordered = sorted(p_values)
    k = math.ceil(len(ordered) / 2)
    return min(1.0, len(ordered) / k * ordered[k - 1])


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values for multiple comparisons: familywise error rate by Holm's step-down method (Holm 1979).

    None, a comparison without a test, stays None and does not count.
    """
    tested = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for place, (p, i) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - place) * p))
        adjusted[i] = highest
    return adjusted
