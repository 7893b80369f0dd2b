"""Calibration (temperature scaling, reliability) and operating points: arrays in, plain JSON values out."""

import math
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from jaxssl.evaluation import scores

# Without a bound the temperature would go to 0 where all validation images are classified correctly.
TEMPERATURE_RANGE = (0.05, 20.0)
_SMALLEST = 1e-12  # Smaller probabilities, such as the zeros of kNN, are raised to this.


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """Fit the temperature on validation images: the T with the smallest mean log loss of softmax(log(p) / T).

    Guo et al. 2017, arXiv:1706.04599, section 4.2. T > 1 means that the probabilities were overconfident.

    Args:
      probabilities: [N, C] float of the validation images, rows sum to 1.
      labels: [N] int in [0, C).

    Returns:
      T in `TEMPERATURE_RANGE`; None where there are labels of fewer than two classes.

    Raises:
      ValueError: if the shapes disagree, a label is outside [0, C), or a row does not sum to 1.
      TrainingFailedError: if a probability is not finite.
    """
    probabilities, labels = scores.check_predictions(probabilities, labels)
    if len(np.unique(labels)) < 2:
        return None
    logits = _log(probabilities)

    def loss(log_t: float) -> float:
        return -float(np.take_along_axis(log_softmax(logits / math.exp(log_t), axis=1), labels[:, None], axis=1).mean())

    # Convex in 1 / T: there is one minimum.
    bounds = tuple(map(math.log, TEMPERATURE_RANGE))
    minimum: Any = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return math.exp(minimum.x)


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
    threshold: float | None,
    probabilities: np.ndarray,
    positive: np.ndarray,
    groups: np.ndarray,
    *,
    seed: int,
    resamples: int = 2000,
) -> dict[str, dict[str, float | None]]:
    """Compute sensitivity and specificity where images above the threshold are called positive.

    Args:
      threshold: None where there is none; then every result is None.
      probabilities: [N] float, of being positive.
      positive: [N] bool, the truth.
      groups: [N] str, the patient, lesion or series of each image.
      seed: seed of the resamples, which are those of `scores.evaluate`.
      resamples: number of resamples.

    Returns:
      {"sensitivity": {"value", "low", "high"}, "specificity": likewise} with 95 % percentile bootstrap intervals over
      groups; None where no image is positive (sensitivity) or negative (specificity).
    """
    positive = np.asarray(positive, bool)
    predicted = np.asarray(probabilities, np.float64) > (math.inf if threshold is None else threshold)
    names, group_of = scores.group_indices(groups, len(positive))
    known = threshold is not None and len(positive)
    drawn = scores.bootstrap_weights(group_of, len(names), seed, resamples) if known and len(names) > 1 else ()
    weights = [np.ones((1, len(positive))), *drawn]
    result = {}
    for name, truth, correct in (("sensitivity", positive, predicted), ("specificity", ~positive, ~predicted)):
        rates = [scores.safe_divide(w @ (truth & correct).astype(float), w @ truth.astype(float)) for w in weights]
        defined = known and not np.isnan(rates[0][0])
        low, high = scores.percentile_interval(rates[1:]) if defined else (None, None)
        result[name] = {"value": float(rates[0][0]) if defined else None, "low": low, "high": high}
    return result


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, _SMALLEST))
