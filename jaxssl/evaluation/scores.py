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

Of several labels an image, labels are [N, C] int: 1, 0, or -1 where unknown, and a label is scored on the images in
which it is known:
  auc_macro: mean AUC over the labels with both positives and negatives.
  average_precision: mean over these labels of the mean precision at each positive, that of the images scored at least
    as high; scikit-learn's `average_precision_score`.
Of ordered classes, and of values, which are labels [N] float with predictions [N, 1]:
  dice, iou: mean over images, of masks; the "predictions" [N, 2] are the Dice and the IoU of each image.
  mae: mean absolute error; of ordered classes between the numbers of the predicted and the true class. Lower is better.
  quadratic_kappa: Cohen's kappa with weights (i - j)^2; scikit-learn's `cohen_kappa_score(weights="quadratic")`.
  r2: 1 - mean squared error / variance of the labels; scikit-learn's `r2_score`.
  spearman: Pearson correlation of the ranks, of which equal values share the mean.
"""

from collections.abc import Callable, Iterator

import numpy as np

from jaxssl.errors import TrainingFailedError, UserError

ECE_BINS = 15
# Elements of a float64 array of weights [R, N]: 8 MB. The AUC holds three such arrays at a time.
_CHUNK = 2**20

# From weights [R, N] to scores [R].
_WeightedMetric = Callable[[np.ndarray], np.ndarray]


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


def is_value(labels: np.ndarray) -> bool:
    """Return whether labels are values: [N] float."""
    return labels.ndim == 1 and labels.dtype.kind == "f"


def check_predictions(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions as float64, and labels as int, or as float64 if they are values.

    Args:
      probabilities: [N, C] for labels [N] int, rows sum to 1; or for labels [N, C] int; [N, 1] for labels [N] float,
        or [N, 2], the scores of masks.
      labels: see above.

    Raises:
      ValueError: if the shapes disagree, a label is outside [0, C), or a row does not sum to 1.
      TrainingFailedError: if a probability is not finite.
    """
    probabilities, labels = check_finite("probabilities", probabilities), np.asarray(labels)
    if is_value(labels) and len(labels):
        if probabilities.shape not in ((len(labels), 1), (len(labels), 2)) or not np.isfinite(labels).all():
            raise ValueError(f"predictions of {len(labels)} finite values must be [N, 1], not {probabilities.shape}")
        return probabilities, labels.astype(np.float64)
    if labels.ndim == 2:
        if probabilities.shape != labels.shape or not np.isin(labels, (-1, 0, 1)).all():
            raise ValueError(f"labels must be 1, 0 or -1 and of shape {probabilities.shape}, not {labels.shape}")
        if len(labels) and not (probabilities.min() >= 0 and probabilities.max() <= 1):
            raise ValueError("probabilities must lie in [0, 1]: pass them through a sigmoid")
        return probabilities, labels.astype(int)
    labels = check_labels("labels", labels, *probabilities.shape)
    # Loose enough for a softmax in bfloat16, tight enough to catch logits.
    if not np.allclose(probabilities.sum(axis=1), 1, atol=0.02):
        raise ValueError("probabilities must sum to 1 in each row: pass them through a softmax")
    return probabilities, labels


def to_unit_length(features: np.ndarray) -> np.ndarray:
    """Scale each row of [N, D] to length 1; rows of zeros stay."""
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(norm > 0, norm, 1)


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
    if labels.ndim == 2:
        return _make_mean_of_labels(_make_auc, probabilities, labels)
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


