"""Tests over runs and for several comparisons: arrays in, plain numbers out.

Two sources of variation are kept apart, and neither replaces the other:
  over runs: another seed gives other weights, another order of the images and, where the split depends on the seed,
    other training and test images. `corrected_t_test` takes one number per run.
  over groups: another sample of patients would score differently: `jaxssl.evaluation.intervals`.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

ALPHA = 0.05  # Significance level; intervals have the level 1 - ALPHA.
POWER = 0.8  # Share of studies in which a difference is to be shown.
MIN_SEEDS = 5  # With fewer seeds no p-value is given.
_EXACT = 1e-12  # A smaller difference between runs is rounding.


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
      {"mean", "std", "low", "high", "p", "detectable"}. `std`, with K - 1 in the denominator, and the interval need two
      runs; `p` needs `MIN_SEEDS` seeds. `detectable` is the expected mean that 80 % of such studies show. The interval,
      `p` and `detectable` are also None where all runs gave the same number: then the result does not depend on the
      seed, and more runs add no information.
    """
    values = np.asarray(values, float)
    runs = len(values)
    result: dict[str, float | None] = dict.fromkeys(("mean", "std", "low", "high", "p", "detectable"))
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
    detectable = margin + float(stats.t.ppf(POWER, runs - 1)) * error
    result |= {"low": mean - margin, "high": mean + margin, "detectable": detectable}
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
