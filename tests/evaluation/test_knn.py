import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from jaxssl.errors import TrainingFailedError
from jaxssl.evaluation import knn
from tests.refusals import refuses


def data(train=50, queries=23, dims=6, classes=4):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(train + queries, dims)).astype(np.float32)
    return features[:train], rng.integers(classes, size=train), features[train:]


def slow(train, labels, queries, classes, k, temperature):
    out = []
    for query in queries.astype(float):
        cosines = [query @ t / np.sqrt(query @ query * (t @ t)) for t in train.astype(float)]
        votes = np.zeros(classes)
        for i in sorted(range(len(train)), key=lambda i: -cosines[i])[:k]:
            votes[labels[i]] += np.exp(cosines[i] / temperature)
        out.append(votes / votes.sum())
    return np.array(out)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (7, 0.07), (7, 1.0), (50, 0.07), (500, 0.2)])
def test_predict_proba_equals_a_loop(k, temperature):
    train, labels, queries = data()
    got = knn.predict_proba(train, labels, queries, classes=4, k=k, temperature=temperature)
    np.testing.assert_allclose(got, slow(train, labels, queries, 4, k, temperature), atol=1e-9)


def test_large_temperature_is_the_plain_vote():
    train, labels, queries = data()
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, queries)]
    plain = KNeighborsClassifier(9).fit(unit[0], labels).predict_proba(unit[1])
    np.testing.assert_allclose(
        knn.predict_proba(train, labels, queries, classes=4, k=9, temperature=1e9), plain, atol=1e-6
    )


def test_chunks(monkeypatch):
    train, labels, queries = data()
    whole = knn.predict_proba(train, labels, queries, classes=4)
    monkeypatch.setattr(knn, "_CHUNK", 5 * len(train))
    np.testing.assert_allclose(knn.predict_proba(train, labels, queries, classes=4), whole, atol=1e-12)


def test_feature_norm_does_not_matter_and_absent_classes_have_probability_zero():
    train, labels, queries = data()
    one = knn.predict_proba(train, labels, queries, classes=6)
    scaled = knn.predict_proba(train * np.arange(1, 51)[:, None], labels, queries * 1e-3, classes=6)
    np.testing.assert_allclose(scaled, one, atol=1e-6)
    assert one.shape == (23, 6) and not one[:, 4:].any()
    np.testing.assert_allclose(one.sum(1), 1)


def test_a_tiny_temperature_is_the_nearest_neighbour():
    train, labels, _ = data()
    assert (knn.predict_proba(train, labels, train, classes=4, temperature=1e-5).argmax(1) == labels).all()


def test_features_of_zeros_vote_equally():
    labels = np.array([0, 0, 1, 2])
    got = knn.predict_proba(np.zeros((4, 3)), labels, np.zeros((2, 3)), classes=3)
    np.testing.assert_allclose(got, [[0.5, 0.25, 0.25]] * 2)


def test_no_queries():
    train, labels, queries = data()
    assert knn.predict_proba(train, labels, queries[:0], classes=4).shape == (0, 4)


def test_refusals():
    train, labels, queries = data()
    with refuses("too-few", "data.label_fraction"):
        knn.predict_proba(train[:0], labels[:0], queries, classes=4)
    with refuses("out-of-range", None, "k = 0"):
        knn.predict_proba(train, labels, queries, classes=4, k=0)
    with pytest.raises(ValueError, match="train labels must lie in"):
        knn.predict_proba(train, labels - 1, queries, classes=4)
    train[3, 2] = np.inf
    with pytest.raises(TrainingFailedError, match="train features: 1 of 50 rows"):
        knn.predict_proba(train, labels, queries, classes=4)
