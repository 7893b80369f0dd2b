import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxssl.errors import TrainingFailedError
from jaxssl.evaluation import probe, scores
from tests.refusals import refuses


def data(classes=3, images=240, dims=12, seed=0):
    """Features of unlike scales with some signal; training, validation and test thirds."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=images)
    centres = rng.normal(size=(classes, dims))
    features = (centres[labels] + 2 * rng.normal(size=(images, dims))) * np.logspace(-2, 2, dims) + 5
    return [(features[i::3].astype(np.float32), labels[i::3]) for i in range(3)]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("C", [1e-3, 0.1])
def test_equals_a_scikit_learn_pipeline(classes, C):
    train, validation, test = data(classes)
    fitted = probe.fit(*train, *validation, classes=classes, Cs=[C])
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-8, max_iter=5000))
    expected = pipeline.fit(train[0].astype(float), train[1]).predict_proba(test[0].astype(float))
    got = probe.predict_proba(fitted, test[0])
    np.testing.assert_allclose(got, expected, atol=2e-3)
    assert fitted.weights.shape == (12, classes) and fitted.bias.shape == (classes,) and fitted.C == C


@pytest.mark.parametrize("classes", [2, 3])
def test_chooses_c_on_validation(classes):
    train, validation, _ = data(classes)
    fitted = probe.fit(*train, *validation, classes=classes)
    aucs = []
    for C in probe.C_GRID:
        pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-8, max_iter=5000))
        predicted = pipeline.fit(train[0].astype(float), train[1]).predict_proba(validation[0].astype(float))
        score = predicted[:, 1] if classes == 2 else predicted
        aucs.append(roc_auc_score(validation[1], score, multi_class="ovr", average="macro"))
    assert max(aucs) - min(aucs) > 0.01
    assert fitted.validation == pytest.approx(max(aucs), abs=2e-3)
    assert aucs[probe.C_GRID.index(fitted.C)] == pytest.approx(max(aucs), abs=2e-3)
    # The weights are those of that C, not of the last one fitted.
    assert probe.C_GRID.index(fitted.C) < len(probe.C_GRID) - 1
    assert scores.compute("auc_macro", probe.predict_proba(fitted, validation[0]), validation[1]) == fitted.validation


def test_equal_scores_go_to_the_stronger_penalty():
    train = np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([0, 0, 1, 1])
    fitted = probe.fit(*train, *train, classes=2, Cs=[10.0, 0.01, 1.0])
    assert fitted.validation == 1 and fitted.C == 0.01


def test_c_is_chosen_by_the_metric():
    # The penalty leaves the rare class unpredicted at small C: accuracy sees it, the AUC does not.
    features = np.r_[np.full(12, -1.0), np.full(3, 1.0)][:, None]
    labels = np.r_[np.zeros(12, int), np.ones(3, int)]
    fit = {m: probe.fit(features, labels, features, labels, classes=2, metric=m) for m in ("auc_macro", "accuracy")}
    assert probe.C_GRID.index(fit["auc_macro"].C) == 0
    assert probe.C_GRID.index(fit["accuracy"].C) > 0
    assert fit["auc_macro"].validation == fit["accuracy"].validation == 1
    with refuses("unknown-name", "transfer.select"):
        probe.fit(features, labels, features, labels, classes=2, metric="loss")


def test_deterministic():
    train, validation, _ = data()
    one, two = (probe.fit(*train, *validation, classes=3) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_class_without_training_images_has_probability_zero():
    train, validation, test = data()
    kept = train[1] != 1
    fitted = probe.fit(train[0][kept], train[1][kept], *validation, classes=4)
    got = probe.predict_proba(fitted, test[0])
    assert not got[:, [1, 3]].any() and np.isfinite(got).all()
    np.testing.assert_allclose(got.sum(1), 1)
    assert (fitted.bias[[1, 3]] == -np.inf).all() and not fitted.weights[:, [1, 3]].any()
    # What is left is the two-class problem.
    alone = make_pipeline(StandardScaler(), LogisticRegression(C=fitted.C, tol=1e-8))
    alone.fit(train[0][kept].astype(float), train[1][kept])
    np.testing.assert_allclose(got[:, [0, 2]], alone.predict_proba(test[0].astype(float)), atol=1e-2)


def test_training_images_of_one_class():
    train, validation, test = data()
    kept = train[1] == 2
    fitted = probe.fit(train[0][kept], train[1][kept], *validation, classes=3)
    np.testing.assert_array_equal(probe.predict_proba(fitted, test[0]), np.tile([0.0, 0.0, 1.0], (len(test[0]), 1)))
    assert fitted.validation == 0.5


def test_undefined_validation_metric_gives_the_default_c():
    train, validation, _ = data()
    empty = probe.fit(*train, np.empty((0, 12)), np.empty(0, int), classes=3)
    one_class = probe.fit(*train, validation[0], np.zeros(len(validation[0]), int), classes=3)
    assert empty.C == one_class.C == 1 and empty.validation == one_class.validation == -np.inf


def test_constant_features_are_not_scaled():
    train, validation, test = data()
    noise = 3 + 1e-7 * np.random.default_rng(0).normal(size=(80, 1))  # constant but for float32's rounding
    widened = [(np.c_[x, np.zeros((80, 1)), noise], y) for x, y in (train, validation, test)]
    fitted = probe.fit(*widened[0], *widened[1], classes=3, Cs=[0.1])
    assert fitted.scale[12:].tolist() == [1, 1] and not np.round(fitted.weights[12:], 6).any()
    plain = probe.fit(*train, *validation, classes=3, Cs=[0.1])
    np.testing.assert_allclose(
        probe.predict_proba(fitted, widened[2][0]), probe.predict_proba(plain, test[0]), atol=2e-3
    )


def test_correlated_features_and_weak_penalties_converge():
    # Some hundreds of steps; a ConvergenceWarning would be an error here.
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 60)) @ (rng.normal(size=(60, 60)) * np.exp(-np.arange(60) / 8)[:, None])
    labels = (features[:, :3] + 0.5 * rng.normal(size=(300, 3))).argmax(1)
    fitted = probe.fit(features, labels, features, labels, classes=3, metric="accuracy", Cs=[10, 1e4])
    assert fitted.validation > 0.8


def test_more_dimensions_than_images_converges():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(60, 300)), rng.integers(5, size=60)
    fitted = probe.fit(features, labels, features, labels, classes=5, metric="accuracy", Cs=[1e-5, 1e-2, 10, 1e4])
    assert fitted.validation == 1


def test_refusals():
    train, validation, _ = data()
    with refuses("too-few", "data.label_fraction"):
        probe.fit(train[0][:0], train[1][:0], *validation, classes=3)
    with pytest.raises(ValueError, match="train labels must lie in"):
        probe.fit(train[0], train[1] - 1, *validation, classes=3)
    train[0][0, 0] = np.nan
    with pytest.raises(TrainingFailedError, match="train features: 1 of 80 rows"):
        probe.fit(*train, *validation, classes=3)
