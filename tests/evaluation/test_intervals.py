"""Intervals, and the randomization test, against closed forms, literal definitions and small simulations."""

import itertools

import numpy as np
import pytest
from scipy import stats

from jaxssl.errors import TrainingFailedError
from jaxssl.evaluation import ends, intervals, randomization, scores, significance
from jaxssl.evaluation.influence import Variance, cluster_variance, influence, swap_contributions
from jaxssl.evaluation.intervals import RunPredictions, TestImages
from tests.evaluation import simulate

METRICS = ("accuracy", "balanced_accuracy", "auc_macro")


def predictions(seed=0, images=60, classes=3, lift=1.0, decimals=1):
    """Two predictions with ties, labels and groups."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=images)

    def predict():
        logits = np.round(rng.normal(size=(images, classes)) + lift * np.eye(classes)[labels], decimals)
        return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    return predict(), predict(), labels, rng.integers(images // 3, size=images)


# What an image contributes.


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("metric", METRICS)
def test_for_any_swap_the_difference_is_the_signed_sum_of_contributions(metric, classes):
    a, b, labels, _ = predictions(classes=classes)
    contributions = swap_contributions(metric, a, b, labels)
    if metric == "auc_macro":  # Swaps are of ranks.
        a, b = (stats.rankdata(of, axis=0) / len(of) for of in (a, b))
    make = scores.METRICS[metric]
    for seed in range(5):
        swap = np.random.default_rng(seed).random(len(labels)) < 0.5 * bool(seed)
        one, other = (np.where(swap[:, None], *of) for of in ((b, a), (a, b)))
        score = [float(make(of, labels)(np.ones((1, len(labels))))[0]) for of in (one, other)]
        assert np.where(swap, -contributions, contributions).sum() == pytest.approx(score[0] - score[1], abs=1e-12)


@pytest.mark.parametrize("metric", [*METRICS, "f1_macro"])
def test_influence_is_the_derivative_by_the_weight_of_an_image(metric):
    a, _, labels, _ = predictions()
    values = influence(metric, a, labels)
    assert values.sum() == pytest.approx(0, abs=1e-12)
    weighted = scores.METRICS[metric](a, labels)
    # All weights of a class alike change no recall and no AUC, so that derivatives are compared within a class.
    step = 1e-6
    weights = np.ones((len(labels), len(labels))) + step * np.eye(len(labels))
    derivative = (weighted(weights) - weighted(np.ones((1, len(labels))))) / step
    for c in range(3):
        own = labels == c
        np.testing.assert_allclose(
            values[own] - values[own].mean(), derivative[own] - derivative[own].mean(), atol=1e-6
        )


def test_the_variance_of_the_auc_is_that_of_delong_and_obuchowski():
    a, _, labels, groups = predictions(images=200, classes=2)
    p, alone = a[:, 1], np.arange(200)
    ones, zeros = p[labels == 1], p[labels == 0]
    wins = (ones[:, None] > zeros) + 0.5 * (ones[:, None] == zeros)
    delong = wins.mean(1).var(ddof=1) / len(ones) + wins.mean(0).var(ddof=1) / len(zeros)
    values = influence("auc_macro", a, labels)
    assert cluster_variance(values, alone, labels).value == pytest.approx(delong)
    sums = {c: np.bincount(groups[labels == c], values[labels == c], groups.max() + 1) for c in (0, 1)}
    counts = {c: len(np.unique(groups[labels == c])) for c in (0, 1)}
    obuchowski = sum(counts[c] / (counts[c] - 1) * sums[c] @ sums[c] for c in (0, 1)) + 2 * sums[0] @ sums[1]
    assert cluster_variance(values, groups, labels).value == pytest.approx(obuchowski)


def test_degrees_of_freedom_are_those_of_the_smaller_class():
    values, labels = np.r_[np.full(3, 1.0), np.full(300, 0.001)], np.repeat([1, 0], [3, 300])
    assert cluster_variance(values, np.arange(303), labels).df == pytest.approx(2, abs=0.01)
    assert np.isnan(cluster_variance(values, np.zeros(303, int), labels).value)


# The randomization test.


def test_few_groups_are_all_swaps():
    values = np.random.default_rng(0).normal(size=9) + 0.5
    ways = [abs(np.dot(signs, values)) for signs in itertools.product((1, -1), repeat=9)]
    expected = np.mean(np.array(ways) >= abs(values.sum()) - 1e-12)
    assert randomization.swap_p_value(values) == pytest.approx(expected)


def test_draws_are_near_all_swaps_and_depend_on_the_seed_only():
    values = np.random.default_rng(1).normal(size=18) + 0.5
    signs = 1 - 2 * ((np.arange(2**17)[:, None] >> np.arange(17)) & 1)
    exact = np.mean(np.abs(values[0] + signs @ values[1:]) >= abs(values.sum()) - 1e-12)
    drawn = randomization.swap_p_value(values)
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 1999))
    assert drawn == randomization.swap_p_value(values) == randomization.swap_p_value(-values)


def test_more_groups_than_units_are_swapped_in_blocks():
    values = np.random.default_rng(2).normal(size=5000)
    z = abs(values.sum()) / np.sqrt((values**2).sum())
    assert randomization.swap_p_value(values) == pytest.approx(2 * stats.norm.sf(z), abs=0.05)
    assert randomization.swap_p_value(values + 0.5) == 1e-4


def test_for_accuracy_of_single_images_it_is_the_exact_test_of_mcnemar():
    labels = np.zeros(30, int)
    right = np.eye(2)[:1].repeat(30, 0)
    a, b = right.copy(), right.copy()
    a[:2], b[2:11] = right[0, ::-1], right[0, ::-1]
    found = TestImages(labels, np.arange(30)).compare(
        "accuracy", [RunPredictions(np.arange(30), a)], [RunPredictions(np.arange(30), b)]
    )
    assert found.p == pytest.approx(significance.mcnemar_p(9, 2))


@pytest.mark.parametrize(("groups", "least"), [(2, 0.5), (5, 0.0625), (6, 0.03125), (20, 0)])
def test_the_least_p_value(groups, least):
    assert randomization.least_p_value(groups) == least
    if least:
        assert randomization.swap_p_value(np.ones(groups)) == least


def test_p_is_one_of_equal_arms_and_none_where_undefined():
    assert randomization.swap_p_value(np.zeros(9)) == 1
    assert randomization.swap_p_value(np.array([np.nan, 1.0])) is None
    assert randomization.swap_p_value(np.empty(0)) is None


# Intervals.


@pytest.mark.parametrize(("hits", "images"), [(8, 8), (0, 5), (7, 10), (180, 200)])
def test_the_interval_of_a_share_is_that_of_clopper_and_pearson(hits, images):
    found = intervals.share_of(np.arange(images) < hits, np.arange(images))
    expected = stats.binomtest(hits, images).proportion_ci(method="exact")
    assert found.ends == pytest.approx((expected.low, expected.high))


def test_groups_count_as_so_many_images_as_they_are_worth():
    rng = np.random.default_rng(0)
    hits = rng.random(40) < 0.8
    once = intervals.share_of(hits, np.arange(40)).ends
    often = intervals.share_of(np.repeat(hits, 25), np.repeat(np.arange(40), 25)).ends
    assert often == pytest.approx(once, abs=0.02)
    perfect = intervals.share_of(np.ones(200, bool), np.repeat(np.arange(8), 25)).ends
    low = stats.binomtest(8, 8).proportion_ci(method="exact").low
    assert perfect[0] < low and perfect[1] == 1


def test_the_score_interval_of_the_auc_solves_its_equation():
    images = [(20, 30)]
    low, high = intervals.auc_interval(0.8, Variance(0.0, 48.0), images, 1.0)
    for end in (low, high):
        expected = ends._hanley_mcneil(end, 20, 30)
        assert (end - 0.8) ** 2 == pytest.approx(stats.norm.ppf(0.975) ** 2 * expected, rel=1e-3)
    low, high = intervals.auc_interval(1.0, Variance(0.0, 48.0), images, 1.0)
    assert 0.8 < low < 0.95 and high == 1
    assert intervals.auc_interval(1.0, Variance(0.0, 48.0), images, 5.0)[0] < low


def test_an_interval_agrees_with_its_p_value():
    assert intervals.agree((0.01, 0.3), 0.15, 0.06) == (0.0, 0.3)
    assert intervals.agree((-0.01, 0.3), 0.15, 0.04) == (0.01, 0.3)
    assert intervals.agree((-0.01, 0.03), 0.01, 0.04) == (0.001, 0.03)
    assert intervals.agree((-0.3, 0.02), -0.15, 0.001) == (-0.3, -0.01)
    assert intervals.agree((0.02, 0.3), 0.15, 0.001) == (0.02, 0.3)


def test_too_few_groups_of_a_class_have_no_interval_and_the_reason():
    labels = np.repeat([0, 1], [40, 4])
    p = np.stack([1 - labels * 0.6 - 0.2, labels * 0.6 + 0.2], axis=1)
    images, runs = TestImages(labels, np.arange(44)), [RunPredictions(np.arange(44), p)]
    found = images.measure("auc_macro", runs)
    assert found.ends is None
    assert found.without == "a class has test images of 4 groups, and an interval needs 5 in each"
    assert images.measure("accuracy", runs).ends is not None
    patients = TestImages(labels, np.arange(44) // 11)
    assert "4 groups of test images" in patients.measure("accuracy", runs).without
    compared = images.compare("auc_macro", runs, [RunPredictions(np.arange(44), p[:, ::-1])])
    assert compared.ends is None and compared.p is not None and compared.detectable is None


def test_the_detectable_difference_is_found_in_four_of_five():
    variance = Variance(0.05**2, 60.0)
    least = intervals.detectable_difference(variance)
    found = 1 - stats.nct.cdf(stats.t.ppf(0.975, 60), 60, least / 0.05)
    assert found == pytest.approx(0.8, abs=0.01)
    assert intervals.detectable_difference(Variance(0.0, 60.0)) is None


def test_runs_on_folds_and_overlapping_splits_are_one_mean():
    a, b, labels, groups = predictions(images=90)
    rows = [np.flatnonzero(groups % 3 == k) for k in range(3)]
    runs = [[RunPredictions(r, of[r]) for r in rows] for of in (a, b)]
    images = TestImages(labels, groups)
    for metric in METRICS:
        found = images.compare(metric, *runs)
        values = [scores.compute(metric, a[r], labels[r]) - scores.compute(metric, b[r], labels[r]) for r in rows]
        assert found.value == pytest.approx(np.mean(values)) and found.values == pytest.approx(values)
        # The same run three times says no more than once.
        once = images.compare(metric, *([RunPredictions(np.arange(90), of)] for of in (a, b)))
        thrice = images.compare(metric, *([RunPredictions(np.arange(90), of)] * 3 for of in (a, b)))
        assert thrice.ends == pytest.approx(once.ends) and thrice.p == once.p


def test_runs_in_which_a_score_is_undefined_do_not_count():
    a, b, labels, groups = predictions(classes=2)
    one_class = np.flatnonzero(labels == 1)
    runs = [[RunPredictions(np.arange(60), of), RunPredictions(one_class, of[one_class])] for of in (a, b)]
    images = TestImages(labels, groups)
    found, alone = images.compare("auc_macro", *runs), images.compare("auc_macro", *(of[:1] for of in runs))
    assert (found.value, found.ends, found.p) == (alone.value, alone.ends, alone.p)
    assert np.isnan(found.values[1])
    assert np.isnan(images.compare("auc_macro", *(of[1:] for of in runs)).value)


def test_invalid_predictions_are_refused():
    a, _, labels, groups = predictions()
    images = TestImages(labels, groups)
    for wrong, error in ((2 * a, ValueError), (a[:5], ValueError), (a * np.nan, TrainingFailedError)):
        with pytest.raises(error):
            images.measure("accuracy", [RunPredictions(np.arange(60), wrong)])
    with pytest.raises(ValueError, match="one for each image"):
        TestImages(labels, groups[:5])


# Simulations, of which `simulate` has more and test_simulations the slow ones.


@pytest.mark.parametrize("cell", ["3 patients", "5 patients", "8 patients", "2 positives of 302", "5 positives of 305"])
def test_equal_arms_of_few_are_seldom_called_unequal(cell):
    assert simulate.error(simulate.NULL[cell], 150) <= 0.06 + 2 * np.sqrt(0.06 * 0.94 / 150)


def test_ten_seeds_on_three_patients_say_nothing():
    for seed in range(10):
        draw = simulate.patients(np.random.default_rng(seed), 3, 20, (0.0, 0.0))
        assert [simulate.verdict(draw, metric) for metric in METRICS] == [0, 0, 0]


def test_a_difference_is_found_where_there_are_enough():
    own, other = simulate.power(simulate.POWER["200 images, gain 1.0"], 40)
    assert own > 0.9 and own > other - 0.05


@pytest.mark.parametrize("cell", [(8, 1, 0.95), (8, 20, 0.8), (50, 1, 0.8)])
def test_the_interval_of_an_accuracy_holds_it(cell):
    assert simulate.accuracy_coverage(*cell, 200) > 0.92


def test_the_difference_of_two_means_is_the_test_of_welch():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1.0, 1.0, 30), rng.normal(0.5, 3.0, 12)
    found = intervals.difference_of_means(a, np.arange(30), b, np.arange(12))
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
    copies = intervals.difference_of_means(np.repeat(a, 3), np.repeat(np.arange(30), 3), b, np.arange(12))
    assert list(copies.values()) == pytest.approx(list(found.values()))
    few = intervals.difference_of_means(a, np.arange(30), b, np.arange(12) // 3)
    assert few["low"] is None and "4 groups of images on one side" in few["without"]
