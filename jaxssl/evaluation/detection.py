"""Scores of detection, with intervals over groups: sensitivity at false positives per image (FROC), average precision.

A lesion is a box: of a connected component of a mask, or as annotated. A predicted box is a hit if it overlaps a lesion
of its class that no better one has hit: boxes are taken from the highest score down, and each takes the free lesion
with the highest IoU, if that reaches the threshold (the rule of COCO, Lin et al. 2014, arXiv:1405.0312).

  average_precision_<t>: area under the precision-recall curve at IoU t, interpolated at 101 recalls as in COCO.
  sensitivity_<r>: share of lesions hit at IoU .1, at the score threshold that lets through most boxes while false
    positives are at most r per image; images without a lesion count. In steps, not interpolated.
  froc: the mean of these over r = 1/8, 1/4, 1/2, 1, 2, 4, 8 (Setio et al. 2017, arXiv:1612.08012, section 3.3).

Boxes of equal score enter together, so that their order does not matter.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from jaxssl.evaluation import means
from jaxssl.evaluation.scores import group_indices, safe_divide

IOUS = (0.1, 0.3, 0.5)
FROC_IOU = 0.1  # As in nnDetection (Baumgartner et al. 2021, arXiv:2106.00817): small lesions have rough borders.
FALSE_POSITIVES = (0.125, 0.25, 0.5, 1, 2, 4, 8)
NAMES = (
    "froc",
    *(f"sensitivity_{rate:g}" for rate in FALSE_POSITIVES),
    *(f"average_precision_{iou:g}" for iou in IOUS),
)
_RECALLS = np.linspace(0, 1, 101)
_NEIGHBORS = np.ones((3, 3))  # Pixels that touch at a corner are of one lesion.


class Lesions(NamedTuple):
    """The lesions of one image, true or predicted.

    Attributes:
      boxes: [K, 4] float: left, top, right, bottom in pixels; a pixel is one wide.
      labels: [K] int, their classes, from 1.
      scores: [K] float, higher for the more certain; of no meaning for true ones.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


class Matched(NamedTuple):
    """The boxes of one class in all images after matching at one IoU.

    Attributes:
      images: [P] int, the image of each box.
      scores: [P] float.
      hits: [P] bool.
      lesions: [N] int, the number of true lesions of each image.
    """

    images: np.ndarray
    scores: np.ndarray
    hits: np.ndarray
    lesions: np.ndarray


def find_lesions(mask: np.ndarray, classes: int, probabilities: np.ndarray | None = None) -> Lesions:
    """Return the connected components of each class of a mask, with 8 neighbors a pixel.

    Args:
      mask: [H, W] uint8: 0 is the background, values of `classes` and above do not count.
      classes: number of classes, the background included.
      probabilities: [H, W, classes - 1] float, of each class without the background; the score of a component is the
        highest of its class in it. Without them it is the number of its pixels.
    """
    boxes, labels, scores = [], [], []
    for label, (rows, columns), inside in iter_components(mask, classes):
        boxes.append((columns.start, rows.start, columns.stop, rows.stop))
        labels.append(label)
        of = None if probabilities is None else probabilities[rows, columns, label - 1][inside]
        scores.append(inside.sum() if of is None else of.max())
    return Lesions(np.array(boxes, float).reshape(-1, 4), np.array(labels, int), np.array(scores, float))


