"""Calibration (temperature scaling, reliability) and operating points: arrays in, plain JSON values out."""

import math
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from jaxssl.evaluation import scores
from jaxssl.evaluation.intervals import share_of, to_estimate

TEMPERATURE_RANGE = (0.05, 20.0)
_SMALLEST = 1e-12  # Smaller probabilities, such as the zeros of kNN, are raised to this.


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """Fit the temperature on validation images: the T with the smallest mean log loss of softmax(log(p) / T).

    Guo et al. 2017, arXiv:1706.04599, section 4.2. T > 1 means that the probabilities were overconfident.

    Args:
      probabilities: [N, C] float of the validation images, rows sum to 1.
      labels: [N] int in [0, C).

    Returns:
      T in `TEMPERATURE_RANGE`; None where there are labels of fewer than two classes, or all images are classified
      correctly: then the loss falls as T goes to 0, and any probability becomes certainty.

    Raises:
      ValueError: if the shapes disagree, a label is outside [0, C), or a row does not sum to 1.
      TrainingFailedError: if a probability is not finite.
    """
    probabilities, labels = scores.check_predictions(probabilities, labels)
    if why_not_calibrated(probabilities, labels):
        return None
    logits = _log(probabilities)

    def loss(log_t: float) -> float:
        return -float(np.take_along_axis(log_softmax(logits / math.exp(log_t), axis=1), labels[:, None], axis=1).mean())

    # Convex in 1 / T: there is one minimum.
    bounds = tuple(map(math.log, TEMPERATURE_RANGE))
    minimum: Any = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return math.exp(minimum.x)


def log_losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return -log p of the label [N] nats of each image, for probabilities [N, C] and labels [N] int."""
    return -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], _SMALLEST).astype(np.float64))


def why_not_calibrated(probabilities: np.ndarray, labels: np.ndarray) -> str:
    """Return why validation images give no temperature; "" where they do. Arguments as for `fit_temperature`."""
    if not len(labels):
        return "no labeled image is left to fit a temperature on"
    if len(np.unique(labels)) < 2:
        return "the validation images are of fewer than two classes"
    if (np.asarray(probabilities).argmax(axis=1) == labels).all():
        return f"all {len(labels)} validation images are classified correctly, which sets no scale for probabilities"
    return ""


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(log(p) / T) of probabilities [N, C]: for p = softmax(z) that is softmax(z / T)."""
    return softmax(_log(np.asarray(probabilities, np.float64)) / temperature, axis=1)


def reliability_bins(probabilities: np.ndarray, labels: np.ndarray) -> list[dict[str, float | int | None]]:
    """Return the bins of the reliability diagram, those of `scores.ece`.

    ECE = Σ_b n_b / N |accuracy_b - confidence_b| (Guo et al. 2017, arXiv:1706.04599, eq. 3).

    Args:
      probabilities: [N, C] float, rows sum to 1.
      labels: [N] int in [0, C).

    Returns:
      A list of {"low", "high", "images", "confidence", "accuracy"}: the bin's ends, its number of images, and the means
      over the bin, None in an empty one.
    """
    probabilities, labels = scores.check_predictions(probabilities, labels)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = scores.confidence_bins(confidence)
    result = []
    for i in range(scores.ECE_BINS):
        inside = bins == i
        result.append(
            {
                "low": i / scores.ECE_BINS,
                "high": (i + 1) / scores.ECE_BINS,
                "images": int(inside.sum()),
                "confidence": float(confidence[inside].mean()) if inside.any() else None,
                "accuracy": float(correct[inside].mean()) if inside.any() else None,
            }
        )
    return result


def threshold_at_specificity(probabilities: np.ndarray, positive: np.ndarray, specificity: float) -> float | None:
    """Return the smallest threshold with at least this specificity, where images above it are called positive.

    Args:
      probabilities: [N] float, of being positive.
      positive: [N] bool, the truth.
      specificity: in (0, 1].

    Returns:
      The probability of one of the negative images; None if there is no negative image.
    """
    negatives = np.sort(np.asarray(probabilities, np.float64)[~np.asarray(positive, bool)])
    # The last term guards against rounding, by which 0.7 of 10 images would be 8.
    return float(negatives[math.ceil(specificity * len(negatives) - 1e-9) - 1]) if len(negatives) else None


def operating_point(
    threshold: float | None, probabilities: np.ndarray, positive: np.ndarray, groups: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Compute sensitivity and specificity where images above the threshold are called positive.

    Args:
      threshold: None where there is none; then every result is None.
      probabilities: [N] float, of being positive.
      positive: [N] bool, the truth.
      groups: [N] str, the patient, lesion or series of each image.

    Returns:
      {"sensitivity": {"value", "low", "high"}, "specificity": likewise} with 95 % intervals over groups, and "without",
      the reason, where an interval lacks; None where no image is positive (sensitivity) or negative (specificity).
    """
    positive, groups = np.asarray(positive, bool), np.asarray(groups)
    if threshold is None:
        return {name: {"value": None, "low": None, "high": None} for name in ("sensitivity", "specificity")}
    predicted = np.asarray(probabilities, np.float64) > threshold
    return {
        "sensitivity": to_estimate(share_of(predicted[positive], groups[positive])),
        "specificity": to_estimate(share_of(~predicted[~positive], groups[~positive])),
    }


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, _SMALLEST))
