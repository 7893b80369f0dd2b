"""Coverage and error rates of intervals and tests in simulated studies (slow), and against DeLong.

Images come in groups, as slices of a patient: those of a group share how hard they are. A share of 2,000 trials has a
standard error of half a point at 95 %. With `-s` they print what they found.
"""

import numpy as np
import pytest
from scipy import stats

from jaxssl.evaluation import scores, significance
from jaxssl.evaluation.significance import RunPredictions
from jaxssl.results.study_conclusions import judge_difference
from jaxssl.study import analysis

TRIALS = 2000
METRICS = ("accuracy", "auc_macro")


def patients(rng, count, most=3):
    """The group [N] and the label [N] of the images of so many patients, each with 1 to `most` of one label."""
    sizes = rng.integers(1, most + 1, size=count)
    return np.repeat(np.arange(count), sizes), np.repeat(rng.integers(2, size=count), sizes)


def predict(rng, groups, labels, lift, within, shared=0.0):
    """Probabilities [N, 2] by evidence `lift` for the truth, less what is hard: a part of each patient's own with the
    deviation 1, of which the array `shared` is given, and one of each image's with the deviation `within`.
    """
    own = rng.normal(size=groups.max() + 1)[groups]
    hard = np.sqrt(0.5) * (own + shared) if np.ndim(shared) else own
    logit = np.where(labels == 1, 1, -1) * lift + hard + within * rng.normal(size=len(labels))
    p = 1 / (1 + np.exp(-logit))
    return np.stack([1 - p, p], axis=1)


def truth(lift, within):
    """Accuracy and AUC of infinitely many patients: the evidence is normal about +-lift."""
    deviation = np.hypot(1, within)
    return {"accuracy": stats.norm.cdf(lift / deviation), "auc_macro": stats.norm.cdf(2 * lift / deviation / 2**0.5)}


@pytest.mark.slow
def test_coverage_of_bootstrap_intervals_over_groups():
    """93 to 97 %, where those of images taken one by one, as if each were another patient, do not."""
    expected = truth(0.8, 0.5)
    covered, naive = (dict.fromkeys(METRICS, 0) for _ in range(2))
    for trial in range(TRIALS):
        rng = np.random.default_rng(trial)
        groups, labels = patients(rng, 120)
        p = predict(rng, groups, labels, 0.8, 0.5)
        for counts, of in ((covered, groups), (naive, np.arange(len(labels)))):
            found = scores.evaluate(p, labels, of, seed=trial, resamples=400)["metrics"]
            for metric in METRICS:
                counts[metric] += found[metric]["low"] <= expected[metric] <= found[metric]["high"]
    shares = {metric: (covered[metric] / TRIALS, naive[metric] / TRIALS) for metric in METRICS}
    for metric, (by_group, by_image) in shares.items():
        print(f"coverage of {metric}: {by_group:.3f} by groups, {by_image:.3f} by images")
        assert 0.93 <= by_group <= 0.97 and by_image < 0.91


