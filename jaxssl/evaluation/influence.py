"""How much each image contributes to a score, and to the difference of two: what intervals and tests are made of.

Scores are those of `jaxssl.evaluation.scores`, except for "ece".
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

from jaxssl.evaluation.scores import known_labels, point_predictions

# (probabilities [n, C], labels [n]) -> values [n]
Influence = Callable[[np.ndarray, np.ndarray], np.ndarray]


MEANS = ("dice", "iou")  # Means over images, in the order of the columns that hold the scores of an image.


class Variance(NamedTuple):
    """A variance with its degrees of freedom; both NaN where a stratum has fewer than two groups."""

    value: float
    df: float


def influence(metric: str, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the influence of each image on a score.

    For the AUC these are the placement values of DeLong et al. (1988, Biometrics 44:837), for the others what an image
    adds to a mean or, for F1, to the terms of its derivative.

    Args:
      metric: one of `scores.METRICS`, except for "ece".
      probabilities: [n, C] float; predictions and labels as for `scores.check_predictions`.
      labels: [n] int, [n, C] int or [n] float.

    Returns:
      [n] float with sum 0; the sum of their squares is the variance of the score for independent images. NaN where the
      score is undefined.
    """
    return _INFLUENCE[metric](probabilities, labels)


def swap_contributions(metric: str, a: np.ndarray, b: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return what each image contributes to score(a) - score(b): where `a` and `b` are swapped, its sign changes.

    For every choice of images whose predictions are swapped between the arms, the difference of the scores is the sum
    of these contributions, with the sign of the swapped ones changed. For the AUC that holds because swaps are of ranks
    within each arm, as in Venkatraman and Begg (1996, Biometrika 83:835): a monotone change of the scores of an arm,
    such as another calibration, changes nothing.

    Args:
      metric: "accuracy", "balanced_accuracy", "auc_macro", "mae" or "r2"; no such sum gives the others.
      a: [n, C] float.
      b: [n, C] float, of the same images.
      labels: [n] int, [n, C] int or [n] float.

    Returns:
      [n] float; NaN where a score is undefined.
    """
    if metric == "accuracy":
        return (_correct(a, labels) - _correct(b, labels)) / len(labels)
    if metric == "balanced_accuracy":
        return (_correct(a, labels) - _correct(b, labels)) * _class_weights(labels)
    if metric in MEANS:
        return (a - b)[:, MEANS.index(metric)] / len(labels)
    if metric == "mae":
        return (_error(a, labels) - _error(b, labels)) / len(labels)
    if metric == "r2":
        total = len(labels) * labels.var()
        return (_error(b, labels) ** 2 - _error(a, labels) ** 2) / (total or np.nan)
    if labels.ndim == 2:
        values, known = np.zeros(len(labels)), known_labels(labels)
        for c, rows, positive in known:
            values[rows] += _auc_swap(a[rows, c], b[rows, c], positive) / len(known)
        return values if known else np.full(len(labels), np.nan)
    parts = [_auc_swap(a[:, c], b[:, c], labels == c) for c in auc_classes(a.shape[1], labels)]
    return np.mean(parts, axis=0) if parts else np.full(len(labels), np.nan)


def auc_classes(classes: int, labels: np.ndarray) -> list[int]:
    """Return the classes whose one-vs-rest AUC is defined; of two classes the second only."""
    counts = np.bincount(labels, minlength=classes)
    return [c for c in ([1] if classes == 2 else range(classes)) if 0 < counts[c] < len(labels)]


def cluster_variance(values: np.ndarray, groups: np.ndarray, strata: np.ndarray) -> Variance:
    """Return the variance of a sum of influences over images of groups that are drawn within strata.

    The estimate of Obuchowski (1997, Biometrics 53:567) with the classes as strata, for any number of them. Degrees of
    freedom by Satterthwaite (1946).

    Args:
      values: [n] float, influences.
      groups: [n] int, the group of each image.
      strata: [n] int, its stratum: its class, or 0 for all.
    """
    size, total, between, denominator = int(groups.max()) + 1, 0.0, 0.0, 0.0
    sums = np.zeros(size)
    for stratum in np.unique(strata):
        inside = strata == stratum
        count = len(np.unique(groups[inside]))
        if count < 2:
            return Variance(np.nan, np.nan)
        part = np.bincount(groups[inside], values[inside], size)
        own = count / (count - 1) * float(part @ part)
        between += own
        denominator += own**2 / (count - 1)
        total += own - float(part @ part)
        sums += part
    count = len(np.unique(groups))
    # What groups with images of several strata have in common enters by the square of their sum.
    value = max(0.0, total + float(sums @ sums))
    df = between**2 / denominator if denominator else count - 1.0
    return Variance(value, max(1.0, min(df, count - 1.0)))


def _correct(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return (probabilities.argmax(axis=1) == labels).astype(float)


def _class_weights(labels: np.ndarray) -> np.ndarray:
    """Return 1 / (classes x images of the own class) for each image."""
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return 1 / (len(counts) * counts[inverse])


def _accuracy(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    correct = _correct(probabilities, labels)
    return (correct - correct.mean()) / len(labels)


def _balanced_accuracy(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    correct = _correct(probabilities, labels)
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    recall = np.bincount(inverse, correct) / counts
    return (correct - recall[inverse]) * _class_weights(labels)


def _f1_macro(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    predicted, classes = probabilities.argmax(axis=1), np.unique(labels)
    values = np.zeros(len(labels))
    for c in classes:
        marked = (labels == c).astype(float) + (predicted == c)
        hits = ((labels == c) & (predicted == c)).astype(float)
        values += (2 * hits - 2 * hits.sum() / marked.sum() * marked) / marked.sum() / len(classes)
    return values


def _auc_macro(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    if labels.ndim == 2:
        return _mean_of_labels(_auc, probabilities, labels)
    parts = [_auc(probabilities[:, c], labels == c) for c in auc_classes(probabilities.shape[1], labels)]
    return np.mean(parts, axis=0) if parts else np.full(len(labels), np.nan)


def _auc(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    values = np.empty(len(scores))
    values[positive] = _share_below(scores[positive], scores[~positive])
    values[~positive] = 1 - _share_below(scores[~positive], scores[positive])
    auc = values[positive].mean()
    return (values - auc) / np.where(positive, positive.sum(), (~positive).sum())


def _mean_of_labels(influence_of: Influence, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    values, known = np.zeros(len(labels)), known_labels(labels)
    for c, rows, positive in known:
        values[rows] += influence_of(probabilities[rows, c], positive) / len(known)
    return values if known else np.full(len(labels), np.nan)


def _average_precision(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return _mean_of_labels(_precision, probabilities, labels)


def _precision(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Return the derivative of the average precision by the weight of each image."""
    order = np.argsort(-scores, kind="stable")
    ends = np.searchsorted(-scores[order], -scores, "right")  # Images that are scored at least as high as each.
    hits = np.cumsum(positive[order])[ends - 1]
    precision, count = hits / ends, positive.sum()
    # An image enters the precision at all positives that are scored at most as high.
    gain, loss = (np.where(positive, by, 0)[order] for by in (1 / ends, hits / ends**2))
    first = np.searchsorted(-scores[order], -scores, "left")
    own, all_of = (np.append(np.cumsum(of[::-1])[::-1], 0)[first] for of in (gain, loss))
    return (positive * (precision - precision[positive].mean() + own) - all_of) / count


def _error(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.abs(point_predictions(probabilities) - labels)


def _mean_of(column: int) -> Influence:
    return lambda values, labels: (values[:, column] - values[:, column].mean()) / len(labels)


def _mae(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    error = _error(probabilities, labels)
    return (error - error.mean()) / len(labels)


def _r2(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return _ratio(_error(probabilities, labels) ** 2, (labels - labels.mean()) ** 2, labels.var())


def _quadratic_kappa(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    p, y = point_predictions(probabilities), labels.astype(float)
    # What chance expects is a mean over pairs of images: each image is in it as prediction and as truth.
    expected = (p**2).mean() - 2 * p.mean() * y.mean() + (y**2).mean()
    of_image = p**2 - 2 * p * y.mean() + (y**2).mean() + y**2 - 2 * y * p.mean() + (p**2).mean() - expected
    return _ratio((p - y) ** 2, of_image, expected)


def _ratio(above: np.ndarray, below: np.ndarray, mean_below: float) -> np.ndarray:
    """Return the influence on 1 - A / B; `below` has the mean B."""
    if mean_below <= 0:
        return np.full(len(above), np.nan)
    ratio = above.mean() / mean_below
    return -(above - above.mean() - ratio * (below - mean_below)) / mean_below / len(above)


def _spearman(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    x, y = point_predictions(probabilities), labels
    a, b = (stats.rankdata(of) - 0.5 for of in (x, y))
    a, b = a / len(x) - 0.5, b / len(y) - 0.5
    spread = a.var(), b.var()
    if not min(spread) > 0:
        return np.full(len(x), np.nan)

    def moment(u: np.ndarray, v: np.ndarray, of_u: np.ndarray, of_v: np.ndarray) -> np.ndarray:
        return u * v + _mean_above(of_u, v) + _mean_above(of_v, u) - 3 * (u * v).mean()

    root = np.sqrt(spread[0] * spread[1])
    rho = (a * b).mean() / root
    change = moment(a, b, x, y) / root - rho / 2 * (moment(a, a, x, x) / spread[0] + moment(b, b, y, y) / spread[1])
    return change / len(x)


def _mean_above(values: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """Return for each value the sum of the terms of higher values, and half of those of equal ones, over n."""
    order = np.argsort(values, kind="stable")
    sums = np.append(np.cumsum(terms[order][::-1])[::-1], 0)
    first, last = (np.searchsorted(values[order], values, side) for side in ("left", "right"))
    return (sums[first] + sums[last]) / 2 / len(values)


def _auc_swap(a: np.ndarray, b: np.ndarray, positive: np.ndarray) -> np.ndarray:
    ranks_a, ranks_b = stats.rankdata(a), stats.rankdata(b)
    contributions = np.empty(len(a))
    for own, sign in ((positive, 1.0), (~positive, -1.0)):
        others = np.concatenate([ranks_a[~own], ranks_b[~own]])
        gain = _share_below(ranks_a[own], others) - _share_below(ranks_b[own], others)
        contributions[own] = sign * gain / own.sum()
    return contributions


def _share_below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return for each value the share of `others` below it, equal ones counted half."""
    others = np.sort(others)
    below, up_to = (np.searchsorted(others, values, side) for side in ("left", "right"))
    return (below + up_to) / (2 * len(others))


_INFLUENCE: dict[str, Influence] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "auc_macro": _auc_macro,
    "f1_macro": _f1_macro,
    "average_precision": _average_precision,
    "quadratic_kappa": _quadratic_kappa,
    "mae": _mae,
    "r2": _r2,
    "spearman": _spearman,
    "dice": _mean_of(0),
    "iou": _mean_of(1),
}