def known_labels(labels: np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Return (column, rows, positive) of each of several labels [N, C] that has both positives and negatives.

    `rows` [n] int are the images in which it is known, `positive` [n] bool is whether they have it.
    """
    columns = [(c, np.flatnonzero(labels[:, c] >= 0)) for c in range(labels.shape[1])]
    found = [(c, rows, labels[rows, c] == 1) for c, rows in columns]
    return [(c, rows, positive) for c, rows, positive in found if 0 < positive.sum() < len(positive)]


def _make_mean_of_labels(
    make: Callable[[np.ndarray, np.ndarray], _WeightedMetric], probabilities: np.ndarray, labels: np.ndarray
) -> _WeightedMetric:
    """Return the mean over labels of the metric that `make` makes of scores and positives."""
    parts = [(rows, make(probabilities[rows, c], positive)) for c, rows, positive in known_labels(labels)]
    if not parts:
        return lambda weights: np.full(len(weights), np.nan)
    return lambda weights: _mean_defined(np.stack([metric(weights[:, rows]) for rows, metric in parts], axis=1))


def _make_average_precision(probabilities: np.ndarray, labels: np.ndarray) -> _WeightedMetric:
    return _make_mean_of_labels(_make_precision, probabilities, labels)


def _make_precision(scores: np.ndarray, positive: np.ndarray) -> _WeightedMetric:
    order = np.argsort(-scores, kind="stable")
    hits, last = positive[order].astype(float), np.searchsorted(-scores[order], -scores[order], "right") - 1

    def metric(weights: np.ndarray) -> np.ndarray:
        weights = np.take(weights, order, axis=1)
        above, hit = np.cumsum(weights, axis=1)[:, last], np.cumsum(weights * hits, axis=1)[:, last]
        precision = np.nan_to_num(safe_divide(hit, above))
        return safe_divide((weights * hits * precision).sum(axis=1), weights @ hits)

    return metric


# Of ordered classes and of values.


def point_predictions(probabilities: np.ndarray) -> np.ndarray:
    """Return the predicted values [N] of [N, 1], or the numbers of the most probable classes of [N, C]."""
    return probabilities[:, 0] if probabilities.shape[1] == 1 else probabilities.argmax(axis=1).astype(float)


def _make_mae(probabilities: np.ndarray, labels: np.ndarray) -> _WeightedMetric:
    error = np.abs(point_predictions(probabilities) - labels)
    return lambda weights: safe_divide(weights @ error, weights.sum(axis=1))


def _make_mean(column: int) -> Callable[[np.ndarray, np.ndarray], _WeightedMetric]:
    """The mean over images of a score that each has."""
    return lambda values, labels: lambda weights: safe_divide(weights @ values[:, column], weights.sum(axis=1))


def _make_r2(probabilities: np.ndarray, labels: np.ndarray) -> _WeightedMetric:
    squares, centred = (point_predictions(probabilities) - labels) ** 2, labels - labels.mean()

    def metric(weights: np.ndarray) -> np.ndarray:
        total = weights.sum(axis=1)
        spread = safe_divide(weights @ centred**2, total) - safe_divide(weights @ centred, total) ** 2
        return 1 - safe_divide(safe_divide(weights @ squares, total), spread)

    return metric


def _make_quadratic_kappa(probabilities: np.ndarray, labels: np.ndarray) -> _WeightedMetric:
    predicted = point_predictions(probabilities)

    def metric(weights: np.ndarray) -> np.ndarray:
        def mean(values: np.ndarray) -> np.ndarray:
            return safe_divide(weights @ values, weights.sum(axis=1))

        expected = mean(predicted**2) - 2 * mean(predicted) * mean(labels) + mean(labels**2)
        return 1 - safe_divide(mean((predicted - labels) ** 2), expected)

    return metric


def _make_spearman(probabilities: np.ndarray, labels: np.ndarray) -> _WeightedMetric:
    ranks = [_make_ranks(values) for values in (point_predictions(probabilities), labels)]

    def metric(weights: np.ndarray) -> np.ndarray:
        total = weights.sum(axis=1, keepdims=True)
        a, b = (safe_divide(rank(weights), np.broadcast_to(total, weights.shape)) - 0.5 for rank in ranks)
        spread = np.sqrt((weights * a * a).sum(axis=1) * (weights * b * b).sum(axis=1))
        return safe_divide((weights * a * b).sum(axis=1), spread)

    return metric


def _make_ranks(values: np.ndarray) -> _WeightedMetric:
    """Return the weight below each value, and half of that at it: [R, N] of weights [R, N]."""
    order = np.argsort(values, kind="stable")
    below, up_to = (np.searchsorted(values[order], values, side) for side in ("left", "right"))

    def ranks(weights: np.ndarray) -> np.ndarray:
        sums = np.zeros((len(weights), len(values) + 1))
        np.cumsum(np.take(weights, order, axis=1), axis=1, out=sums[:, 1:])
        return (np.take(sums, below, axis=1) + np.take(sums, up_to, axis=1)) / 2

    return ranks


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
    "average_precision": _make_average_precision,
    "quadratic_kappa": _make_quadratic_kappa,
    "mae": _make_mae,
    "r2": _make_r2,
    "spearman": _make_spearman,
    "dice": _make_mean(0),
    "iou": _make_mean(1),
}
SELECTABLE = tuple(name for name in METRICS if name not in ("ece", "mae", "dice", "iou"))  # Of which more is better.