@pytest.mark.slow
def test_coverage_of_paired_differences():
    """Two classifiers that find the same patients hard: better by a known amount, and equally good."""
    for lift in (1.1, 0.8):
        a, b = truth(lift, 0.5), truth(0.8, 0.5)
        covered = dict.fromkeys(METRICS, 0)
        for trial in range(TRIALS):
            rng = np.random.default_rng(trial)
            groups, labels = patients(rng, 120)
            shared = rng.normal(size=120)[groups]
            of_a, of_b = (predict(rng, groups, labels, of, 0.5, shared) for of in (lift, 0.8))
            for metric in METRICS:
                d = scores.paired_difference(of_a, of_b, labels, groups, metric, seed=trial, resamples=400)
                covered[metric] += d["low"] <= a[metric] - b[metric] <= d["high"]
        for metric in METRICS:
            print(f"coverage of a difference in {metric}, lift {lift} against 0.8: {covered[metric] / TRIALS:.3f}")
            # With no difference, what is not covered is the error of the first kind.
            assert 0.93 <= covered[metric] / TRIALS <= 0.97, metric


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
    seeds is small in each, for on these images one arm is better; and of nine intervals over the test groups, each with
    its own 95 %, some lie apart from 0. Only p-values of both kinds, corrected, keep the promise for all.
    """
    arms, seeds, trials, wrong, seeds_alone = 10, 5, 300, 0, 0
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        groups, labels = patients(rng, 150, most=2)
        parts = []
        for _ in range(arms):
            hard = rng.normal(size=groups.max() + 1)[groups]
            for _ in range(seeds):
                p = 1 / (1 + np.exp(-(0.8 * np.where(labels == 1, 1, -1) + hard + 0.1 * rng.normal(size=len(labels)))))
                parts.append(RunPredictions(np.arange(len(labels)), np.stack([1 - p, p], axis=1)))
        drawn = significance.bootstrap_scores(parts, labels, groups, ("auc_macro",), seed=trial, resamples=200)
        of = np.array([d["auc_macro"] for d in drawn]).reshape(arms, seeds, -1)
        found = []
        for d in of[1:] - of[0]:
            d = analysis.summarize(d, [(seed, None) for seed in range(seeds)], 0.0)
            found.append(d | {"a": "a", "b": "b", "metric": "auc_macro", "protocol": "probe", "labels": "100 %"})
            found[-1] |= {"mcnemar": None, "runs": seeds, "seeds": seeds}
        for d, values in zip(found, of[1:] - of[0], strict=True):
            analysis.add_p_values(d, values)
        old = significance.holm([d["over_runs"]["p"] for d in found])
        sided = [d["over_groups"]["low"] > 0 or d["over_groups"]["high"] < 0 for d in found]
        seeds_alone += any(s and p < 0.05 for s, p in zip(sided, old, strict=True))
        analysis.adjust_p_values(found)
        wrong += any(judge_difference(d)[0] in ("higher", "lower") for d in found)
    print(f"wrong verdicts in {wrong / trials:.3f} of the studies; by p over seeds alone in {seeds_alone / trials:.3f}")
    assert wrong / trials <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / trials)
    assert seeds_alone / trials > 0.15


# Against published variances of the AUC.


def placements(scored, labels):
    """For each positive the share of negatives below it, for each negative that of positives above it, ties half."""
    positive, negative = scored[labels == 1], scored[labels == 0]
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    return wins.mean(axis=1), wins.mean(axis=0)


def delong(a, b, labels):
    """Standard errors of the AUC of `a` and of its difference from that of `b` (DeLong et al. 1988, Biometrics 44:837,
    eq. 5 and following).
    """
    (a1, a0), (b1, b0) = (placements(scored, labels) for scored in (a, b))
    covariance = np.cov(a1, b1) / len(a1) + np.cov(a0, b0) / len(a0)
    return np.sqrt(covariance[0, 0]), np.sqrt(np.array([1, -1]) @ covariance @ np.array([1, -1]))


def obuchowski(scored, labels, groups):
    """The standard error of the AUC where images come in groups (Obuchowski 1997, Biometrics 53:567)."""
    v1, v0 = placements(scored, labels)
    auc, names = v1.mean(), np.unique(groups)
    ones = np.array([(v1[groups[labels == 1] == g] - auc).sum() for g in names])
    zeros = np.array([(v0[groups[labels == 0] == g] - auc).sum() for g in names])
    of1, of0 = (len(np.unique(groups[labels == c])) for c in (1, 0))
    s1 = of1 / (of1 - 1) * (ones**2).sum() / len(v1)
    s0 = of0 / (of0 - 1) * (zeros**2).sum() / len(v0)
    s10 = len(names) / (len(names) - 1) * (ones * zeros).sum()
    return np.sqrt(s1 / len(v1) + s0 / len(v0) + 2 * s10 / len(v1) / len(v0))


def width(ends):
    return (ends["high"] - ends["low"]) / (2 * stats.norm.ppf(0.975))


def test_the_interval_of_the_auc_is_as_wide_as_that_of_delong():
    rng = np.random.default_rng(0)
    groups, labels = np.arange(400), rng.integers(2, size=400)
    shared = rng.normal(size=400)
    a, b = (predict(rng, groups, labels, lift, 0.5, shared).round(2) for lift in (1.0, 0.8))
    one, two = delong(a[:, 1], b[:, 1], labels)
    found = scores.evaluate(a, labels, groups, seed=0, resamples=4000)["metrics"]["auc_macro"]
    assert width(found) == pytest.approx(one, rel=0.06)
    found = scores.paired_difference(a, b, labels, groups, "auc_macro", seed=0, resamples=4000)
    assert width(found) == pytest.approx(two, rel=0.06)
    drawn = significance.bootstrap_scores(
        [RunPredictions(groups, p) for p in (a, b)], labels, groups, ("auc_macro",), seed=0, resamples=4000
    )
    p = significance.group_p_value((drawn[0]["auc_macro"] - drawn[1]["auc_macro"])[None])
    assert stats.norm.isf(p / 2) == pytest.approx(abs(found["value"]) / two, rel=0.06)


@pytest.mark.parametrize("mixed", [False, True])
def test_the_interval_of_the_auc_over_groups_is_as_wide_as_that_of_obuchowski(mixed):
    """With patients of one label each, and with some who have both."""
    rng = np.random.default_rng(1)
    groups, labels = patients(rng, 250, most=5)
    if mixed:
        labels = rng.integers(2, size=len(labels))
    p = predict(rng, groups, labels, 0.8, 0.5)
    found = scores.evaluate(p, labels, groups, seed=0, resamples=4000)["metrics"]["auc_macro"]
    expected = obuchowski(p[:, 1], labels, groups)
    assert width(found) == pytest.approx(expected, rel=0.06)
    naive, _ = delong(p[:, 1], p[:, 1], labels)
    assert abs(expected / naive - 1) > 0.15


def test_group_p_value_is_none_where_undefined():
    assert significance.group_p_value(np.array([[0.1, 0.1, 0.1]])) is None
    assert significance.group_p_value(np.array([[0.1]])) is None
    assert significance.group_p_value(np.array([[np.nan, 0.1, 0.2]])) is None
    drawn = np.array([[0.1, 0.05, np.nan, 0.15], [0.1, 0.15, 0.1, 0.25]])
    assert significance.group_p_value(drawn) == pytest.approx(2 * stats.norm.sf(0.1 / 0.05))


def test_holm_on_a_published_example():
    """Of four p-values the first and the last are rejected at 5 % (Wikipedia, "Holm-Bonferroni method")."""
    assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
