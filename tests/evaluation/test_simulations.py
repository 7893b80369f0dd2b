"""Coverage and error rates of intervals and tests in simulated studies (slow): the cells of `simulate`, and tests over
runs. A share of 1,000 trials has a standard error of .007 at .05. With `-s` they print what they found.
"""

import numpy as np
import pytest
from scipy import stats

from jaxssl.evaluation import significance
from jaxssl.evaluation.intervals import RunPredictions, TestImages
from jaxssl.results.study_conclusions import judge_difference
from jaxssl.study import analysis
from tests.evaluation import simulate

TRIALS = 2000
SHARES = 1000  # Trials of a cell.


def standard_error(share, trials=SHARES):
    return np.sqrt(share * (1 - share) / trials)


@pytest.mark.slow
@pytest.mark.parametrize("cell", simulate.NULL)
def test_equal_arms_are_called_unequal_in_at_most_6_percent(cell):
    for metric in ("auc_macro", "accuracy"):
        share = simulate.error(simulate.NULL[cell], SHARES, metric)
        print(f"{cell}, {metric}: {share:.3f}")
        assert share <= 0.06 + 1.5 * standard_error(0.06)


@pytest.mark.slow
@pytest.mark.parametrize("cell", simulate.POWER)
def test_the_power_is_that_of_a_bootstrap(cell):
    own, other = simulate.power(simulate.POWER[cell], SHARES // 2)
    print(f"{cell}: {own:.3f}, by the bootstrap {other:.3f}")
    assert own >= other - 0.06  # The bootstrap errs more often, too.


@pytest.mark.slow
@pytest.mark.parametrize("cell", simulate.COVERAGE)
def test_intervals_of_the_auc_and_of_differences_hold_the_truth(cell):
    """From .93 on; more than .97 where an AUC is near 1 or a class has few images: there they are conservative."""
    one, both = simulate.coverage(*simulate.COVERAGE[cell], SHARES)
    print(f"{cell}: {one:.3f}, difference {both:.3f}")
    assert min(one, both) >= 0.93 - 2 * standard_error(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("cell", simulate.TWO_KINDS)
def test_intervals_of_the_auc_hold_the_truth_where_positive_images_are_of_two_kinds(cell):
    """A narrower interval, with the variance of theory, would hold it in .84 to .95 only."""
    own, alone = simulate.coverage_of_two_kinds(*cell, SHARES)
    print(f"{cell}: {own:.3f}, Newcombe's alone {alone:.3f}")
    assert own >= 0.93 - 2 * standard_error(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("cell", simulate.ACCURACY)
def test_intervals_of_the_accuracy_hold_the_truth(cell):
    share = simulate.accuracy_coverage(*cell, SHARES)
    print(f"{cell}: {share:.3f}")
    assert share >= 0.93 - 2 * standard_error(0.05)


@pytest.mark.slow
def test_type_one_error_of_mcnemar():
    """It is exact, so that it errs less often than it may; with more discordant images nearly as often."""
    rng = np.random.default_rng(0)
    for images in (100, 2000):
        right = stats.norm.cdf(1 + rng.normal(size=(TRIALS * 2, 1, images))) > rng.uniform(size=(TRIALS * 2, 2, images))
        ps = np.array([significance.mcnemar_p(*significance.count_discordant(a, b)) for a, b in right])
        print(f"McNemar on {images} images: {np.mean(ps < 0.05)}")
        assert (0.01 if images == 100 else 0.035) <= np.mean(ps < 0.05) <= 0.055


@pytest.mark.slow
def test_type_one_error_of_the_corrected_t_test_with_shared_training_images():
    """Two equally good nearest-mean learners, each on a feature of its own, on random splits and on folds of 200 images
    that are drawn anew in each trial; without the correction of Nadeau and Bengio the t-test errs far too often.
    """
    images, splits, trials = 200, 10, 1000
    missed = {design: {"corrected": 0, "plain": 0} for design in ("random splits", "folds")}
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        labels = rng.integers(2, size=images)
        x = rng.normal(size=(2, images)) + np.where(labels == 1, 0.5, -0.5)
        order = rng.permutation(images)
        tests = {
            "random splits": [rng.permutation(images)[:20] for _ in range(splits)],
            "folds": np.array_split(order, splits),
        }
        for design, of in tests.items():
            values = []
            for test in of:
                train = np.setdiff1d(np.arange(images), test)
                right = []
                for feature in x:
                    low, high = (feature[train][labels[train] == c].mean() for c in range(2))
                    right.append(((feature[test] > (low + high) / 2) == labels[test]).mean())
                values.append(right[0] - right[1])
            for name, ratio in (("corrected", 20 / 180), ("plain", 0.0)):
                p = significance.corrected_t_test(values, seeds=splits, test_to_train=ratio)["p"]
                missed[design][name] += p is not None and p < 0.05
    print(f"errors of {trials}: {missed}")
    for of in missed.values():
        assert of["corrected"] / trials <= 0.07
    assert missed["random splits"]["corrected"] / trials >= 0.02
    assert missed["random splits"]["plain"] / trials > 0.10


@pytest.mark.slow
def test_familywise_error_of_a_study_of_equal_arms():
    """Nine arms against a tenth, all equally good, on the same test images with five seeds that hardly differ: p over
    seeds is small in each, for on these images one arm is better. Only p-values of both kinds, corrected, keep the
    promise for all; and those over the groups alone, corrected, that for these networks.
    """
    arms, seeds, trials = 10, 5, 300
    wrong, here, seeds_alone = 0, 0, 0
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        sizes = rng.integers(1, 3, size=150)
        groups, labels = np.repeat(np.arange(150), sizes), np.repeat(rng.integers(2, size=150), sizes)
        images, rows = TestImages(labels, groups), np.arange(len(labels))
        runs = []
        for _ in range(arms):
            hard = rng.normal(size=150)[groups]
            evidence = 0.8 * (2 * labels - 1) + hard + 0.1 * rng.normal(size=(seeds, len(labels)))
            runs.append([RunPredictions(rows, simulate.probabilities(e)) for e in evidence])
        measured = [images.measure("auc_macro", of) for of in runs]
        found = []
        for k in range(1, arms):
            compared = images.compare("auc_macro", runs[k], runs[0], measured[k], measured[0])
            d = analysis.summarize(compared, [(seed, None) for seed in range(seeds)], 0.0)
            analysis.add_p_values(d, compared)
            d |= {"a": "a", "b": "b", "effect": True, "metric": "auc_macro", "protocol": "probe", "labels": "100 %"}
            found.append(d | {"mcnemar": None, "without": "", "runs": seeds, "seeds": seeds})
        old = significance.holm([d["over_runs"]["p"] for d in found])
        seeds_alone += any(p < 0.05 for p in old)
        analysis.adjust_p_values(found)
        verdicts = [judge_difference(d)[0] for d in found]
        wrong += any(verdict in ("higher", "lower") for verdict in verdicts)
        here += any(verdict != "open" for verdict in verdicts)
    print(
        f"wrong {wrong / trials:.3f}, of these networks {here / trials:.3f}, by seeds alone {seeds_alone / trials:.3f}"
    )
    assert wrong <= here
    assert here / trials <= 0.06 + 1.5 * standard_error(0.06, trials)
    assert seeds_alone / trials > 0.15


def test_holm_on_a_published_example():
    """Of four p-values the first and the last are rejected at 5 % (Wikipedia, "Holm-Bonferroni method")."""
    assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
