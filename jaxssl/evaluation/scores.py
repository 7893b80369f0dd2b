"""Classification metrics with 95 % bootstrap intervals over groups: arrays in, plain JSON values out.

Every metric is written for weighted images, [R, N] weights at once. The score itself has weight 1 for each image, and a
bootstrap resample has the number of times that the image's group was drawn: 2,000 resamples are a few matrix products.

Conventions, in each resample as in the score itself:
  accuracy: share of images whose most probable class (the first of equals) is their label.
  balanced_accuracy: mean recall over the classes that occur in `labels`; scikit-learn's `balanced_accuracy_score`.
  auc_macro: one against the rest, ties counted half, mean over the classes with both positives and negatives. The
    ordinary AUC of column 1 where there are two classes.
  f1_macro: mean over the classes that occur in `labels`; scikit-learn's `f1_score(labels=np.unique(labels))`. A class
    that is predicted but never true is no term of the mean, and its images count as missed in their own class.
  ece: expected calibration error of the top probability in 15 bins ((m-1)/15, m/15] (Guo et al. 2017,
    arXiv:1706.04599, eq. 3). Lower is better.
"""

from collections.abc import Callable, Iterator

import numpy as np

from jaxssl.errors import TrainingFailedError, UserError

ECE_BINS = 15
# An [R, N] array of float64 weights of this many elements takes 8 MB; the AUC holds three such at a time.
_CHUNK = 2**20

_Measure = Callable[[np.ndarray], np.ndarray]


def evaluate(
    probabilities: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    seed: int,
    resamples: int = 2000,
    calibrated: np.ndarray | None = None,
) -> dict:
    """Scores predictions, with 95 % percentile bootstrap intervals over groups.

    Whole groups are drawn with replacement, as many as there are, since images of one patient are not independent.
    All metrics see the same resamples, and those are a function of `seed`, `resamples` and the names of the groups:
    the order of the rows does not matter. The interval says how the score of this model would vary with the test
    images. It does not hold the variation between training seeds. `ece` is biased upwards, more so in resamples, so its
    interval may lie wholly above its value.

    Args:
      probabilities: [N, C] float, rows sum to 1.
      labels: [N] int in [0, C).
      groups: [N] str, the patient, lesion or series of each image.
      seed: of the resamples.
      resamples: how many.
      calibrated: [N, C] float, the probabilities after calibration, whose `ece` is added as "ece_calibrated".

    Returns:
      The fields of an evaluation in `results.json` that come from predictions: `images`, `metrics` as
      `{name: {"value", "low", "high"}}`, `majority_accuracy` (of always predicting the most frequent of `labels`),
      `constant_predictor` (one class predicted for every image), `confusion` (rows true, columns predicted).
      What is undefined is None: the AUC where all images are of one class, every interval where there are fewer than
      two groups, every score where there are no images. Resamples in which a metric is undefined are left out of it.

    Raises:
      ValueError: if the shapes disagree, a label is outside [0, C), or a row does not sum to 1.
      TrainingFailedError: if a probability is not finite.
    """
    probabilities, labels = checked(probabilities, labels)
    names, group_of = grouped(groups, len(labels))
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (labels, predicted), 1)

    measures = {name: make(probabilities, labels) for name, make in METRICS.items()}
    if calibrated is not None:
        measures["ece_calibrated"] = METRICS["ece"](*checked(calibrated, labels))
    chunks = resample(group_of, len(names), seed, resamples) if len(names) > 1 else ()
    drawn = [{name: measure(weights) for name, measure in measures.items()} for weights in chunks]
    metrics = {}
    for name, measure in measures.items():
        value = _value(measure, len(labels))
        low, high = interval([chunk[name] for chunk in drawn]) if value is not None else (None, None)
        metrics[name] = {"value": value, "low": low, "high": high}
    return {
        "images": len(labels),
        "metrics": metrics,
        "majority_accuracy": float(confusion.sum(axis=1).max() / len(labels)) if len(labels) else None,
        "constant_predictor": bool(len(np.unique(predicted)) == 1),
        "confusion": confusion.tolist(),
    }


