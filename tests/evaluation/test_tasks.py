"""Several labels an image, ordered classes and values: scores, intervals, probe and neighbors, against others' code."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics
from sklearn.linear_model import LogisticRegression, Ridge

from jaxssl.evaluation import evaluate, knn, probe, scores, tasks
from jaxssl.evaluation.influence import influence, swap_contributions
from jaxssl.evaluation.intervals import RunPredictions, TestImages
from tests.refusals import refuses

N = 60
RNG = np.random.default_rng(0)
# Rounded, so that there are ties.
LABELS = RNG.integers(-1, 2, (N, 3))
MARKS = np.round(0.5 * RNG.random((N, 3)) + 0.4 * (LABELS == 1), 1)
VALUES = np.round(RNG.normal(size=N), 1).astype(np.float32)
GUESSES = np.round(VALUES + RNG.normal(size=N), 1)[:, None].astype(float)
GRADES, PROBABILITIES = RNG.integers(5, size=N), RNG.dirichlet(np.ones(5), N)
CASES = [
    ("auc_macro", MARKS, LABELS),
    ("average_precision", MARKS, LABELS),
    ("mae", GUESSES, VALUES),
    ("r2", GUESSES, VALUES),
    ("spearman", GUESSES, VALUES),
    ("mae", PROBABILITIES, GRADES),
    ("quadratic_kappa", PROBABILITIES, GRADES),
]


def of_labels(function):
    """Mean over labels of a score of scikit-learn, on the images in which each is known."""
    return lambda p, y: np.mean([function(y[y[:, c] >= 0, c], p[y[:, c] >= 0, c]) for c in range(3)])


ORACLES = [
    of_labels(sklearn_metrics.roc_auc_score),
    of_labels(sklearn_metrics.average_precision_score),
    lambda p, y: sklearn_metrics.mean_absolute_error(y, p[:, 0]),
    lambda p, y: sklearn_metrics.r2_score(y, p[:, 0]),
    lambda p, y: stats.spearmanr(y, p[:, 0]).statistic,
    lambda p, y: sklearn_metrics.mean_absolute_error(y, p.argmax(1)),
    lambda p, y: sklearn_metrics.cohen_kappa_score(y, p.argmax(1), weights="quadratic"),
]


@pytest.mark.parametrize(("case", "oracle"), list(zip(CASES, ORACLES, strict=True)))
def test_scores_are_those_of_scikit_learn(case, oracle):
    metric, predictions, labels = case
    assert scores.compute(metric, predictions, labels) == pytest.approx(oracle(predictions, labels))


@pytest.mark.parametrize("case", CASES)
def test_influence_is_the_derivative_by_the_weight_of_an_image(case):
    metric, predictions, labels = case
    predictions, labels = scores.check_predictions(predictions, labels)
    weighted, step = scores.METRICS[metric](predictions, labels), 1e-6
    derivative = (weighted(np.ones((N, N)) + step * np.eye(N)) - weighted(np.ones((1, N)))) / step
    np.testing.assert_allclose(influence(metric, predictions, labels), derivative, atol=1e-6)


@pytest.mark.parametrize("metric", ["auc_macro", "mae", "r2"])
def test_for_any_swap_the_difference_is_the_signed_sum_of_contributions(metric):
    a, labels = (MARKS, LABELS) if metric == "auc_macro" else (GUESSES, VALUES.astype(float))
    b = np.roll(a, 1, axis=0)
    contributions = swap_contributions(metric, a, b, labels)
    if metric == "auc_macro":  # Swaps are of ranks, among the images in which the label is known.
        known = labels >= 0
        a, b = (
            np.where(known, stats.rankdata(np.where(known, of, np.nan), axis=0, nan_policy="omit") / N, 0)
            for of in (a, b)
        )
    make = scores.METRICS[metric]
    for seed in range(3):
        swap = np.random.default_rng(seed).random(N) < 0.5 * bool(seed)
        one, other = (np.where(swap[:, None], *of) for of in ((b, a), (a, b)))
        score = [float(make(of, labels)(np.ones((1, N)))[0]) for of in (one, other)]
        assert np.where(swap, -contributions, contributions).sum() == pytest.approx(score[0] - score[1], abs=1e-9)


def test_what_is_unknown_takes_no_part():
    other = np.where(LABELS < 0, 1 - MARKS, MARKS)
    first, second = (evaluate.evaluate(p, LABELS, np.arange(N), task="multi") for p in (MARKS, other))
    assert first["metrics"] == second["metrics"] and first["by_label"] == second["by_label"]
    losses = [tasks.binary_log_losses(p, LABELS) for p in (MARKS, other)]
    np.testing.assert_array_equal(*losses)
    assert first["by_label"][0]["images"] == (LABELS[:, 0] >= 0).sum() < N


def test_the_interval_of_an_error_is_that_of_a_mean():
    errors = np.abs(GUESSES[:, 0] - VALUES)
    low, high = stats.t.interval(0.95, N - 1, errors.mean(), stats.sem(errors))
    found = TestImages(VALUES, np.arange(N)).measure("mae", [RunPredictions(np.arange(N), GUESSES)])
    assert found.ends == pytest.approx((low, high))
    doubled = TestImages(np.repeat(VALUES, 2), np.repeat(np.arange(N), 2))
    again = doubled.measure("mae", [RunPredictions(np.arange(2 * N), np.repeat(GUESSES, 2, axis=0))])
    assert again.ends == pytest.approx(found.ends)


def test_intervals_need_groups_with_and_without_the_labels():
    rows, rare = [RunPredictions(np.arange(N), MARKS)], LABELS.copy()
    assert TestImages(LABELS, np.arange(N)).measure("auc_macro", rows).ends
    rare[:, 0] = np.arange(N) == 0
    assert "too few groups" in TestImages(rare, np.arange(N)).measure("auc_macro", rows).without
    assert (
        "interval needs 5"
        in TestImages(VALUES, np.arange(N) % 4).measure("r2", [rows[0]._replace(probabilities=GUESSES)]).without
    )


def test_groups_are_scored_by_their_mean_prediction():
    groups = np.arange(N) // 3
    grades = GRADES[groups]
    found = evaluate.evaluate(PROBABILITIES, grades, groups, task="ordinal")["by_group"]
    means = PROBABILITIES.reshape(-1, 3, 5).mean(axis=1)
    assert found["groups"] == N // 3
    assert found["metrics"]["accuracy"]["value"] == np.mean(means.argmax(1) == grades[::3])
    assert evaluate.evaluate(PROBABILITIES, GRADES, groups, task="ordinal")["by_group"] is None
    assert evaluate.evaluate(PROBABILITIES, GRADES, np.arange(N), task="ordinal")["by_group"] is None


def test_neighbors_of_which_a_label_is_unknown_do_not_vote():
    train, targets = np.eye(4)[[0, 0, 1, 2]] + 0.01, np.array([[1.0], [np.nan], [0.0], [0.5]])
    weights = np.exp(train @ train[0] / np.linalg.norm(train, axis=1) / np.linalg.norm(train[0]) / 0.07)
    known = np.array([0, 2, 3])
    expected = weights[known] @ targets[known, 0] / weights[known].sum()
    assert knn.predict(train, targets, train[:1])[0, 0] == pytest.approx(expected)
    assert knn.predict(train, targets, train[1:2], k=1)[0, 0] in (0.5, 1.0)  # The neighbor, or the mean of all.


def test_the_probe_of_several_labels_is_one_regression_each():
    x = np.random.default_rng(1).normal(size=(N, 4)) @ np.diag([1, 2, 3, 4])
    labels = np.where(LABELS < 0, -1, x[:, :3] + np.random.default_rng(2).normal(size=(N, 3)) > 0).astype(int)
    labels[:, 2] = 1
    found = probe.predict_proba(probe.fit(x, labels, x, labels, classes=3, Cs=(0.1,)), x)
    scaled = (x - x.mean(0)) / x.std(0)
    for c in range(2):
        known = labels[:, c] >= 0
        one = LogisticRegression(C=0.1).fit(scaled[known], labels[known, c])
        np.testing.assert_allclose(found[:, c], one.predict_proba(scaled)[:, 1], atol=1e-3)
    np.testing.assert_allclose(found[:, 2], (N + 0.5) / (N + 1))


def test_the_probe_of_values_is_ridge_regression():
    x = np.random.default_rng(1).normal(size=(N, 4))
    fitted = probe.fit(x, VALUES, x, VALUES, classes=1, metric="r2", Cs=(0.01,))
    scaled = (x - x.mean(0)) / x.std(0)
    expected = Ridge(alpha=100).fit(scaled, VALUES).predict(scaled)
    np.testing.assert_allclose(probe.predict_proba(fitted, x)[:, 0], expected)
    assert fitted.validation == pytest.approx(sklearn_metrics.r2_score(VALUES, expected))


def test_the_score_that_selects_is_one_of_the_task():
    assert tasks.selection_metric(tasks.TASKS["value"], "auto") == "r2"
    assert tasks.selection_metric(tasks.TASKS["ordinal"], "quadratic_kappa") == "quadratic_kappa"
    with refuses("conflict", "transfer.select", "accuracy", "r2, spearman"):
        tasks.selection_metric(tasks.TASKS["value"], "accuracy")


@pytest.mark.parametrize(
    ("predictions", "labels"),
    [(GUESSES, np.full(N, np.nan)), (MARKS, np.full((N, 3), 2)), (2 * MARKS, LABELS), (MARKS[:, :2], LABELS)],
)
def test_predictions_that_do_not_fit_are_refused(predictions, labels):
    with pytest.raises(ValueError, match=r"must|\[0, 1\]"):
        scores.check_predictions(predictions, labels)


# Coverage in simulations.


def several_labels(rng, prevalence, shift, groups, size):
    """Labels of groups of `size` images, and scores whose AUC is that of two normal distributions `shift` apart."""
    of = np.repeat(np.arange(groups), size)
    labels = (rng.random((groups, len(prevalence))) < prevalence).astype(int)[of]
    own, shared = rng.normal(size=labels.shape), rng.normal(size=(groups, len(prevalence)))[of]
    z = labels * shift + (own if size == 1 else np.sqrt(0.75) * own + 0.5 * shared)
    return stats.norm.cdf(z), labels, of


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prevalence", "shift", "groups", "size"),
    [
        (np.linspace(0.35, 0.03, 14), 1.0, 100, 1),
        (np.linspace(0.35, 0.03, 14), 2.5, 100, 1),
        ((0.3, 0.2, 0.1), 1.0, 60, 1),
        ((0.3, 0.2, 0.1), 1.0, 50, 4),
    ],
)
def test_intervals_of_several_labels_cover(prevalence, shift, groups, size):
    rng, held = np.random.default_rng(0), []
    for _ in range(400):
        p, labels, of = several_labels(rng, prevalence, shift, groups, size)
        found = TestImages(labels, of).measure("auc_macro", [RunPredictions(np.arange(len(p)), p)])
        if found.ends:
            held.append(found.ends[0] <= stats.norm.cdf(shift / np.sqrt(2)) <= found.ends[1])
    print(f"{len(prevalence)} labels, {groups} groups of {size}: {np.mean(held):.3f} of {len(held)}")
    assert len(held) > 300 and np.mean(held) > 0.93


@pytest.mark.slow
@pytest.mark.parametrize(("groups", "size"), [(20, 1), (60, 1), (20, 4)])
def test_intervals_of_values_cover(groups, size):
    rng = np.random.default_rng(0)

    def draw(groups):
        of = np.repeat(np.arange(groups), size)
        y, shared = rng.normal(size=(2, groups))[:, of]
        own = rng.normal(size=len(of))
        return 0.7 * y + 0.5 * (own if size == 1 else np.sqrt(0.5) * (own + shared)), y, of

    p, y, _ = draw(200_000)
    true = {metric: scores.compute(metric, p[:, None], y) for metric in ("mae", "r2", "spearman")}
    held = {metric: [] for metric in true}
    for _ in range(400):
        p, y, of = draw(groups)
        for metric, value in true.items():
            found = TestImages(y, of).measure(metric, [RunPredictions(np.arange(len(p)), p[:, None])])
            held[metric].append(found.ends[0] <= value <= found.ends[1])
    for metric, of in held.items():
        print(f"{metric}, {groups} groups of {size}: {np.mean(of):.3f}")
        assert np.mean(of) > 0.91


@pytest.mark.slow
def test_equal_arms_on_several_labels_and_values_are_called_unequal_in_at_most_6_percent():
    rng, found = np.random.default_rng(0), {"auc_macro": [], "mae": []}
    for _ in range(400):
        a, labels, of = several_labels(rng, (0.3, 0.2, 0.1), 1.0, 30, 2)
        b = stats.norm.cdf(labels + rng.normal(size=labels.shape))
        a = stats.norm.cdf(labels + rng.normal(size=labels.shape))
        y = rng.normal(size=30)[of]
        values = [(y + rng.normal(size=60))[:, None] for _ in range(2)]
        for metric, truth, pair in (("auc_macro", labels, (a, b)), ("mae", y, values)):
            arms = [[RunPredictions(np.arange(60), p)] for p in pair]
            p = TestImages(truth, of).compare(metric, *arms).p
            found[metric].append(p is not None and p <= 0.05)
    for metric, wrong in found.items():
        print(f"{metric}: {np.mean(wrong):.3f}")
        assert np.mean(wrong) <= 0.06 + 1.5 * np.sqrt(0.06 * 0.94 / 400)
