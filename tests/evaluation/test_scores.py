import json

import numpy as np
import pytest
from sklearn import metrics

from jaxssl.errors import TrainingFailedError
from jaxssl.evaluation import scores
from tests.refusals import refuses

NAMES = ["accuracy", "balanced_accuracy", "auc_macro", "f1_macro", "ece"]


def predictions(seed=0, images=120, classes=4, groups=40, decimals=1):
    """Informative predictions, rounded so that scores tie, with unequal groups and classes."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, images, p=np.arange(1, classes + 1) / (classes * (classes + 1) / 2))
    logits = rng.normal(size=(images, classes)) + 1.5 * np.eye(classes)[labels]
    probabilities = np.round(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), decimals)
    probabilities[:, 0] += 1 - probabilities.sum(1)
    return probabilities, labels, np.array([f"lesion{g}" for g in rng.integers(groups, size=images)])


def slow_ece(probabilities, labels, bins=15):
    total = 0.0
    for m in range(bins):
        inside = [i for i, p in enumerate(probabilities) if m / bins < p.max() <= (m + 1) / bins]
        if inside:
            hits = np.mean([probabilities[i].argmax() == labels[i] for i in inside])
            total += len(inside) / len(labels) * abs(hits - np.mean([probabilities[i].max() for i in inside]))
    return total


def sklearn_scores(probabilities, labels):
    predicted, present = probabilities.argmax(1), np.unique(labels)
    columns = [1] if probabilities.shape[1] == 2 else present
    aucs = [metrics.roc_auc_score(labels == c, probabilities[:, c]) for c in columns] if len(present) > 1 else [np.nan]
    recalls = [np.mean(predicted[labels == c] == c) for c in present]
    return {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "balanced_accuracy": np.mean(recalls),
        "auc_macro": np.mean(aucs),
        "f1_macro": metrics.f1_score(labels, predicted, labels=present, average="macro", zero_division=0),
        "ece": slow_ece(probabilities, labels),
    }


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("decimals", [1, 12])
def test_values_are_those_of_scikit_learn(classes, decimals):
    probabilities, labels, groups = predictions(images=150, classes=classes, decimals=decimals)
    result = scores.evaluate(probabilities, labels, groups, seed=0, resamples=2)
    predicted = probabilities.argmax(1)
    if classes == 2:
        auc = metrics.roc_auc_score(labels, probabilities[:, 1])
    else:
        auc = metrics.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    expected = {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, predicted),
        "auc_macro": auc,
        "f1_macro": metrics.f1_score(labels, predicted, average="macro"),
        "ece": slow_ece(probabilities, labels),
    }
    for name in NAMES:
        assert result["metrics"][name]["value"] == pytest.approx(expected[name], abs=1e-12), name
        assert getattr(scores, name)(probabilities, labels) == result["metrics"][name]["value"]
    assert result["confusion"] == metrics.confusion_matrix(labels, predicted, labels=range(classes)).tolist()
    assert result["images"] == 150
    assert result["majority_accuracy"] == max(np.mean(labels == c) for c in range(classes))
    assert result["constant_predictor"] is False


def test_intervals_equal_a_literal_bootstrap_of_rows():
    # So few images of class 0 that some resamples lack it.
    probabilities, labels, groups = predictions(images=30, classes=4, groups=12)
    seed, resamples = 3, 100
    names = sorted(set(groups))
    oracle = {name: [] for name in NAMES}
    missing = 0
    for draw in np.random.default_rng(seed).integers(len(names), size=(resamples, len(names))):
        rows = [row for g in draw for row in np.flatnonzero(groups == names[g])]
        missing += len(set(labels[rows])) < 4
        for name, value in sklearn_scores(probabilities[rows], labels[rows]).items():
            oracle[name].append(value)
    assert missing
    result = scores.evaluate(probabilities, labels, groups, seed=seed, resamples=resamples)
    for name in NAMES:
        interval = [result["metrics"][name]["low"], result["metrics"][name]["high"]]
        np.testing.assert_allclose(interval, np.percentile(oracle[name], [2.5, 97.5]), atol=1e-12, err_msg=name)


@pytest.mark.parametrize("metric", NAMES)
def test_paired_differences_equal_a_literal_bootstrap_of_rows(metric):
    a, labels, groups = predictions(images=30, classes=4, groups=12)
    b = np.roll(a, 1, axis=0)
    seed, names, oracle = 3, sorted(set(groups)), []
    for draw in np.random.default_rng(seed).integers(len(names), size=(60, len(names))):
        rows = [row for g in draw for row in np.flatnonzero(groups == names[g])]
        oracle.append(sklearn_scores(a[rows], labels[rows])[metric] - sklearn_scores(b[rows], labels[rows])[metric])
    found = scores.paired_difference(a, b, labels, groups, metric, seed=seed, resamples=60)
    whole = sklearn_scores(a, labels)[metric] - sklearn_scores(b, labels)[metric]
    assert found["value"] == pytest.approx(whole, abs=1e-12)
    np.testing.assert_allclose([found["low"], found["high"]], np.percentile(oracle, [2.5, 97.5]), atol=1e-12)


def test_paired_difference_of_equal_undefined_or_other_predictions():
    a, labels, groups = predictions()
    same = scores.paired_difference(a, a, labels, groups, "auc_macro", seed=0, resamples=50)
    assert same == {"value": 0, "low": 0, "high": 0}
    undefined = {"value": None, "low": None, "high": None}
    for rows in (labels == 3, slice(0)):
        one = scores.paired_difference(a[rows], a[rows], labels[rows], groups[rows], "auc_macro", seed=0, resamples=50)
        assert one == undefined
    alone = scores.paired_difference(a, a[::-1], labels, np.full(len(labels), "same"), "accuracy", seed=0)
    assert alone["value"] is not None and alone["low"] is None and alone["high"] is None
    with pytest.raises(ValueError, match=r"must be \[119\]"):
        scores.paired_difference(a, a[1:], labels, groups, "accuracy", seed=0)


def test_a_paired_interval_is_narrower_than_two_intervals():
    a, labels, groups = predictions(images=200)
    b = 0.9 * a + 0.1 * np.roll(a, 1, axis=0)
    paired = scores.paired_difference(a, b, labels, groups, "auc_macro", seed=0, resamples=300)
    alone = scores.evaluate(a, labels, groups, seed=0, resamples=300)["metrics"]["auc_macro"]
    assert paired["high"] - paired["low"] < 0.6 * (alone["high"] - alone["low"])


def test_resamples_without_a_second_class_are_left_out_of_the_auc():
    # Two groups: half of the resamples draw one of them twice.
    probabilities, labels, groups = np.array([[0.9, 0.1], [0.7, 0.3]]), np.array([0, 1]), np.array(["a", "b"])
    auc = scores.evaluate(probabilities, labels, groups, seed=0, resamples=50)["metrics"]["auc_macro"]
    assert auc == {"value": 1, "low": 1, "high": 1}


def test_auc_of_two_classes_ignores_the_rounding_of_one_minus_p():
    assert scores.auc_macro(np.array([[1.0, 1e-18], [1.0, 1e-17]]), np.array([0, 1])) == 1


def test_chunks_do_not_change_the_draws(monkeypatch):
    probabilities, labels, groups = predictions()
    whole = scores.evaluate(probabilities, labels, groups, seed=1, resamples=50)
    monkeypatch.setattr(scores, "_CHUNK", 7 * len(labels))
    assert scores.evaluate(probabilities, labels, groups, seed=1, resamples=50) == whole


def test_a_function_of_seed_and_data_in_any_order():
    probabilities, labels, groups = predictions()
    one = scores.evaluate(probabilities, labels, groups, seed=1, resamples=100)
    assert scores.evaluate(probabilities, labels, groups, seed=1, resamples=100) == one
    assert scores.evaluate(probabilities, labels, groups, seed=2, resamples=100)["metrics"] != one["metrics"]
    order = np.random.default_rng(0).permutation(len(labels))
    shuffled = scores.evaluate(probabilities[order], labels[order], groups[order], seed=1, resamples=100)
    for name in NAMES:
        assert shuffled["metrics"][name] == pytest.approx(one["metrics"][name], abs=1e-12)


def test_copies_within_a_group_do_not_narrow_the_interval():
    probabilities, labels, _ = predictions(images=80)
    groups = np.array([f"patient{i}" for i in range(80)])
    once = scores.evaluate(probabilities, labels, groups, seed=0, resamples=300)["metrics"]
    copied = [np.repeat(array, 3, axis=0) for array in (probabilities, labels, groups)]
    thrice = scores.evaluate(*copied, seed=0, resamples=300)["metrics"]
    naive = scores.evaluate(*copied[:2], np.arange(240).astype(str), seed=0, resamples=300)["metrics"]
    for name in NAMES:
        assert thrice[name] == pytest.approx(once[name], abs=1e-12)
    for name in NAMES[:4]:
        # Three copies taken for three images: intervals too narrow by the root of three.
        width, narrow = (m[name]["high"] - m[name]["low"] for m in (thrice, naive))
        assert 1.4 < width / narrow < 2.1


def test_width_of_the_accuracy_interval_is_binomial():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=500)
    predicted = np.where(rng.random(500) < 0.8, labels, 1 - labels)
    result = scores.evaluate(np.eye(2)[predicted], labels, np.arange(500).astype(str), seed=0)["metrics"]["accuracy"]
    share = result["value"]
    normal = 2 * 1.96 * np.sqrt(share * (1 - share) / 500)
    assert result["low"] < share < result["high"]
    assert (result["high"] - result["low"]) / normal == pytest.approx(1, abs=0.1)


def test_coverage_of_the_interval():
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        hits = np.repeat(rng.random(60) < 0.7, 2)  # two images a patient, right or wrong together
        patients = np.repeat(np.arange(60), 2).astype(str)
        predicted = np.eye(2)[1 - hits.astype(int)]
        metric = scores.evaluate(predicted, np.zeros(120, int), patients, seed=seed, resamples=200)["metrics"]
        covered += metric["accuracy"]["low"] <= 0.7 <= metric["accuracy"]["high"]
    # Binomial with p = .95: 190 +- 3.1; the percentile interval is a little short at 60 groups.
    assert 178 <= covered <= 199


def test_two_thousand_resamples_of_a_rare_class_are_json():
    probabilities, labels, groups = predictions(images=300, classes=7)
    text = json.dumps(
        scores.evaluate(probabilities.astype(np.float32), labels.astype(np.int32), groups, seed=0), allow_nan=False
    )
    assert set(json.loads(text)["metrics"]) == set(NAMES)


def test_one_class_leaves_the_auc_undefined():
    probabilities = np.array([[0.6, 0.4], [0.7, 0.3], [0.2, 0.8]])
    result = scores.evaluate(probabilities, np.zeros(3, int), np.array(list("abc")), seed=0, resamples=50)
    assert result["metrics"]["auc_macro"] == {"value": None, "low": None, "high": None}
    assert result["metrics"]["balanced_accuracy"]["value"] == pytest.approx(2 / 3)
    assert scores.selection_score(probabilities, np.zeros(3, int), "auc_macro") == -np.inf


def test_one_group_has_no_interval():
    probabilities, labels, _ = predictions()
    result = scores.evaluate(probabilities, labels, np.full(len(labels), "same"), seed=0)["metrics"]
    for name in NAMES:
        assert result[name]["value"] is not None
        assert result[name]["low"] is None and result[name]["high"] is None


def test_no_images():
    result = scores.evaluate(np.empty((0, 3)), np.empty(0, int), np.empty(0, str), seed=0)
    assert all(metric == {"value": None, "low": None, "high": None} for metric in result["metrics"].values())
    assert result["images"] == 0 and result["majority_accuracy"] is None and result["constant_predictor"] is False
    assert result["confusion"] == [[0] * 3] * 3


def test_constant_predictor():
    labels = np.array([0, 0, 0, 1, 2])
    result = scores.evaluate(np.full((5, 3), 1 / 3), labels, np.arange(5).astype(str), seed=0, resamples=50)
    assert result["constant_predictor"] is True
    assert result["majority_accuracy"] == result["metrics"]["accuracy"]["value"] == 0.6
    assert result["metrics"]["auc_macro"]["value"] == 0.5
    assert result["metrics"]["balanced_accuracy"]["value"] == pytest.approx(1 / 3)


def test_f1_leaves_out_a_class_that_is_predicted_but_does_not_occur():
    predicted, labels = np.array([0, 0, 1, 2]), np.array([0, 0, 1, 1])
    # Class 0: 1; class 1: precision 1, recall 1/2; class 2 would be 0.
    assert scores.f1_macro(np.eye(3)[predicted], labels) == pytest.approx((1 + 2 / 3) / 2)


def test_ece_at_the_edges_of_bins():
    # 1/15 belongs to the first bin and 1 to the last; one class alone has confidence 1.
    assert scores.ece(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 0])) == pytest.approx(0.5)
    assert scores.ece(np.full((4, 15), 1 / 15), np.array([0, 1, 2, 3])) == pytest.approx(1 / 4 - 1 / 15)


@pytest.mark.parametrize("metric", NAMES[:4])
def test_selection_score(metric):
    probabilities, labels, _ = predictions()
    assert scores.selection_score(probabilities, labels, metric) == getattr(scores, metric)(probabilities, labels)
    assert scores.selection_score(probabilities[:0], labels[:0], metric) == -np.inf


@pytest.mark.parametrize("metric", ["ece", "auc"])
def test_selection_score_refuses_other_metrics(metric):
    probabilities, labels, _ = predictions()
    with refuses("unknown-name", "transfer.select", f'"{metric}"', "accuracy, balanced_accuracy, auc_macro, f1_macro"):
        scores.selection_score(probabilities, labels, metric)


def test_refusals():
    probabilities, labels, groups = predictions()
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 4\)"):
        scores.evaluate(probabilities, np.where(labels == 0, -1, labels), groups, seed=0)
    with pytest.raises(ValueError, match=r"labels must be \[120\]"):
        scores.evaluate(probabilities, labels[:-1], groups, seed=0)
    with pytest.raises(ValueError, match=r"groups must be \[120\]"):
        scores.evaluate(probabilities, labels, groups[:-1], seed=0)
    with pytest.raises(ValueError, match="softmax"):
        scores.evaluate(10 * probabilities, labels, groups, seed=0)
    probabilities[5, 1] = np.nan
    with pytest.raises(TrainingFailedError, match="probabilities: 1 of 120 rows are not finite"):
        scores.evaluate(probabilities, labels, groups, seed=0)