def paired_difference(
    a: np.ndarray,
    b: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    metric: str,
    *,
    seed: int,
    resamples: int = 2000,
) -> dict[str, float | None]:
    """The score of `a` less that of `b` on the same images, with its 95 % percentile bootstrap interval over groups.

    Each resample scores both on the same groups, so that what makes a resample hard for both cancels: the interval is
    that of the difference, narrower than two intervals laid side by side. It does not hold the variation between
    training seeds.

    Args:
      a: [N, C] float, rows sum to 1.
      b: [N, C] float of the same images in the same order.
      labels: [N] int in [0, C).
      groups: [N] str, the patient, lesion or series of each image.
      metric: one of those of this module.
      seed: of the resamples, which are those of `evaluate`.
      resamples: how many.

    Returns:
      {"value", "low", "high"}; what is undefined is None, as in `evaluate`.

    Raises:
      ValueError: if the shapes disagree, a label is outside [0, C), or a row does not sum to 1.
      TrainingFailedError: if a probability is not finite.
    """
    a, labels = checked(a, labels)
    b, _ = checked(b, labels)
    if a.shape != b.shape:
        raise ValueError(f"a and b must be of the same images and classes, not {a.shape} and {b.shape}")
    names, group_of = grouped(groups, len(labels))
    of_a, of_b = METRICS[metric](a, labels), METRICS[metric](b, labels)

    def difference(weights: np.ndarray) -> np.ndarray:
        return of_a(weights) - of_b(weights)

    value = _value(difference, len(labels))
    chunks = resample(group_of, len(names), seed, resamples) if value is not None and len(names) > 1 else ()
    low, high = interval([difference(weights) for weights in chunks])
    return {"value": value, "low": low, "high": high}


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """Accuracy of [N, C] probabilities against [N] labels; None without images."""
    return _score("accuracy", probabilities, labels)


def balanced_accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """Mean recall over the classes in `labels`; None without images."""
    return _score("balanced_accuracy", probabilities, labels)


