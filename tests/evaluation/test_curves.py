"""Curves against scikit-learn's on samples that are written out; bands against a bootstrap that repeats the images."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from jaxssl.evaluation import curves, scores


def made(images=40, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.random(images) < 0.4
    # Rounded, so that there are ties.
    scored = np.round(rng.normal(size=images) + truth, 1)
    return truth, scored, np.arange(images) // 2


def roc_at_grid(truth, scored):
    x, y, _ = roc_curve(truth, scored, drop_intermediate=False)
    return np.interp(curves.GRID, x, y)


def precision_at_grid(truth, scored):
    precision, recall, _ = precision_recall_curve(truth, scored)
    # From the highest threshold down; the first that reaches the recall.
    precision, recall = precision[-2::-1], recall[-2::-1]
    return np.array([precision[next(i for i, r in enumerate(recall) if r >= x)] for x in curves.GRID])


@pytest.mark.parametrize(
    ("curve", "slow"), [(curves.roc, roc_at_grid), (curves.precision_recall, precision_at_grid)], ids=("roc", "pr")
)
def test_band_is_that_of_samples_written_out(curve, slow, monkeypatch):
    monkeypatch.setattr(curves, "MAX_WORK", 60 * 40)
    truth, scored, groups = made()
    drawn = []
    for weights in scores.bootstrap_weights(groups, 20, 3, 60):
        for of in weights.astype(int):
            t, s = np.repeat(truth, of), np.repeat(scored, of)
            if 0 < t.sum() < len(t):
                drawn.append(slow(t, s))
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    found = curve(truth, scored, groups, seed=3)
    np.testing.assert_allclose(found.low, low)
    np.testing.assert_allclose(found.high, high)


def test_curves_are_those_of_scikit_learn():
    truth, scored, groups = made()
    found = curves.roc(truth, scored, groups)
    x, y, _ = roc_curve(truth, scored)
    np.testing.assert_array_equal((found.x, found.y), (x, y))
    assert np.isnan(curves.roc(truth, scored, np.zeros(40)).low).all()
    few = curves.precision_recall(np.array([True, False]), np.array([0.9, 0.1]), np.array(["a", "b"]))
    assert np.nanmin(few.low) >= 0 and few.high.max() <= 1
