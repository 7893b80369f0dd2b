"""Dice and IoU in the machinery of studies, against plain means, the intervals of runs, and all swaps of two arms."""

import itertools

import numpy as np

from jaxssl.evaluation import means
from jaxssl.evaluation.intervals import RunPredictions, TestImages

RNG = np.random.default_rng(0)
GROUPS = np.repeat([f"p{i}" for i in range(8)], 5)
A, B = RNG.uniform(0.3, 0.9, (2, len(GROUPS), 2))


def run(values):
    return [RunPredictions(np.arange(len(values)), values)]


def test_the_mean_and_its_interval_are_those_of_a_run():
    images = TestImages(np.zeros(len(GROUPS)), GROUPS)
    for column, metric in enumerate(("dice", "iou")):
        got = images.measure(metric, run(A))
        value, influence = means.mean_and_influence(A[:, [column]])
        expected = means.to_interval(value, influence, GROUPS)
        assert np.isclose(got.value, A[:, column].mean())
        # Runs report the hull of this interval and of the untransformed one.
        assert expected["low"] <= got.ends[0] + 1e-9 and got.ends[1] <= expected["high"] + 1e-9
        np.testing.assert_allclose(got.ends, (expected["low"], expected["high"]), atol=0.02)


def test_the_p_value_counts_all_swaps_of_groups():
    got = TestImages(np.zeros(len(GROUPS)), GROUPS).compare("dice", run(A), run(B))
    sums = [(A - B)[group == GROUPS, 0].sum() for group in np.unique(GROUPS)]
    observed = abs(sum(sums)) - 1e-12
    swapped = [abs(np.dot(signs, sums)) >= observed for signs in itertools.product((1, -1), repeat=len(sums))]
    assert np.isclose(got.p, np.mean(swapped)) and np.isclose(got.value, (A - B)[:, 0].mean())
    assert (got.ends[0] > 0 or got.ends[1] < 0) == (got.p <= 0.05)
