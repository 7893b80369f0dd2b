"""Temperature, reliability and operating points against scikit-learn, closed forms and simulations."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss, roc_curve

from jaxssl.errors import TrainingFailedError
from jaxssl.evaluation import calibration, scores


def simulated(images, classes, true, seed=0):
    """Probabilities of a network that is `true` times too sure, and labels that are drawn from the right ones."""
    rng = np.random.default_rng(seed)
    right = softmax(rng.normal(size=(images, classes)) * 2, axis=1)
    labels = (right.cumsum(1) < rng.random((images, 1))).sum(1)
    return softmax(np.log(right) * true, axis=1), right, labels


@pytest.mark.parametrize(("true", "classes"), [(3.0, 2), (0.5, 4), (1.0, 7)])
def test_a_known_temperature_is_recovered(true, classes):
    p, right, labels = simulated(40_000, classes, true)
    found = calibration.fit_temperature(p, labels)
    assert found == pytest.approx(true, rel=0.03)
    np.testing.assert_allclose(calibration.apply_temperature(p, true), right, atol=2e-4)
    assert scores.compute("ece", calibration.apply_temperature(p, found), labels) < 0.02
    if true != 1:
        assert scores.compute("ece", p, labels) > 0.05


def test_no_temperature_of_a_grid_has_a_smaller_log_loss():
    p, _, labels = simulated(300, 3, 2.0, seed=1)
    found = calibration.fit_temperature(p, labels)
    losses = [
        log_loss(labels, calibration.apply_temperature(p, t)) for t in np.geomspace(*calibration.TEMPERATURE_RANGE, 400)
    ]
    assert log_loss(labels, calibration.apply_temperature(p, found)) <= min(losses) + 1e-9


def test_one_wrong_of_four_gives_the_closed_form():
    """All images alike with logit z, three of four right: the minimum has sigmoid(z / T) = 3/4, so T = z / log 3."""
    p = np.tile(softmax([0.0, 5.0]), (4, 1))
    assert calibration.fit_temperature(p, np.array([1, 1, 1, 0])) == pytest.approx(5 / np.log(3), rel=1e-5)


def test_temperature_is_none_where_undefined_or_separable():
    p = np.array([[0.2, 0.8], [0.4, 0.6]])
    assert calibration.fit_temperature(p, np.array([1, 1])) is None
    assert calibration.fit_temperature(p[:0], np.array([], int)) is None
    # One right, one wrong, the wrong one surer: as flat as allowed.
    assert calibration.fit_temperature(p, np.array([0, 1])) == pytest.approx(20.0, rel=1e-2)
    barely = np.array([[0.45, 0.55], [0.6, 0.4]])
    assert calibration.fit_temperature(barely, np.array([1, 0])) is None
    assert "all 2 validation images" in calibration.why_not_calibrated(barely, np.array([1, 0]))
    assert "fewer than two classes" in calibration.why_not_calibrated(p, np.array([1, 1]))
    with pytest.raises(TrainingFailedError):
        calibration.fit_temperature(p * np.nan, np.array([0, 1]))


def test_temperature_keeps_the_order_of_the_classes():
    p, _, _ = simulated(200, 5, 1.0)
    np.testing.assert_array_equal(calibration.apply_temperature(p, 7.0).argsort(1), p.argsort(1))


def test_the_bins_give_the_calibration_error():
    p, _, labels = simulated(500, 3, 2.5)
    bins = calibration.reliability_bins(p, labels)
    assert [b["low"] for b in bins[1:]] == [b["high"] for b in bins[:-1]] and len(bins) == 15
    assert sum(b["images"] for b in bins) == 500
    filled = [b for b in bins if b["images"]]
    assert all(b["low"] < b["confidence"] <= b["high"] for b in filled)
    error = sum(b["images"] * abs(b["accuracy"] - b["confidence"]) for b in filled) / 500
    assert error == pytest.approx(scores.compute("ece", p, labels), abs=1e-12)
    assert all(b["accuracy"] is None for b in bins if not b["images"])


@pytest.mark.parametrize("wanted", [0.7, 0.9, 1.0])
def test_the_threshold_has_the_highest_sensitivity_at_this_specificity(wanted):
    rng = np.random.default_rng(3)
    positive = rng.random(210) < 0.4
    p = np.round(rng.beta(2 + 2 * positive, 3), 2)  # With ties.
    found = calibration.threshold_at_specificity(p, positive, wanted)
    false, true, _ = roc_curve(positive, p, drop_intermediate=False)
    assert (p[~positive] <= found).mean() >= wanted
    assert (p[positive] > found).mean() == pytest.approx(true[1 - false >= wanted - 1e-9].max())


def test_rounding_does_not_move_the_threshold():
    assert calibration.threshold_at_specificity(np.arange(10) / 10, np.zeros(10, bool), 0.7) == 0.6
    assert calibration.threshold_at_specificity(np.arange(3.0), np.ones(3, bool), 0.9) is None


def test_sensitivity_has_the_interval_of_the_groups():
    """Each image a group of its own: near the binomial; ten copies of each in one group: as wide as without copies."""
    rng = np.random.default_rng(0)
    positive, p = rng.random(400) < 0.5, rng.random(400)
    groups = np.arange(400).astype(str)
    found = calibration.operating_point(0.3, p, positive, groups)
    for name, share, count in (
        ("sensitivity", (p[positive] > 0.3).mean(), positive.sum()),
        ("specificity", (p[~positive] <= 0.3).mean(), (~positive).sum()),
    ):
        assert found[name]["value"] == pytest.approx(share)
        width = found[name]["high"] - found[name]["low"]
        assert width == pytest.approx(2 * 1.96 * np.sqrt(share * (1 - share) / count), rel=0.15)
    copies = calibration.operating_point(0.3, *(np.repeat(a, 10) for a in (p, positive, groups)))
    for end, value in found["sensitivity"].items():
        assert copies["sensitivity"][end] == pytest.approx(value, abs=0.003)


def test_operating_point_is_none_where_undefined():
    nothing = dict.fromkeys(("value", "low", "high"))
    groups = np.array(["a", "b"])
    found = calibration.operating_point(None, np.array([0.1, 0.2]), np.array([True, False]), groups)
    assert found == {"sensitivity": nothing, "specificity": nothing}
    found = calibration.operating_point(0.5, np.array([0.1, 0.9]), np.array([True, True]), groups)
    assert found["specificity"] == nothing and found["sensitivity"]["value"] == 0.5
    assert found["sensitivity"]["low"] < 0.05 and found["sensitivity"]["high"] > 0.95
    found = calibration.operating_point(0.5, np.empty(0), np.empty(0, bool), groups[:0])
    assert found == {"sensitivity": nothing, "specificity": nothing}
