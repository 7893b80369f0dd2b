import json

import numpy as np
import pytest
from sklearn import metrics

from jaxssl.errors import TrainingFailedError
from jaxssl.evaluation import scores
from jaxssl.evaluation.evaluate import BIASED, evaluate, paired_difference
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
    result = evaluate(probabilities, labels, groups)
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
        assert scores.compute(name, probabilities, labels) == result["metrics"][name]["value"]
    assert result["confusion"] == metrics.confusion_matrix(labels, predicted, labels=range(classes)).tolist()
    assert result["images"] == 150
    assert result["majority_accuracy"] == max(np.mean(labels == c) for c in range(classes))
    assert result["constant_predictor"] is False


def test_a_paired_interval_is_narrower_than_two_intervals():
    a, labels, groups = predictions(images=200)
    b = 0.9 * a + 0.1 * np.roll(a, 1, axis=0)
    paired = paired_difference(a, b, labels, groups, "auc_macro")
    alone = evaluate(a, labels, groups)["metrics"]["auc_macro"]
    assert paired["high"] - paired["low"] < 0.6 * (alone["high"] - alone["low"])


def test_auc_of_two_classes_ignores_the_rounding_of_one_minus_p():
    assert scores.compute("auc_macro", np.array([[1.0, 1e-18], [1.0, 1e-17]]), np.array([0, 1])) == 1


def test_copies_within_a_group_do_not_narrow_the_interval():
    probabilities, labels, _ = predictions(images=80)
    groups = np.array([f"patient{i}" for i in range(80)])
    once = evaluate(probabilities, labels, groups)["metrics"]
    copied = [np.repeat(array, 3, axis=0) for array in (probabilities, labels, groups)]
    thrice = evaluate(*copied)["metrics"]
    naive = evaluate(*copied[:2], np.arange(240).astype(str))["metrics"]
    for name in NAMES[:4]:
        # A cluster variance has t quantiles, with 79 groups, where Clopper and Pearson count images.
        assert list(thrice[name].values()) == pytest.approx(list(once[name].values()), abs=0.006), name
        # Three copies taken for three images: intervals too narrow by the root of three.
        width, narrow = (m[name]["high"] - m[name]["low"] for m in (thrice, naive))
        assert 1.4 < width / narrow < 2.1


def test_width_of_the_accuracy_interval_is_binomial():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=500)
    predicted = np.where(rng.random(500) < 0.8, labels, 1 - labels)
    result = evaluate(np.eye(2)[predicted], labels, np.arange(500).astype(str))["metrics"]["accuracy"]
    share = result["value"]
    normal = 2 * 1.96 * np.sqrt(share * (1 - share) / 500)
    assert result["low"] < share < result["high"]
    assert (result["high"] - result["low"]) / normal == pytest.approx(1, abs=0.1)


def test_a_rare_class_is_json():
    probabilities, labels, groups = predictions(images=300, classes=7)
    text = json.dumps(evaluate(probabilities.astype(np.float32), labels.astype(np.int32), groups), allow_nan=False)
    assert set(json.loads(text)["metrics"]) == set(NAMES)


def test_one_class_leaves_the_auc_undefined():
    probabilities = np.array([[0.6, 0.4], [0.7, 0.3], [0.2, 0.8]])
    result = evaluate(probabilities, np.zeros(3, int), np.array(list("abc")))
    assert result["metrics"]["auc_macro"] == {"value": None, "low": None, "high": None}
    assert result["metrics"]["balanced_accuracy"]["value"] == pytest.approx(2 / 3)
    assert scores.selection_score(probabilities, np.zeros(3, int), "auc_macro") == -np.inf


def test_one_group_has_no_interval():
    probabilities, labels, _ = predictions()
    result = evaluate(probabilities, labels, np.full(len(labels), "same"))["metrics"]
    for name in NAMES:
        assert result[name]["value"] is not None
        assert result[name]["low"] is None and result[name]["high"] is None and result[name]["without"]


def test_no_images():
    result = evaluate(np.empty((0, 3)), np.empty(0, int), np.empty(0, str))
    none = {"value": None, "low": None, "high": None}
    assert all(of == (none | {"without": BIASED} if name == "ece" else none) for name, of in result["metrics"].items())
    assert result["images"] == 0 and result["majority_accuracy"] is None and result["constant_predictor"] is False
    assert result["confusion"] == [[0] * 3] * 3


