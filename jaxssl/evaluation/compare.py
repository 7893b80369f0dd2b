"""Statistics across runs: arrays in, plain numbers out.

Two kinds of chance are kept apart, and neither stands for the other:
  over runs: another seed gives other weights, another order of the images and, where the split follows the seed, other
    training and test images. `over_runs` has one number a run and makes a t interval of them.
  over groups: other patients in the test split would score otherwise. `resampled` draws the groups of the test images,
    once for all runs and arms, so that differences of arms are paired and an image that several runs test on counts
    once. `over_groups` averages over the runs and makes a percentile interval of the draws.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from jaxssl.evaluation import scores

LEVEL = 0.05
LEAST_SEEDS = 5  # No p-value comes from fewer.
# Runs that differ by less than this differ by rounding alone.
_EXACT = 1e-12


class Part(NamedTuple):
    """Predictions of one run: of which images, and what."""

    rows: np.ndarray  # [n] int, each an index of an image.
    probabilities: np.ndarray  # [n, C] float, rows sum to 1.


def resampled(
    parts: Sequence[Part],
    labels: np.ndarray,
    groups: np.ndarray,
    metrics: Sequence[str],
    *,
    seed: int,
    resamples: int = 2000,
) -> list[dict[str, np.ndarray]]:
    """Scores of every part on the same resamples of the groups.

    The groups of all N images are drawn with replacement, as many as there are, and each part is scored on those of its
    images whose groups were drawn. Parts of the same test images are thereby paired; folds, which share no group, vary
    independently; and of random splits that overlap, what they share varies together. For one part that has all images
    these are the resamples of `scores.paired_difference`.

    Args:
      parts: the predictions of the runs.
      labels: [N] int in [0, C).
      groups: [N] str, the patient, lesion or series of each image.
      metrics: names of those of `scores`.
      seed: of the resamples, which depend on it and on the names of the groups alone.
      resamples: how many.

    Returns:
      For each part {metric: [1 + resamples] float}: the score, then that of each resample; NaN where it is undefined.
      Of fewer than two groups nothing can be drawn, and the score stands alone.

    Raises:
      ValueError: if the shapes disagree, a label is outside [0, C), or a row does not sum to 1.
      TrainingFailedError: if a probability is not finite.
    """
    names, group_of = scores.grouped(groups, len(labels))
    measures, drawn = [], []
    for rows, probabilities in parts:
        probabilities, true = scores.checked(probabilities, np.asarray(labels)[rows])
        measures.append({metric: scores.METRICS[metric](probabilities, true) for metric in metrics})
        drawn.append({metric: [] for metric in metrics})
    draws = scores.resample(group_of, len(names), seed, resamples) if len(names) > 1 else ()
    for weights in itertools.chain([np.ones((1, len(labels)))], draws):
        for part, measure, into in zip(parts, measures, drawn, strict=True):
            of_part = np.take(weights, part.rows, axis=1)
            for metric in metrics:
                into[metric].append(measure[metric](of_part))
    return [{metric: np.concatenate(chunks) for metric, chunks in of.items()} for of in drawn]


def over_groups(drawn: np.ndarray) -> dict[str, float | None]:
    """The mean over runs, with its 95 % percentile bootstrap interval over the groups of the test images.

    It holds for these trained networks: the variation between seeds is not in it.

    Args:
      drawn: [K, 1 + R] float, a score or a difference of two for each run, from `resampled`. A resample in which it is
        undefined for one of the runs is left out.

    Returns:
      {"value", "low", "high"}; what is undefined is None.
    """
    means = np.asarray(drawn, float).mean(axis=0) if len(drawn) else np.array([np.nan])
    value = None if np.isnan(means[0]) else float(means[0])
    low, high = scores.interval([means[1:]]) if value is not None else (None, None)
    return {"value": value, "low": low, "high": high}


def p_over_groups(drawn: np.ndarray) -> float | None:
    """The p-value of the hypothesis that the mean over runs is 0 for other groups of test images.

    By the normal distribution with the deviation of the resamples: their own shares of either sign end at 1/R, which no
    correction for many differences would leave below 5 %.

    Args:
      drawn: [K, 1 + R] float, as for `over_groups`.

    Returns:
      None where it is undefined, or no resample differs from another.
    """
    means = np.asarray(drawn, float).mean(axis=0)
    resampled = means[1:][~np.isnan(means[1:])]
    std = float(resampled.std()) if len(resampled) else 0.0
    return None if np.isnan(means[0]) or std <= _EXACT else float(2 * stats.norm.sf(abs(means[0]) / std))


def over_runs(values: np.ndarray, *, seeds: int, test_to_train: float = 0.0) -> dict[str, float | None]:
    """The mean over runs with its 95 % t interval, and the p-value of the hypothesis that the expected mean is 0.

    Runs on folds or on random splits of the same images share training images, so that their numbers vary less than
    those of new images would. The corrected resampled t-test enlarges the variance of the mean from s²/K to
    (1/K + n_test/n_train) s² (Nadeau and Bengio 2003, Machine Learning 52:239; for repeated folds Bouckaert and Frank
    2004, PAKDD), with K - 1 degrees of freedom. Runs that differ in the seed of training alone, or that have images of
    their own, need no such term.

    Args:
      values: [K] float, one of each run: a score, or the difference of two arms in this run.
      seeds: how many different seeds they have.
      test_to_train: n_test/n_train where training images are shared and test images are not the same, else 0.

    Returns:
      {"mean", "std", "low", "high", "p"}. `std`, with K - 1 in the denominator, and the interval need two runs, `p`
      needs `LEAST_SEEDS` seeds. The interval and `p` are None too where all runs gave the same number: then nothing in
      them depends on the seed, and no number of them says more than one.
    """
    values = np.asarray(values, float)
    runs = len(values)
    found: dict[str, float | None] = dict.fromkeys(("mean", "std", "low", "high", "p"))
    if not runs:
        return found
    found["mean"] = mean = float(values.mean())
    if runs < 2:
        return found
    found["std"] = std = float(values.std(ddof=1))
    if std <= _EXACT:
        return found
    error = std * math.sqrt(1 / runs + test_to_train)
    reach = float(stats.t.ppf(1 - LEVEL / 2, runs - 1)) * error
    found |= {"low": mean - reach, "high": mean + reach}
    if seeds >= LEAST_SEEDS:
        found["p"] = float(2 * stats.t.sf(abs(mean) / error, runs - 1))
    return found


def discordant(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    """How many images `a` alone has right, and `b` alone; both are [N] bool, right or not, of the same images."""
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if a.shape != b.shape:
        raise ValueError(f"a and b must be of the same images, not {a.shape} and {b.shape}")
    return int((a & ~b).sum()), int((b & ~a).sum())


def mcnemar(only_a: int, only_b: int) -> float:
    """The exact two-sided p-value of McNemar's test that two classifiers err alike (McNemar 1947).

    The binomial distribution serves for any number of discordant images, so that no approximation is needed. Valid only
    where the images are independent: not where a group has several.

    Args:
      only_a: images that the first alone has right.
      only_b: images that the second alone has right.
    """
    both = only_a + only_b
    return float(stats.binomtest(only_a, both, 0.5).pvalue) if both else 1.0


def middle(p_values: Sequence[float]) -> float:
    """One p-value of several for the same comparison, whatever their dependence: K/k times the k-th smallest of K.

    With k = ceil(K/2) that is at most twice the median (Rüger 1978, Metrika 25).
    """
    ordered = sorted(p_values)
    k = math.ceil(len(ordered) / 2)
    return min(1.0, len(ordered) / k * ordered[k - 1])


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values such that to reject all below 5 % errs anywhere in the family with at most 5 % (Holm 1979).

    None, a comparison without a test, stays None and counts for nothing.
    """
    tested = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for place, (p, i) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - place) * p))
        adjusted[i] = highest
    return adjusted
