"""Weighted k-nearest-neighbour prediction from frozen features: the evaluation that needs no training."""

import numpy as np

from jaxssl.errors import UserError
from jaxssl.evaluation import scores

_CHUNK = 2**23  # Elements of the similarity matrix [queries, train] in memory at once: 64 MB of float64.


def predict_proba(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    features: np.ndarray,
    *,
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> np.ndarray:
    """Predict class probabilities from the k nearest training images (Wu et al. 2018, arXiv:1805.01978, section 3.4).

    p_c = Σ_{i in N_k, y_i = c} exp(cos(f, f_i) / τ) / Σ_{i in N_k} exp(cos(f, f_i) / τ). A feature vector of zeros has
    cosine 0 with every other.

    Args:
      train_features: [M, D] float.
      train_labels: [M] int in [0, classes).
      features: [N, D] float.
      classes: number of classes C, of which some may be absent from `train_labels`.
      k: number of neighbours; M where M < k.
      temperature: τ; smaller values weight the nearest neighbours more.

    Returns:
      [N, C] float64, rows sum to 1.

    Raises:
      UserError: if there are no training images, or k or temperature is not positive.
      TrainingFailedError: if a feature is not finite.
      ValueError: if the shapes disagree or a label is outside [0, C).
    """
    one_hot = np.eye(classes)[scores.check_labels("train labels", train_labels, len(train_features), classes)]
    return predict(train_features, one_hot, features, k=k, temperature=temperature)


def predict(
    train_features: np.ndarray,
    targets: np.ndarray,
    features: np.ndarray,
    *,
    k: int = 20,
    temperature: float = 0.07,
) -> np.ndarray:
    """Return the weighted mean of the targets of the k nearest training images, with the weights of `predict_proba`.

    Args:
      train_features: [M, D] float.
      targets: [M, T] float, such as 0 and 1 for several labels, or a value; NaN where unknown takes no part, and where
        it is unknown of all neighbours, the mean of all training images takes its place.
      features: [N, D] float.
      k: number of neighbours; M where M < k.
      temperature: smaller values weight the nearest neighbours more.

    Returns:
      [N, T] float64.

    Raises:
      UserError: if there are no training images, or k or temperature is not positive.
      TrainingFailedError: if a feature is not finite.
    """
    if not len(train_features):
        raise UserError(
            "knn: there are no labelled training images. Raise data.label_fraction or check the training split.",
            code="too-few",
            field="data.label_fraction",
        )
    if k < 1 or temperature <= 0:
        raise UserError(f"knn: k = {k}, temperature = {temperature}. Set both above 0.", code="out-of-range")
    train = scores.to_unit_length(scores.check_finite("train features", train_features))
    queries = scores.to_unit_length(scores.check_finite("features", features))
    k = min(k, len(train))
    known = ~np.isnan(targets)
    mean = np.nansum(targets, axis=0) / np.maximum(known.sum(axis=0), 1)
    out, filled = np.empty((len(queries), targets.shape[1])), np.where(known, targets, 0.0)
    rows = max(1, _CHUNK // len(train))
    for start in range(0, len(queries), rows):
        cosine = queries[start : start + rows] @ train.T
        nearest = np.argpartition(cosine, -k, axis=1)[:, -k:]
        cosine = np.take_along_axis(cosine, nearest, axis=1)
        # Divided by the vote of the nearest neighbour, so that small temperatures do not overflow.
        votes = np.exp((cosine - cosine.max(axis=1, keepdims=True)) / temperature)
        total = np.einsum("nk,nkc->nc", votes, known[nearest].astype(float))
        summed = np.einsum("nk,nkc->nc", votes, filled[nearest])
        out[start : start + rows] = np.where(total > 0, summed / np.where(total > 0, total, 1), mean)
    return out