def test_constant_predictor():
    labels = np.array([0, 0, 0, 1, 2])
    result = evaluate(np.full((5, 3), 1 / 3), labels, np.arange(5).astype(str))
    assert result["constant_predictor"] is True
    assert result["majority_accuracy"] == result["metrics"]["accuracy"]["value"] == 0.6
    assert result["metrics"]["auc_macro"]["value"] == 0.5
    assert result["metrics"]["balanced_accuracy"]["value"] == pytest.approx(1 / 3)


def test_f1_leaves_out_a_class_that_is_predicted_but_does_not_occur():
    predicted, labels = np.array([0, 0, 1, 2]), np.array([0, 0, 1, 1])
    # Class 0: 1; class 1: precision 1, recall 1/2; class 2 would be 0.
    assert scores.compute("f1_macro", np.eye(3)[predicted], labels) == pytest.approx((1 + 2 / 3) / 2)


def test_ece_at_the_edges_of_bins():
    # 1/15 belongs to the first bin and 1 to the last; one class alone has confidence 1.
    assert scores.compute("ece", np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 0])) == pytest.approx(0.5)
    assert scores.compute("ece", np.full((4, 15), 1 / 15), np.array([0, 1, 2, 3])) == pytest.approx(1 / 4 - 1 / 15)


@pytest.mark.parametrize("metric", NAMES[:4])
def test_selection_score(metric):
    probabilities, labels, _ = predictions()
    assert scores.selection_score(probabilities, labels, metric) == scores.compute(metric, probabilities, labels)
    assert scores.selection_score(probabilities[:0], labels[:0], metric) == -np.inf


@pytest.mark.parametrize("metric", ["ece", "auc"])
def test_selection_score_refuses_other_metrics(metric):
    probabilities, labels, _ = predictions()
    with refuses("unknown-name", "transfer.select", f'"{metric}"', "accuracy, balanced_accuracy, auc_macro, f1_macro"):
        scores.selection_score(probabilities, labels, metric)


def test_refusals():
    probabilities, labels, groups = predictions()
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 4\)"):
        evaluate(probabilities, np.where(labels == 0, -1, labels), groups)
    with pytest.raises(ValueError, match=r"labels must be \[120\]"):
        evaluate(probabilities, labels[:-1], groups)
    with pytest.raises(ValueError, match=r"groups must be \[120\]"):
        evaluate(probabilities, labels, groups[:-1])
    with pytest.raises(ValueError, match="softmax"):
        evaluate(10 * probabilities, labels, groups)
    probabilities[5, 1] = np.nan
    with pytest.raises(TrainingFailedError, match="probabilities: 1 of 120 rows are not finite"):
        evaluate(probabilities, labels, groups)


def test_the_order_of_rows_does_not_matter():
    probabilities, labels, groups = predictions()
    one = evaluate(probabilities, labels, groups)
    order = np.random.default_rng(0).permutation(len(labels))
    shuffled = evaluate(probabilities[order], labels[order], groups[order])
    for name in NAMES[:4]:
        assert shuffled["metrics"][name] == pytest.approx(one["metrics"][name], abs=1e-9)
    assert shuffled["groups_by_class"] == one["groups_by_class"]


def test_paired_difference_of_equal_undefined_or_other_predictions():
    a, labels, groups = predictions()
    same = paired_difference(a, a, labels, groups, "auc_macro")
    assert (same["value"], same["p"], same["detectable"]) == (0, 1, None)
    assert same["low"] <= 0 <= same["high"]
    undefined = dict.fromkeys(("value", "low", "high", "p", "detectable"))
    for rows in (labels == 3, slice(0)):
        assert paired_difference(a[rows], a[rows], labels[rows], groups[rows], "auc_macro") == undefined
    alone = paired_difference(a, a[::-1], labels, np.full(len(labels), "same"), "accuracy")
    assert alone["value"] is not None and alone["low"] is None and alone["p"] == 1
    with pytest.raises(ValueError, match=r"same images"):
        paired_difference(a, a[1:], labels, groups, "accuracy")
