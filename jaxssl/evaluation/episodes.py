"""Few-shot episodes: a few labels of each class, drawn many times, and the nearest class mean on frozen features."""

from typing import Any

import numpy as np

from jaxssl.evaluation import scores


def evaluate_episodes(
    train: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    *,
    shots: int,
    draws: int,
    seed: int,
) -> dict[str, Any] | None:
    """Return the mean accuracy over draws of `shots` training images per class, of as many groups.

    Features are centred by the mean of all training features and scaled to length 1, and each test image gets the class
    whose mean is nearest: SimpleShot's CL2N (Wang et al. 2019, arXiv:1911.04623). The accuracy is balanced, so that
    chance is 1 / classes. The same seed draws the same images whatever the features are.

    Args:
      train: [M, D] float features.
      labels: [M] int in [0, C).
      groups: [M] the group of each image.
      test: [N, D] float features.
      test_labels: [N] int in [0, C).
      shots: labelled images per class.
      draws: number of episodes.
      seed: of the draws.

    Returns:
      {"shots", "draws", "accuracy": {"value", "low", "high"}, "low", "high"}: the mean with its 95 % interval over
      draws, as few-shot papers give it, and between which accuracies 95 % of the draws lie. None if a class has fewer
      than `shots` groups.
    """
    train, test = (scores.check_finite("features", of) for of in (train, test))
    center, classes = train.mean(axis=0), np.unique(labels)
    train, test = scores.to_unit_length(train - center), scores.to_unit_length(test - center)
    members = [_rows_by_group(labels, groups, c) for c in classes]
    if min(map(len, members)) < shots:
        return None
    rng, present = np.random.default_rng(seed), np.unique(test_labels)
    accuracies = np.empty(draws)
    for draw in range(draws):
        chosen = [[rng.choice(of[g]) for g in rng.permutation(len(of))[:shots]] for of in members]
        means = scores.to_unit_length(np.stack([train[rows].mean(axis=0) for rows in chosen]))
        predicted = classes[(test @ means.T).argmax(axis=1)]
        accuracies[draw] = np.mean([(predicted[test_labels == c] == c).mean() for c in present])
    mean, half = accuracies.mean(), 1.96 * accuracies.std(ddof=1) / np.sqrt(draws)
    low, high = np.percentile(accuracies, (2.5, 97.5))
    accuracy = {"value": float(mean), "low": float(mean - half), "high": float(mean + half)}
    return {"shots": shots, "draws": draws, "accuracy": accuracy, "low": float(low), "high": float(high)}


def _rows_by_group(labels: np.ndarray, groups: np.ndarray, c: int) -> list[np.ndarray]:
    """Return the images of a class in each group that has it."""
    rows = np.flatnonzero(labels == c)
    return [rows[groups[rows] == g] for g in np.unique(groups[rows])]