def auc_macro(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """Mean one-against-the-rest area under the ROC curve; None where all images are of one class."""
    return _score("auc_macro", probabilities, labels)


def f1_macro(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """Mean F1 over the classes in `labels`; None without images."""
    return _score("f1_macro", probabilities, labels)


def ece(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """Expected calibration error in [0, 1]; None without images."""
    return _score("ece", probabilities, labels)


def select(probabilities: np.ndarray, labels: np.ndarray, metric: str) -> float:
    """The score to choose a model by: higher is better, -inf where the metric is undefined.

    Raises:
      UserError: if `metric` is not one of accuracy, balanced_accuracy, auc_macro, f1_macro.
    """
    if metric not in SELECTABLE:
        raise UserError(f'selection metric "{metric}": choose one of {", ".join(SELECTABLE)}')
    value = _score(metric, probabilities, labels)
    return -np.inf if value is None else value


def finite(name: str, array: np.ndarray) -> np.ndarray:
    """`array` as [N, D] float64.

    Raises:
      ValueError: if it is not of two dimensions.
      TrainingFailedError: if a value is not finite, which no score can be made of.
    """
    array = np.asarray(array, np.float64)
    if array.ndim != 2:
        raise ValueError(f"{name} must have two dimensions, not shape {array.shape}")
    if not np.isfinite(array).all():
        rows = np.count_nonzero(~np.isfinite(array).all(axis=1))
        raise TrainingFailedError(f"{name}: {rows} of {len(array)} rows are not finite; the network has diverged")
    return array


def indices(name: str, labels: np.ndarray, images: int, classes: int) -> np.ndarray:
    """`labels` as [images] int in [0, classes).

    Raises:
      ValueError: if they are not; an image without a label has no place in a score.
    """
    labels = np.asarray(labels)
    if labels.shape != (images,):
        raise ValueError(f"{name} must be [{images}], one for each image, not {labels.shape}")
    if images and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"{name} must lie in [0, {classes}), not in [{labels.min()}, {labels.max()}]")
    return labels.astype(int)


def checked(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both, as float64 and as integers. ValueError or TrainingFailedError where they are no probabilities of these labels."""
    probabilities = finite("probabilities", probabilities)
    labels = indices("labels", labels, *probabilities.shape)
    # Loose enough for a softmax in bfloat16, tight enough to catch logits.
    if not np.allclose(probabilities.sum(axis=1), 1, atol=0.02):
        raise ValueError("probabilities must sum to 1 in each row: pass them through a softmax")
    return probabilities, labels


def grouped(groups: np.ndarray, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Names of the groups, and [images] int, which of them each image belongs to."""
    names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    if group_of.shape != (images,):
        raise ValueError(f"groups must be [{images}], one for each image, not {np.shape(groups)}")
    return names, group_of


def _score(metric: str, probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    probabilities, labels = checked(probabilities, labels)
    return _value(METRICS[metric](probabilities, labels), len(labels))


def _value(measure: _Measure, images: int) -> float | None:
    value = float(measure(np.ones((1, images)))[0])
    return None if np.isnan(value) else value


def resample(group_of: np.ndarray, groups: int, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """Yields [r, N] float64 weights, `resamples` rows in all: how often the group of each image was drawn."""
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // len(group_of))
    for start in range(0, resamples, rows):
        r = min(rows, resamples - start)
        draws = rng.integers(groups, size=(r, groups)) + groups * np.arange(r)[:, None]
        counts = np.bincount(draws.ravel(), minlength=r * groups).reshape(r, groups)
        yield np.take(counts.astype(np.float64), group_of, axis=1)


def interval(chunks: list[np.ndarray]) -> tuple[float | None, float | None]:
    """Ends of the 95 % percentile interval of resampled values, without those that are undefined."""
    values = np.concatenate(chunks) if chunks else np.empty(0)
    values = values[~np.isnan(values)]
    if not len(values):
        return None, None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


# Each maker does once what does not depend on the weights, and returns the function from weights [R, N] to scores [R],
# NaN where undefined.


def _make_accuracy(probabilities: np.ndarray, labels: np.ndarray) -> _Measure:
    correct = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    return lambda weights: divide(weights @ correct, weights.sum(axis=1))


def _make_balanced_accuracy(probabilities: np.ndarray, labels: np.ndarray) -> _Measure:
    true, _, hits = _indicators(probabilities, labels)
    return lambda weights: _mean_defined(divide(weights @ hits, weights @ true))


def _make_f1_macro(probabilities: np.ndarray, labels: np.ndarray) -> _Measure:
    true, predicted, hits = _indicators(probabilities, labels)

    def measure(weights: np.ndarray) -> np.ndarray:
        positives = weights @ true
        f1 = divide(2 * (weights @ hits), positives + weights @ predicted)
        return _mean_defined(np.where(positives > 0, f1, np.nan))

    return measure


def _make_ece(probabilities: np.ndarray, labels: np.ndarray) -> _Measure:
    confidence = probabilities.max(axis=1)
    gap = (probabilities.argmax(axis=1) == labels) - confidence
    gaps = np.eye(ECE_BINS)[confidence_bins(confidence)] * gap[:, None]
    return lambda weights: divide(np.abs(weights @ gaps).sum(axis=1), weights.sum(axis=1))


def confidence_bins(confidence: np.ndarray) -> np.ndarray:
    """In which of the bins of the calibration error each confidence [N] lies."""
    return np.clip(np.ceil(confidence * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1)


def _make_auc_macro(probabilities: np.ndarray, labels: np.ndarray) -> _Measure:
    classes = probabilities.shape[1]
    # With two classes the columns say the same, but for ties that rounding of 1 - p makes or breaks.
    parts = [_make_auc(probabilities[:, c], labels == c) for c in ([1] if classes == 2 else range(classes))]
    return lambda weights: _mean_defined(np.stack([part(weights) for part in parts], axis=1))


def _make_auc(scores: np.ndarray, positive: np.ndarray) -> _Measure:
    """Mann-Whitney: the weighted share of (positive, negative) pairs in the right order, ties one half."""
    positives, negatives = np.flatnonzero(positive), np.flatnonzero(~positive)
    negatives = negatives[np.argsort(scores[negatives], kind="stable")]
    below = np.searchsorted(scores[negatives], scores[positives], "left")
    up_to = np.searchsorted(scores[negatives], scores[positives], "right")

    def measure(weights: np.ndarray) -> np.ndarray:
        negative = np.zeros((len(weights), len(negatives) + 1))
        np.cumsum(np.take(weights, negatives, axis=1), axis=1, out=negative[:, 1:])
        beaten = (np.take(negative, below, axis=1) + np.take(negative, up_to, axis=1)) / 2
        positive = np.take(weights, positives, axis=1)
        return divide((positive * beaten).sum(axis=1), positive.sum(axis=1) * negative[:, -1])

    return measure


def _indicators(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[N, C] of 0 and 1: the true class, the predicted class, the true class where it was predicted."""
    one_hot = np.eye(probabilities.shape[1])
    true, predicted = one_hot[labels], one_hot[probabilities.argmax(axis=1)]
    return true, predicted, true * predicted


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(denominator.shape, np.nan), where=denominator > 0)


def _mean_defined(values: np.ndarray) -> np.ndarray:
    """The mean of each row over its entries that are not NaN; NaN where there is none."""
    return divide(np.nansum(values, axis=1), np.count_nonzero(~np.isnan(values), axis=1))


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], _Measure]] = {
    "accuracy": _make_accuracy,
    "balanced_accuracy": _make_balanced_accuracy,
    "auc_macro": _make_auc_macro,
    "f1_macro": _make_f1_macro,
    "ece": _make_ece,
}
SELECTABLE = tuple(name for name in METRICS if name != "ece")
