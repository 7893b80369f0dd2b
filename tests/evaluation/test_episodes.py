"""Few-shot episodes against cases whose accuracy is known."""

import numpy as np
import pytest

from jaxssl.evaluation.episodes import evaluate_episodes

LABELS = np.repeat([0, 1, 2], 20)
GROUPS = np.arange(60) // 2
OPTIONS = {"draws": 50, "seed": 0}


def features(spread, seed):
    rng = np.random.default_rng(seed)
    return np.eye(3)[LABELS] * 5 + rng.normal(0, spread, (60, 3))


def test_separate_classes_are_always_told_apart_and_noise_never():
    told = evaluate_episodes(features(0.1, 0), LABELS, GROUPS, features(0.1, 1), LABELS, shots=1, **OPTIONS)
    assert told["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0} and (told["low"], told["high"]) == (1, 1)
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=(60, 8)) for _ in range(2)]
    guessed = evaluate_episodes(noise[0], LABELS, GROUPS, noise[1], LABELS, shots=5, **OPTIONS)
    assert guessed["accuracy"]["value"] == pytest.approx(1 / 3, abs=0.06)
    assert guessed["low"] < guessed["accuracy"]["low"] < guessed["accuracy"]["high"] < guessed["high"]


def test_more_shots_are_better():
    one, five = (
        evaluate_episodes(features(3, 0), LABELS, GROUPS, features(3, 1), LABELS, shots=k, **OPTIONS) for k in (1, 5)
    )
    assert one["accuracy"]["high"] < five["accuracy"]["low"]


def test_each_image_of_a_draw_is_of_another_group():
    # Ten groups of each class: more shots than that cannot be drawn.
    assert evaluate_episodes(features(1, 0), LABELS, GROUPS, features(1, 1), LABELS, shots=10, **OPTIONS)
    assert evaluate_episodes(features(1, 0), LABELS, GROUPS, features(1, 1), LABELS, shots=11, **OPTIONS) is None
