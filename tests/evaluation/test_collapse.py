"""Spread and effective rank against closed forms and loops; the verdict at its thresholds."""

import numpy as np
import pytest

from jaxssl.errors import TrainingFailedError
from jaxssl.evaluation import collapse


def normal(images=2000, dims=32, seed=0):
    return np.random.default_rng(seed).normal(size=(images, dims))


def test_isotropic_features():
    diagnosis = collapse.diagnose(normal())
    assert diagnosis["feature_std"] == pytest.approx(1, abs=0.01)
    assert 31.5 < diagnosis["effective_rank"] <= 32
    assert collapse.diagnose(1e-3 * normal()) == pytest.approx(diagnosis)


def test_effective_rank_is_that_of_chosen_singular_values():
    # Orthonormal columns of zero mean, so that the singular values of the centred matrix are the factors.
    basis = np.linalg.qr(normal(100, 4) - normal(100, 4).mean(0))[0]
    factors = np.array([8.0, 4.0, 2.0, 2.0])
    share = factors / 16
    expected = np.exp(-sum(p * np.log(p) for p in share))
    diagnosis = collapse.diagnose(basis * factors + 100)
    assert diagnosis["effective_rank"] == pytest.approx(expected, rel=1e-9)
    assert collapse.diagnose(basis)["effective_rank"] == pytest.approx(4)


def test_feature_std_equals_a_loop():
    features = normal(50, 7) + 1
    unit = np.array([row / np.sqrt(sum(row**2)) for row in features])
    spread = np.mean([np.sqrt(np.mean((column - column.mean()) ** 2)) for column in unit.T])
    assert collapse.diagnose(features)["feature_std"] == pytest.approx(spread * np.sqrt(7))


@pytest.mark.parametrize("value", [0.0, 0.1, 3e4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_features_have_no_spread_and_rank_one(value, dtype):
    diagnosis = collapse.diagnose(np.full((300, 16), value, dtype))
    assert diagnosis["feature_std"] == pytest.approx(0, abs=1e-9) and diagnosis["effective_rank"] == 1
    assert collapse.verdict(diagnosis, diagnosis) == "collapsed"


def test_rounding_does_not_add_rank():
    features = np.full((300, 16), 0.7, np.float32) * (1 + 6e-8 * np.sign(normal(300, 16))).astype(np.float32)
    assert len(np.unique(features)) > 1
    assert collapse.diagnose(features)["effective_rank"] == 1


def test_features_along_one_direction():
    line = np.abs(normal(300, 1)) @ np.abs(normal(1, 16))
    diagnosis = collapse.diagnose(line)
    assert diagnosis["effective_rank"] == pytest.approx(1)
    assert collapse.verdict(diagnosis, collapse.diagnose(normal(300, 16))) == "collapsed"


def test_verdict_on_matrices():
    first = collapse.diagnose(np.maximum(normal(300, 64) + 1, 0))
    assert collapse.verdict(first, first) == "healthy"
    narrow = normal(300, 6) @ normal(6, 64, seed=1)
    assert collapse.verdict(collapse.diagnose(narrow), first) == "weak"
    same = 1 + 1e-3 * normal(300, 64)
    assert collapse.verdict(collapse.diagnose(same), first) == "collapsed"


@pytest.mark.parametrize(
    ("feature_std", "effective_rank", "embedding_std", "expected"),
    [
        (0.15, 40.0, None, "healthy"),
        (0.15, 40.0, 0.9, "healthy"),
        (0.011, 10.0, 0.21, "healthy"),
        (0.009, 40.0, 0.9, "collapsed"),
        (0.15, 1.4, 0.9, "collapsed"),
        (0.15, 40.0, 0.04, "collapsed"),
        (0.15, 40.0, 0.1, "weak"),
        (0.15, 9.9, 0.9, "weak"),
        (0.15, 9.9, None, "weak"),
    ],
)
def test_verdict(feature_std, effective_rank, embedding_std, expected):
    first = {"feature_std": 0.05, "effective_rank": 20.0}
    diagnosis = {"feature_std": feature_std, "effective_rank": effective_rank}
    assert collapse.verdict(diagnosis, first, embedding_std) == expected


def test_refusals():
    with pytest.raises(ValueError, match="at least two images"):
        collapse.diagnose(normal(1))
    features = normal(10)
    features[2] = np.nan
    with pytest.raises(TrainingFailedError, match="features: 1 of 10 rows"):
        collapse.diagnose(features)