def iter_components(mask: np.ndarray, classes: int) -> Iterator[tuple[int, tuple[slice, slice], np.ndarray]]:
    """Yield class, box (rows and columns) and pixels [h, w] bool in it of each connected component of a mask."""
    for label in range(1, classes):
        components = np.zeros(mask.shape, np.int32)
        ndimage.label(mask == label, _NEIGHBORS, output=components)
        for i, box in enumerate(ndimage.find_objects(components), 1):
            yield label, box, components[box] == i


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the intersection over union [A, B] of boxes [A, 4] and [B, 4]; 0 for two boxes without area."""
    low, high = np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    areas = [(of[:, 2:] - of[:, :2]).prod(-1) for of in (a, b)]
    return np.nan_to_num(safe_divide(common, areas[0][:, None] + areas[1] - common))


def match(predicted: Sequence[Lesions], truth: Sequence[Lesions], label: int, iou: float) -> Matched:
    """Match the boxes of one class in N images. See the head of this module."""
    images, scores, hits = [], [], []
    for i, (ours, theirs) in enumerate(zip(predicted, truth, strict=True)):
        chosen = ours.labels == label
        order = np.argsort(-ours.scores[chosen], kind="stable")
        overlaps = box_iou(ours.boxes[chosen][order], theirs.boxes[theirs.labels == label])
        images += [i] * len(order)
        scores += ours.scores[chosen][order].tolist()
        hits += _match_image(overlaps, iou)
    lesions = np.array([(of.labels == label).sum() for of in truth], int)
    return Matched(np.array(images, int), np.array(scores, float), np.array(hits, bool), lesions)


def _match_image(overlaps: np.ndarray, iou: float) -> list[bool]:
    overlaps, hits = overlaps.copy(), []
    for row in overlaps:
        best = int(row.argmax()) if row.size else 0
        hits.append(bool(row.size and row[best] >= iou))
        if hits[-1]:
            overlaps[:, best] = -1
    return hits


def average_precision(of: Matched, weights: np.ndarray) -> float:
    """Return the average precision where image i counts `weights[i]` times; NaN without a lesion."""
    hits, misses, lesions = _accumulate(of, weights)
    if not lesions:
        return math.nan
    precision = np.maximum.accumulate(safe_divide(hits, hits + misses)[::-1])[::-1]
    place = np.searchsorted(hits / lesions, _RECALLS - 1e-12)
    return float(np.append(precision, 0.0)[place].mean())


def sensitivities(of: Matched, weights: np.ndarray) -> np.ndarray:
    """Return the sensitivity [7] at each of `FALSE_POSITIVES` per image; NaN without a lesion."""
    hits, misses, lesions = _accumulate(of, weights)
    if not lesions:
        return np.full(len(FALSE_POSITIVES), np.nan)
    place = np.searchsorted(misses / weights.sum(), np.array(FALSE_POSITIVES) + 1e-12, "right")
    return np.append(0.0, hits / lesions)[place]


def _accumulate(of: Matched, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the numbers of hits and of misses down to each distinct score, and the number of lesions."""
    counted = weights[of.images]
    order = np.argsort(-of.scores, kind="stable")
    order = order[counted[order] > 0]
    scores, hits, counted = of.scores[order], of.hits[order], counted[order]
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(order) else np.empty(0, int)
    return (hits * counted).cumsum()[ends], (~hits * counted).cumsum()[ends], float(weights @ of.lesions)


def evaluate(
    predicted: Sequence[Lesions], truth: Sequence[Lesions], classes: int, groups: Sequence | np.ndarray
) -> dict[str, Any]:
    """Score predicted lesions of N images, with 95 % intervals over groups by the jackknife.

    Args:
      predicted: of each image.
      truth: likewise.
      classes: number of classes, the background included.
      groups: [N] str, the patient, lesion or series of each image.

    Returns:
      images: N.
      metrics: {name: {"value", "low", "high"}}, the mean over classes that have lesions, with "without", the reason,
        where an interval lacks: "froc", "sensitivity_<r>", "average_precision_<t>".
      class_metrics: [C], `metrics` of each class without the background.
      lesions_by_class: [C], number of true lesions.
      predicted_by_class: [C], number of predicted ones.
    """
    labels, groups = range(1, classes), np.asarray(groups)
    matched = [[match(predicted, truth, label, iou) for iou in (FROC_IOU, *IOUS)] for label in labels]

    def statistic(weights: np.ndarray) -> np.ndarray:
        """Return the scores [1 + C, M]: the mean over classes, and those of each class."""
        by_class = np.array([_measure(of, weights) for of in matched])
        defined = by_class[~np.isnan(by_class[:, 0])]
        return np.vstack([defined.mean(axis=0) if len(defined) else np.full(len(NAMES), np.nan), by_class])

    names, indices = group_indices(groups, len(groups))
    without = np.array([statistic((indices != g).astype(float)) for g in range(len(names))])
    values, influence = statistic(np.ones(len(groups))), means.jackknife_influence(without, groups)
    estimates = [
        {name: _estimate(values[row, i], influence[:, row, i], groups) for i, name in enumerate(NAMES)}
        for row in range(classes)
    ]
    return {
        "images": len(groups),
        "metrics": estimates[0],
        "class_metrics": estimates[1:],
        "lesions_by_class": [sum(int((of.labels == label).sum()) for of in truth) for label in labels],
        "predicted_by_class": [sum(int((of.labels == label).sum()) for of in predicted) for label in labels],
    }


def _measure(matched: Sequence[Matched], weights: np.ndarray) -> list[float]:
    """Return the scores of one class in the order of `NAMES`."""
    sensitivity = sensitivities(matched[0], weights)
    return [float(sensitivity.mean()), *sensitivity, *(average_precision(of, weights) for of in matched[1:])]


def _estimate(value: float, influence: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    if np.isnan(influence).any() and not math.isnan(value):
        without = "without one of the groups there is no lesion"
        return {"value": float(value), "low": None, "high": None, "without": without}
    return means.to_interval(float(value), influence, groups)
