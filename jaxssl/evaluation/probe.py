"""Linear probe: L2-regularised regression on frozen features, its strength chosen on the validation split.

It is a logistic regression for classes, one for each label where an image may have several, and ridge regression for
values.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits

from jaxssl.errors import UserError
from jaxssl.evaluation import scores

# Grid of scikit-learn's C, the inverse strength of the L2 penalty. The best C falls as images and features grow; seven
# decades cover fifty images to a hundred thousand.
C_GRID = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
DEFAULT_C = 1.0


Path = Iterator[tuple[float, np.ndarray, np.ndarray]]  # C, weights [D, classes], bias [classes]


class Probe(NamedTuple):
    """A fitted probe: p = link((features - mean) / scale @ weights + bias).

    Attributes:
      weights: [D, classes] float64; 0 for a class without training images.
      bias: [classes] float64; -inf for a class without training images.
      mean: [D] float64, mean of the training features.
      scale: [D] float64, their standard deviation; 1 for constant features.
      C: the inverse strength of the L2 penalty.
      validation: the metric on the validation split at this C; -inf where undefined.
      link: "softmax", "sigmoid" for several labels an image, "identity" for values.
    """

    weights: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    C: float
    validation: float
    link: str = "softmax"


def fit(
    train: np.ndarray,
    train_labels: np.ndarray,
    validation: np.ndarray,
    validation_labels: np.ndarray,
    *,
    classes: int,
    metric: str = "auc_macro",
    Cs: Sequence[float] = C_GRID,
    balanced: bool = False,
) -> Probe:
    """Fit the probe on `train` for each C and keep the best by `metric` on `validation`.

    Ties go to the smaller C, the stronger penalty. Where the metric is undefined on the validation split (no images, or
    all of one class) C is `DEFAULT_C`. Deterministic.

    Args:
      train: [M, D] float features.
      train_labels: [M] int in [0, classes); [M, classes] int of 1, 0 and -1 (unknown) for several labels an image; [M]
        float for values.
      validation: [V, D] float features; V may be 0.
      validation_labels: likewise.
      classes: number of classes.
      metric: one of `scores.SELECTABLE`.
      Cs: values of C to try.
      balanced: whether images are weighted inversely to the frequency of their class, or of having the label or not.

    Raises:
      UserError: if there are no training images, or `metric` is unknown.
      TrainingFailedError: if a feature is not finite.
      ValueError: if the shapes disagree or a label is outside [0, classes).
    """
    if not len(train):
        raise UserError(
            "probe: there are no labelled training images. Raise data.label_fraction or check the training split.",
            code="too-few",
            field="data.label_fraction",
        )
    train = scores.check_finite("train features", train)
    validation = scores.check_finite("validation features", validation)
    labels, validation_labels = np.asarray(train_labels), np.asarray(validation_labels)
    value = scores.is_value(labels)
    if labels.ndim == 1 and not value:
        labels = scores.check_labels("train labels", labels, len(train), classes)
    mean, std = train.mean(axis=0), train.std(axis=0)
    # A deviation below 1e-6 of the mean is float32 rounding: dividing by it would scale noise to unit variance.
    scale = np.where(std > 1e-6 * np.abs(mean), std, 1.0)
    guess = validation_labels[:, None] if value else np.full((len(validation), classes), 1 / classes)
    defined = scores.selection_score(guess, validation_labels, metric) > -np.inf

    best: Probe | None = None
    grid = sorted(Cs) if defined else [DEFAULT_C]
    link = "identity" if value else "sigmoid" if labels.ndim == 2 else "softmax"
    for C, weights, bias in _PATHS[link]((train - mean) / scale, labels, classes, grid, balanced):
        probe = Probe(weights, bias, mean, scale, float(C), -np.inf, link)
        score = scores.selection_score(predict_proba(probe, validation), validation_labels, metric)
        if best is None or score > best.validation:
            best = probe._replace(validation=score)
    assert best is not None  # The grid is not empty.
    return best


def to_head(probe: Probe) -> dict[str, dict[str, np.ndarray]]:
    """Return the probe as parameters of a linear layer on features that are not standardized, in float32."""
    kernel = probe.weights / probe.scale[:, None]
    # A class without training images has the bias -inf.
    bias = probe.bias - probe.mean @ kernel
    return {"linear": {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}}


def predict_proba(probe: Probe, features: np.ndarray) -> np.ndarray:
    """Predict class probabilities [N, classes] float64 of features [N, D]; 0 for a class without training images.

    Of a probe for values these are the values [N, 1].

    Raises:
      TrainingFailedError: if a feature is not finite.
    """
    standardised = (scores.check_finite("features", features) - probe.mean) / probe.scale
    z = standardised @ probe.weights + probe.bias
    return softmax(z, axis=1) if probe.link == "softmax" else expit(z) if probe.link == "sigmoid" else z


def _regularization_path(
    features: np.ndarray, labels: np.ndarray, classes: int, Cs: Sequence[float], balanced: bool
) -> Path:
    """Yield (C, weights [D, classes], bias [classes]) for ascending C, each fit warm-started from the one before."""
    present = np.unique(labels)
    weights, bias = np.zeros((features.shape[1], classes)), np.full(classes, -np.inf)
    bias[present] = 0.0
    if len(present) == 1:
        yield from ((C, weights, bias) for C in Cs)
        return
    # `tol` bounds the gradient of the mean loss. With 7,000 images, 512 dimensions and 7 classes the AUC at 1e-4 is
    # within 3e-4 of that at 1e-7 for C up to 0.1 and within 1e-3 for C = 1, in at most half the steps.
    weight = "balanced" if balanced else None
    model = LogisticRegression(solver="lbfgs", tol=1e-4, max_iter=5000, warm_start=True, class_weight=weight)
    for C in Cs:
        # The matrices are small: a second BLAS thread gains little, and costs tenfold where another process has the
        # other core. With one thread the order of additions is also the same on every machine.
        with threadpool_limits(1, user_api="blas"):
            model.set_params(C=C).fit(features, labels)
        weights, bias = weights.copy(), bias.copy()
        # For two classes scikit-learn keeps one row, the log-odds of the second: softmax([0, z]) is sigmoid(z).
        columns = present[1:] if len(present) == 2 else present
        weights[:, columns], bias[columns] = model.coef_.T, model.intercept_
        yield C, weights, bias


def _label_path(features: np.ndarray, labels: np.ndarray, classes: int, Cs: Sequence[float], balanced: bool) -> Path:
    """Like `_regularization_path`, one logistic regression for each label, on the images in which it is known.

    A label that all of these have, or none, gets the share of them that have it, away from 0 and 1 by half an image.
    """
    parts = []
    for c in range(classes):
        rows = labels[:, c] >= 0
        has = labels[rows, c] == 1
        if 0 < has.sum() < len(has):
            path = _regularization_path(features[rows], has.astype(int), 2, Cs, balanced)
            parts.append([(weights[:, 1], bias[1]) for _, weights, bias in path])
        else:
            odds = np.log((has.sum() + 0.5) / ((~has).sum() + 0.5))
            parts.append([(np.zeros(features.shape[1]), odds)] * len(Cs))
    for C, of in zip(Cs, zip(*parts, strict=True), strict=True):
        yield C, np.stack([weights for weights, _ in of], axis=1), np.array([bias for _, bias in of])


def _ridge_path(features: np.ndarray, labels: np.ndarray, classes: int, Cs: Sequence[float], balanced: bool) -> Path:
    """Yield the ridge regression of values [M] with the penalty 1 / C, for each C."""
    del classes, balanced
    for C in Cs:
        with threadpool_limits(1, user_api="blas"):
            model = Ridge(alpha=1 / C).fit(features, labels.astype(np.float64))
        yield C, model.coef_[:, None], np.array([model.intercept_])


_PATHS = {"softmax": _regularization_path, "sigmoid": _label_path, "identity": _ridge_path}
