"""Weighted nearest neighbours on frozen features: the score that needs no training."""

import numpy as np

from jaxssl.errors import UserError
from jaxssl.evaluation import scores

# Similarities held at once, [queries, train] float64: 64 MB.
_CHUNK = 2**23


def probabilities(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    features: np.ndarray,
    *,
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> np.ndarray:
    """Class probabilities from the k nearest training images by cosine (Wu et al. 2018, arXiv:1805.01978, section 3.4).

    Each of the k neighbours votes for its class with weight exp(cosine / temperature), and the votes are divided by
    their sum. A feature of zeros has cosine 0 with everything.

    Args:
      train_features: [M, D] float.
      train_labels: [M] int in [0, classes).
      features: [N, D] float.
      classes: C, of which some may be absent from `train_labels`.
      k: neighbours; M where there are fewer than k.
      temperature: of the votes; smaller trusts the nearest more.

    Returns:
      [N, C] float64, rows sum to 1.

    Raises:
      UserError: if there are no training images, or k or temperature is not positive.
      TrainingFailedError: if a feature is not finite.
      ValueError: if the shapes disagree or a label is outside [0, C).
    """
    if not len(train_features):
        raise UserError("knn: no labelled training images; raise data.label_fraction or check the train split")
    if k < 1 or temperature <= 0:
        raise UserError(f"knn: k = {k}, temperature = {temperature}; both must be positive")
    train, queries = _unit("train features", train_features), _unit("features", features)
    k = min(k, len(train))
    one_hot = np.eye(classes)[scores.indices("train labels", train_labels, len(train), classes)]
    out = np.empty((len(queries), classes))
    rows = max(1, _CHUNK // len(train))
    for start in range(0, len(queries), rows):
        cosine = queries[start : start + rows] @ train.T
        nearest = np.argpartition(cosine, -k, axis=1)[:, -k:]
        cosine = np.take_along_axis(cosine, nearest, axis=1)
        # Relative to the nearest: a common factor of the votes, without which a small temperature overflows.
        votes = np.exp((cosine - cosine.max(axis=1, keepdims=True)) / temperature)
        votes = np.einsum("nk,nkc->nc", votes, one_hot[nearest])
        out[start : start + rows] = votes / votes.sum(axis=1, keepdims=True)
    return out


def _unit(name: str, features: np.ndarray) -> np.ndarray:
    features = scores.finite(name, features)
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(norm > 0, norm, 1)
