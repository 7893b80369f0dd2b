"""Intervals and tests against scipy, against literal definitions, and in simulations."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from jaxssl.errors import TrainingFailedError
from jaxssl.evaluation import scores, significance
from jaxssl.evaluation.significance import RunPredictions

METRICS = ("accuracy", "auc_macro", "balanced_accuracy")


def predictions(seed, images, classes=2, lift=1.0):
    """Labels, and the function that makes another informative prediction of them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=images)

    def predict(lift=lift):
        logits = rng.normal(size=(images, classes)) + lift * np.eye(classes)[labels]
        return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    return labels, predict, rng


# Over the groups of the test images.


@pytest.mark.parametrize("classes", [2, 3])
def test_one_run_has_the_paired_difference_of_scores(classes):
    labels, predict, rng = predictions(0, 90, classes)
    groups = np.array([f"patient{g}" for g in rng.integers(30, size=90)])
    a, b = predict(2.0), predict()
    parts = [RunPredictions(np.arange(90), a), RunPredictions(np.arange(90), b)]
    of_a, of_b = significance.bootstrap_scores(parts, labels, groups, METRICS, seed=3, resamples=200)
    for metric in METRICS:
        expected = scores.paired_difference(a, b, labels, groups, metric, seed=3, resamples=200)
        found = significance.group_interval((of_a[metric] - of_b[metric])[None])
        assert found == pytest.approx(expected, abs=1e-12), metric


def test_folds_and_overlapping_splits_equal_a_literal_bootstrap_of_rows():
    labels, predict, rng = predictions(1, 60)
    groups = rng.integers(12, size=60)
    whole = predict()
    rows = [np.flatnonzero(groups < 6), np.flatnonzero(groups >= 6), np.flatnonzero(groups % 2 == 0)]
    parts = [RunPredictions(r, whole[r]) for r in rows]
    found = significance.bootstrap_scores(parts, labels, groups, ("accuracy",), seed=5, resamples=40)
    right = whole.argmax(axis=1) == labels
    names, rng = np.unique(groups), np.random.default_rng(5)
    for i, drawn in enumerate(rng.integers(len(names), size=(40, len(names)))):
        for part, of in zip(parts, found, strict=True):
            literal = [right[r] for g in names[drawn] for r in part.rows if groups[r] == g]
            expected = np.mean(literal) if literal else np.nan
            assert of["accuracy"][1 + i] == pytest.approx(expected, nan_ok=True)
    for part, of in zip(parts, found, strict=True):
        assert of["accuracy"][0] == pytest.approx(right[part.rows].mean())


def test_the_order_of_images_and_parts_does_not_matter():
    labels, predict, rng = predictions(2, 50)
    groups = np.array([f"g{g}" for g in rng.integers(20, size=50)])
    parts = [RunPredictions(np.arange(50), predict()), RunPredictions(np.arange(10, 40), predict()[10:40])]
    found = significance.bootstrap_scores(parts, labels, groups, METRICS, seed=0, resamples=30)
    order = rng.permutation(50)
    place = np.argsort(order)
    shuffled = [RunPredictions(place[rows], p) for rows, p in parts[::-1]]
    other = significance.bootstrap_scores(shuffled, labels[order], groups[order], METRICS, seed=0, resamples=30)
    for a, b in zip(found, other[::-1], strict=True):
        for metric in METRICS:
            np.testing.assert_allclose(a[metric], b[metric], atol=1e-12)


def test_group_interval_leaves_out_undefined_resamples():
    drawn = np.array([[0.1, 0.2, np.nan, 0.4], [0.3, 0.2, 0.9, 0.0]])
    assert significance.group_interval(drawn) == pytest.approx({"value": 0.2, "low": 0.2, "high": 0.2})
    nothing = {"value": None, "low": None, "high": None}
    assert significance.group_interval(np.array([[np.nan, 0.2, 0.2]])) == nothing
    assert significance.group_interval(np.empty((0, 3))) == nothing
    assert significance.group_interval(np.array([[0.5]])) == {"value": 0.5, "low": None, "high": None}


def test_one_group_gives_only_the_score():
    labels, predict, _ = predictions(0, 10)
    (found,) = significance.bootstrap_scores(
        [RunPredictions(np.arange(10), predict())], labels, ["one"] * 10, ("accuracy",), seed=0
    )
    assert found["accuracy"].shape == (1,)


def test_bootstrap_scores_refuses_invalid_predictions():
    labels, predict, _ = predictions(0, 10)
    rows, p = np.arange(10), predict()
    with pytest.raises(ValueError, match="sum to 1"):
        significance.bootstrap_scores([RunPredictions(rows, 2 * p)], labels, labels.astype(str), METRICS, seed=0)
    with pytest.raises(ValueError, match="one for each image"):
        significance.bootstrap_scores([RunPredictions(rows[:5], p)], labels, labels.astype(str), METRICS, seed=0)
    with pytest.raises(TrainingFailedError):
        significance.bootstrap_scores([RunPredictions(rows, p * np.nan)], labels, labels.astype(str), METRICS, seed=0)


@pytest.mark.parametrize("design", ["fixed", "folds", "overlapping"])
def test_coverage_of_the_group_interval(design):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 2)
    rows_of = {
        "fixed": [np.arange(120)] * 3,
        "folds": [np.flatnonzero(groups % 3 == k) for k in range(3)],
        "overlapping": [np.flatnonzero(np.isin(groups, (np.arange(30) + 15 * k) % 60)) for k in range(3)],
    }[design]
    covered, trials = 0, 300
    for trial in range(trials):
        labels = rng.integers(2, size=120)
        # How hard a patient is differs from arm to arm and is the same in all runs: what a test split holds by chance.
        hard = rng.normal(size=(2, 60))[:, groups]
        arms = []
        for arm in range(2):
            logit = 1 + hard[arm] + 0.5 * rng.normal(size=(3, 120))
            true = 1 / (1 + np.exp(-logit))
            columns = [np.where(labels == c, true, 1 - true) for c in range(2)]
            arms.append([RunPredictions(r, np.stack(columns, axis=-1)[run, r]) for run, r in enumerate(rows_of)])
        drawn = significance.bootstrap_scores(
            arms[0] + arms[1], labels, groups, ("accuracy",), seed=trial, resamples=200
        )
        d = np.array([drawn[k]["accuracy"] - drawn[3 + k]["accuracy"] for k in range(3)])
        found = significance.group_interval(d)
        covered += found["low"] <= 0 <= found["high"]
    # Three standard errors of a share of 300 are 3.8 points, and percentiles of 60 groups are a little narrow.
    assert 0.90 <= covered / trials <= 0.99


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
    none = dict.fromkeys(("mean", "std", "low", "high", "p"))
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
