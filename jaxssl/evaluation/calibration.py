"""Whether probabilities mean what they say, and what a threshold on them is worth: arrays in, plain JSON values out."""

import math

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from jaxssl.evaluation import scores

# Where validation is told apart without an error, ever smaller temperatures are ever better.
TEMPERATURES = (0.05, 20.0)
_SMALLEST = 1e-12  # Probabilities below it, such as the zeros of a vote of neighbours, count as this.


def temperature(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """The T in `TEMPERATURES` with the smallest mean log loss of `scaled(probabilities, T)` (Guo et al. 2017,
    arXiv:1706.04599, section 4.2). Above 1 the probabilities were too sure.

    Args:
      probabilities: [N, C] float of the validation images, rows sum to 1.
      labels: [N] int in [0, C).

    Returns:
      None where the labels are of fewer than two classes.

    Raises:
      ValueError: if the shapes disagree, a label is outside [0, C), or a row does not sum to 1.
      TrainingFailedError: if a probability is not finite.
    """
    probabilities, labels = scores.checked(probabilities, labels)
    if len(np.unique(labels)) < 2:
        return None
    logits = _log(probabilities)

    def loss(log_t: float) -> float:
        return -float(np.take_along_axis(log_softmax(logits / math.exp(log_t), axis=1), labels[:, None], axis=1).mean())

    # Convex in 1 / T, so that there is one minimum.
    found = minimize_scalar(loss, bounds=tuple(map(math.log, TEMPERATURES)), method="bounded", options={"xatol": 1e-6})
    return math.exp(found.x)


def scaled(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(log(p) / T): the softmax of the logits over T, wherever `probabilities` [N, C] are one of logits."""
    return softmax(_log(np.asarray(probabilities, np.float64)) / temperature, axis=1)


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> list[dict[str, float | int | None]]:
    """The bins of `scores.ece`: {"low", "high", "images", "confidence", "accuracy"}, the last two means over the bin.

    The expected calibration error is the mean of |accuracy - confidence| over the images. None in an empty bin.

    Args:
      probabilities: [N, C] float, rows sum to 1.
      labels: [N] int in [0, C).
    """
    probabilities, labels = scores.checked(probabilities, labels)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = scores.confidence_bins(confidence)
    found = []
    for i in range(scores.ECE_BINS):
        mine = bins == i
        found.append(
            {
                "low": i / scores.ECE_BINS,
                "high": (i + 1) / scores.ECE_BINS,
                "images": int(mine.sum()),
                "confidence": float(confidence[mine].mean()) if mine.any() else None,
                "accuracy": float(correct[mine].mean()) if mine.any() else None,
            }
        )
    return found


def threshold(probabilities: np.ndarray, positive: np.ndarray, specificity: float) -> float | None:
    """The smallest of these thresholds at which at least this share of the negatives is not above it.

    Args:
      probabilities: [N] float, of being positive.
      positive: [N] bool.
      specificity: in (0, 1].

    Returns:
      A probability of a negative image, or None where there is none.
    """
    negatives = np.sort(np.asarray(probabilities, np.float64)[~np.asarray(positive, bool)])
    # Without the last term 0.7 of 10 images would be 8 of them, by rounding.
    return float(negatives[math.ceil(specificity * len(negatives) - 1e-9) - 1]) if len(negatives) else None


def operating_point(
    chosen: float | None,
    probabilities: np.ndarray,
    positive: np.ndarray,
    groups: np.ndarray,
    *,
    seed: int,
    resamples: int = 2000,
) -> dict[str, dict[str, float | None]]:
    """Sensitivity and specificity where those images are called positive that lie above the threshold.

    Args:
      chosen: the threshold; None where there is none, and all is None.
      probabilities: [N] float, of being positive.
      positive: [N] bool.
      groups: [N] str, the patient, lesion or series of each image.
      seed: of the resamples, which are those of `scores.evaluate`.
      resamples: how many.

    Returns:
      {"sensitivity": {"value", "low", "high"}, "specificity": likewise} with 95 % percentile bootstrap intervals over
      groups; None where no image is positive, or none negative.
    """
    positive = np.asarray(positive, bool)
    called = np.asarray(probabilities, np.float64) > (math.inf if chosen is None else chosen)
    names, group_of = scores.grouped(groups, len(positive))
    kinds = {"sensitivity": (positive, called), "specificity": (~positive, ~called)}
    known = chosen is not None and len(positive)
    drawn = scores.resample(group_of, len(names), seed, resamples) if known and len(names) > 1 else ()
    weights = [np.ones((1, len(positive))), *drawn]
    found = {}
    for name, (those, right) in kinds.items():
        of = [scores.divide(w @ (those & right).astype(float), w @ those.astype(float)) for w in weights]
        defined = known and not np.isnan(of[0][0])
        low, high = scores.interval(of[1:]) if defined else (None, None)
        found[name] = {"value": float(of[0][0]) if defined else None, "low": low, "high": high}
    return found


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, _SMALLEST))
