"""Classification metrics: arrays in, plain numbers out.

Every metric is computed for weights [R, N] of the images at once. The score itself has weight 1 for each image; a
bootstrap resample weights an image by how often its group was drawn.

Definitions, the same for a resample and the score itself:
  accuracy: share of images whose most probable class (the first of equals) is their label.
  balanced_accuracy: mean recall over the classes that occur in `labels`; scikit-learn's `balanced_accuracy_score`.
  auc_macro: mean one-vs-rest AUC over the classes with both positives and negatives, ties counted half. With two
    classes the ordinary AUC of column 1.
  f1_macro: mean over the classes that occur in `labels`; scikit-learn's `f1_score(labels=np.unique(labels))`. A class
    that is predicted but does not occur is not part of the mean; its images count as missed in their own class.
  ece: expected calibration error of the top probability in 15 bins ((m-1)/15, m/15] (Guo et al. 2017,
    arXiv:1706.04599, eq. 3). Lower is better.
"""

from collections.abc import Callable, Iterator

import numpy as np

from jaxssl.errors import TrainingFailedError, UserError

ECE_BINS = 15
# Elements of a float64 array of weights [R, N]: 8 MB. The AUC holds three such arrays at a time.
_CHUNK = 2**20

# From weights [R, N] to scores [R].
_WeightedMetric = Callable[[np.ndarray], np.ndarray]


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """Return the accuracy of probabilities [N, C] for labels [N]; None without images."""
    return compute("accuracy", probabilities, labels)


def balanced_accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """Return the mean recall over the classes in `labels`; None without images."""
    return compute("balanced_accuracy", probabilities, labels)


