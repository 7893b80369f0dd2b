"""Intervals and tests against scipy, against literal definitions, and in simulations."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from jaxssl.evaluation import significance

# Over runs.


def test_corrected_t_test_without_shared_images_is_the_t_test():
    values = np.array([0.03, 0.01, 0.05, 0.02, -0.01, 0.04])
    found = significance.corrected_t_test(values, seeds=6)
    expected = stats.ttest_1samp(values, 0)
    low, high = expected.confidence_interval(0.95)
    assert found["p"] == pytest.approx(expected.pvalue)
    assert (found["low"], found["high"]) == pytest.approx((low, high))
    assert (found["mean"], found["std"]) == pytest.approx((values.mean(), values.std(ddof=1)))


def test_corrected_t_test_is_that_of_nadeau_and_bengio():
    values = np.array([0.03, 0.01, 0.05, 0.02, -0.01, 0.04, 0.02, 0.00, 0.01, 0.03])
    found = significance.corrected_t_test(values, seeds=10, test_to_train=0.25)
    variance = sum((v - values.mean()) ** 2 for v in values) / 9
    t = values.mean() / math.sqrt((1 / 10 + 1 / 4) * variance)
    assert found["p"] == pytest.approx(2 * (1 - stats.t.cdf(t, 9)))
    half = 2.262157 * math.sqrt(0.35 * variance)  # The quantile of a table.
    assert (found["low"], found["high"]) == pytest.approx((values.mean() - half, values.mean() + half), abs=1e-7)


def test_no_p_value_from_few_seeds_and_no_interval_from_one_run_or_none():
    values = np.array([0.03, 0.01, 0.05, 0.02, 0.04])
    assert significance.corrected_t_test(values, seeds=4)["p"] is None
    assert significance.corrected_t_test(values, seeds=4)["low"] is not None
    assert significance.corrected_t_test(values, seeds=5)["p"] is not None
    none = dict.fromkeys(("mean", "std", "low", "high", "p", "detectable"))
    assert significance.corrected_t_test(values[:1], seeds=1) == none | {"mean": 0.03}
    assert significance.corrected_t_test(values[:0], seeds=0) == none


def test_equal_runs_have_no_interval_and_no_p_value():
    found = significance.corrected_t_test(np.full(7, 0.1), seeds=7)
    assert (found["low"], found["high"], found["p"]) == (None, None, None)
    assert found["mean"] == pytest.approx(0.1)


def cross_validated(rng, folds=5, images=50):
    """Differences, fold by fold, of two equally bad learners, each of which goes by the mean of noise of its own."""
    a, b = rng.normal(size=(2, images))
    parts = np.array_split(rng.permutation(images), folds)
    return np.array(
        [((a[t] - np.delete(a, t).mean()) ** 2 - (b[t] - np.delete(b, t).mean()) ** 2).mean() for t in parts]
    )


@pytest.mark.parametrize(("share", "runs"), [(0.0, 5), (0.25, 5)])
def test_coverage_of_the_t_interval(share, runs):
    rng = np.random.default_rng(0)
    covered, trials = 0, 400
    for _ in range(trials):
        values = cross_validated(rng, runs) if share else rng.normal(size=runs)
        found = significance.corrected_t_test(values, seeds=runs, test_to_train=share)
        covered += found["low"] <= 0 <= found["high"]
        assert (found["p"] > 0.05) == (found["low"] <= 0 <= found["high"])
    assert covered / trials > 0.92


def test_random_splits_need_the_correction():
    """Splits of the same 40 images, two thirds to train on: uncorrected, the t-test errs far too often."""
    rng = np.random.default_rng(1)
    missed = {0.0: 0, 0.5: 0}
    for _ in range(300):
        a, b = rng.normal(size=(2, 42))
        orders = [rng.permutation(42)[:14] for _ in range(10)]
        values = np.array([(a[test] - b[test]).mean() for test in orders])
        for ratio in missed:
            missed[ratio] += significance.corrected_t_test(values, seeds=10, test_to_train=ratio)["p"] < 0.05
    assert missed[0.0] / 300 > 0.25
    assert missed[0.5] / 300 < 0.10


# Tests of one run, and of many.


def test_discordant_counts():
    a, b = np.array([1, 1, 1, 0, 0]), np.array([1, 0, 0, 1, 0])
    assert significance.count_discordant(a, b) == (2, 1)
    with pytest.raises(ValueError, match="same images"):
        significance.count_discordant(a, b[:4])


@pytest.mark.parametrize(("a", "b"), [(0, 0), (1, 0), (5, 5), (9, 2), (2, 9), (30, 12)])
def test_mcnemar_is_the_sum_of_the_binomial_terms(a, b):
    tail = sum(math.comb(a + b, i) for i in range(min(a, b) + 1)) / 2 ** (a + b)
    assert significance.mcnemar_p(a, b) == pytest.approx(min(1.0, 2 * tail))


def test_combined_p_value_is_valid_for_equal_and_for_independent_tests():
    assert significance.combine_p_values([0.01, 0.02, 0.03, 0.5, 0.9]) == pytest.approx(0.05)
    assert significance.combine_p_values([0.2]) == 0.2
    assert significance.combine_p_values([0.8, 0.9, 1.0]) == 1.0
    rng = np.random.default_rng(0)
    independent = np.array([significance.combine_p_values(p) for p in rng.uniform(size=(2000, 5))])
    same = np.array([significance.combine_p_values([p] * 5) for p in rng.uniform(size=2000)])
    for found in (independent, same):
        for level in (0.05, 0.2):
            assert (found <= level).mean() <= level + 0.02


def closed_test(ps):
    """Holm by its definition as a closed test: the largest Bonferroni p of all subsets that hold the hypothesis."""
    everything = range(len(ps))
    subsets = [s for n in range(1, len(ps) + 1) for s in itertools.combinations(everything, n)]
    return [max(min(1.0, len(s) * min(ps[j] for j in s)) for s in subsets if i in s) for i in everything]


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_the_closed_bonferroni_test(seed):
    ps = np.random.default_rng(seed).uniform(size=6).round(1 + seed).tolist()
    if seed == 4:
        ps = [p / 20 for p in ps]
    assert significance.holm(ps) == pytest.approx(closed_test(ps))


def test_holm_skips_comparisons_without_a_test():
    assert significance.holm([0.01, None, 0.04]) == pytest.approx([0.02, None, 0.04])
    assert significance.holm([None]) == [None]
    assert significance.holm([]) == []