def auc_macro(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """Return the mean one-vs-rest area under the ROC curve; None where all images are of one class."""
    return compute("auc_macro", probabilities, labels)


def f1_macro(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """Return the mean F1 over the classes in `labels`; None without images."""
    return compute("f1_macro", probabilities, labels)


def ece(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """Return the expected calibration error in [0, 1]; None without images."""
    return compute("ece", probabilities, labels)


def selection_score(probabilities: np.ndarray, labels: np.ndarray, metric: str) -> float:
    """Return the score for model selection: higher is better, -inf where the metric is undefined.

    Raises:
      UserError: if `metric` is not one of `SELECTABLE`.
    """
    if metric not in SELECTABLE:
        raise UserError(
            f'transfer.select = "{metric}": choose one of {", ".join(SELECTABLE)}.',
            code="unknown-name",
            field="transfer.select",
        )
    value = compute(metric, probabilities, labels)
    return -np.inf if value is None else value


def check_finite(name: str, array: np.ndarray) -> np.ndarray:
    """Return `array` as [N, D] float64.

    Raises:
      ValueError: if it has not two dimensions.
      TrainingFailedError: if a value is not finite.
    """
    array = np.asarray(array, np.float64)
    if array.ndim != 2:
        raise ValueError(f"{name} must have two dimensions, not shape {array.shape}")
    if not np.isfinite(array).all():
        rows = np.count_nonzero(~np.isfinite(array).all(axis=1))
        raise TrainingFailedError(f"{name}: {rows} of {len(array)} rows are not finite: training has diverged.")
    return array


def check_labels(name: str, labels: np.ndarray, images: int, classes: int) -> np.ndarray:
    """Return `labels` as [images] int in [0, classes).

    Raises:
      ValueError: if the shape differs or a label is outside that range, such as -1 for an image without a label.
    """
    labels = np.asarray(labels)
    if labels.shape != (images,):
        raise ValueError(f"{name} must be [{images}], one for each image, not {labels.shape}")
    if images and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"{name} must lie in [0, {classes}), not in [{labels.min()}, {labels.max()}]")
    return labels.astype(int)


def check_predictions(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities [N, C] as float64 and labels [N] as int.

    Raises:
      ValueError: if the shapes disagree, a label is outside [0, C), or a row does not sum to 1.
      TrainingFailedError: if a probability is not finite.
    """
    probabilities = check_finite("probabilities", probabilities)
    labels = check_labels("labels", labels, *probabilities.shape)
    # Loose enough for a softmax in bfloat16, tight enough to catch logits.
    if not np.allclose(probabilities.sum(axis=1), 1, atol=0.02):
        raise ValueError("probabilities must sum to 1 in each row: pass them through a softmax")
    return probabilities, labels


def group_indices(groups: np.ndarray, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted names of the groups, and the index [images] int of each image's group among them."""
    names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    if group_of.shape != (images,):
        raise ValueError(f"groups must be [{images}], one for each image, not {np.shape(groups)}")
    return names, group_of


def compute(metric: str, probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """Return a score by its name in `METRICS`; None where it is undefined."""
    probabilities, labels = check_predictions(probabilities, labels)
    value = float(METRICS[metric](probabilities, labels)(np.ones((1, len(labels))))[0])
    return None if np.isnan(value) else value


def bootstrap_weights(group_of: np.ndarray, groups: int, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """Yield weights [r, N] float64, `resamples` rows in all: how often the group of each image was drawn.

    Args:
      group_of: [N] int, the group of each image.
      groups: number of groups.
      seed: seed of the draws.
      resamples: number of resamples.
    """
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // len(group_of))
    for start in range(0, resamples, rows):
        r = min(rows, resamples - start)
        draws = rng.integers(groups, size=(r, groups)) + groups * np.arange(r)[:, None]
        counts = np.bincount(draws.ravel(), minlength=r * groups).reshape(r, groups)
        yield np.take(counts.astype(np.float64), group_of, axis=1)


# Each of these does once what does not depend on the weights, and returns the function from weights [R, N] to scores
# [R], NaN where undefined.


def _make_accuracy(probabilities: np.ndarray, labels: np.ndarray) -> _WeightedMetric:
    correct = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    return lambda weights: safe_divide(weights @ correct, weights.sum(axis=1))


def _make_balanced_accuracy(probabilities: np.ndarray, labels: np.ndarray) -> _WeightedMetric:
    true, _, hits = _indicators(probabilities, labels)
    return lambda weights: _mean_defined(safe_divide(weights @ hits, weights @ true))


def _make_f1_macro(probabilities: np.ndarray, labels: np.ndarray) -> _WeightedMetric:
    true, predicted, hits = _indicators(probabilities, labels)

    def metric(weights: np.ndarray) -> np.ndarray:
        positives = weights @ true
        f1 = safe_divide(2 * (weights @ hits), positives + weights @ predicted)
        return _mean_defined(np.where(positives > 0, f1, np.nan))

    return metric


def _make_ece(probabilities: np.ndarray, labels: np.ndarray) -> _WeightedMetric:
    confidence = probabilities.max(axis=1)
    gap = (probabilities.argmax(axis=1) == labels) - confidence
    gaps = np.eye(ECE_BINS)[confidence_bins(confidence)] * gap[:, None]
    return lambda weights: safe_divide(np.abs(weights @ gaps).sum(axis=1), weights.sum(axis=1))


def confidence_bins(confidence: np.ndarray) -> np.ndarray:
    """Return the calibration bin [N] int of each confidence [N]."""
    return np.clip(np.ceil(confidence * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1)


def _make_auc_macro(probabilities: np.ndarray, labels: np.ndarray) -> _WeightedMetric:
    classes = probabilities.shape[1]
    # With two classes both columns have the same AUC, except for ties made or broken by rounding of 1 - p.
    metrics = [_make_auc(probabilities[:, c], labels == c) for c in ([1] if classes == 2 else range(classes))]
    return lambda weights: _mean_defined(np.stack([metric(weights) for metric in metrics], axis=1))


def _make_auc(scores: np.ndarray, positive: np.ndarray) -> _WeightedMetric:
    """AUC as the Mann-Whitney statistic: the weighted share of (positive, negative) pairs in order, ties one half."""
    positives, negatives = np.flatnonzero(positive), np.flatnonzero(~positive)
    negatives = negatives[np.argsort(scores[negatives], kind="stable")]
    below = np.searchsorted(scores[negatives], scores[positives], "left")
    up_to = np.searchsorted(scores[negatives], scores[positives], "right")

    def metric(weights: np.ndarray) -> np.ndarray:
        negative = np.zeros((len(weights), len(negatives) + 1))
        np.cumsum(np.take(weights, negatives, axis=1), axis=1, out=negative[:, 1:])
        beaten = (np.take(negative, below, axis=1) + np.take(negative, up_to, axis=1)) / 2
        positive = np.take(weights, positives, axis=1)
        return safe_divide((positive * beaten).sum(axis=1), positive.sum(axis=1) * negative[:, -1])

    return metric


def _indicators(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return three [N, C] arrays of 0 and 1: the true class, the predicted class, the true class if predicted."""
    one_hot = np.eye(probabilities.shape[1])
    true, predicted = one_hot[labels], one_hot[probabilities.argmax(axis=1)]
    return true, predicted, true * predicted


def safe_divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the quotient, NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(denominator.shape, np.nan), where=denominator > 0)


def _mean_defined(values: np.ndarray) -> np.ndarray:
    """Return the mean of each row over its entries that are not NaN; NaN for a row of NaN."""
    return safe_divide(np.nansum(values, axis=1), np.count_nonzero(~np.isnan(values), axis=1))


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], _WeightedMetric]] = {
    "accuracy": _make_accuracy,
    "balanced_accuracy": _make_balanced_accuracy,
    "auc_macro": _make_auc_macro,
    "f1_macro": _make_f1_macro,
    "ece": _make_ece,
}
SELECTABLE = tuple(name for name in METRICS if name != "ece")
