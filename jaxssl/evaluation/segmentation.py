"""Scores of segmentation: Dice, IoU, 95 % Hausdorff distance, and average precision by pixel.

A mask is [H, W] uint8 of classes: 0 is the background, which is not scored, and 255 in the truth marks pixels that do
not count. Scores are of one image and one class, then averaged: a large lesion weighs as much as a small one. Rules for
empty masks, with sources in docs/segmentation.md:

| truth | prediction | Dice, IoU | 95 % Hausdorff distance |
|---|---|---|---|
| empty | empty | 1 | 0 |
| empty | not empty | 0 | undefined; in means the diagonal of the image |
| not empty | empty | 0 | undefined; in means the diagonal of the image |
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from jaxssl.evaluation import means
from jaxssl.evaluation.scores import group_indices, safe_divide

IGNORE = 255
LEVELS = 256  # Probabilities are rounded to so many for the average precision.
PERCENTILE = 95
_CROSS = ndimage.generate_binary_structure(2, 1)


def scores(predicted: np.ndarray, truth: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """Score the mask of each image.

    Args:
      predicted: [N, H, W] uint8 in [0, classes).
      truth: [N, H, W] uint8 in [0, classes), or `IGNORE`: what is predicted there does not count.
      classes: number of classes, the background included.

    Returns:
      Arrays [N, C] of the C = classes - 1 others, whose column c is of the value c + 1: "dice" (Dice 1945) and "iou" in
      [0, 1], "hausdorff95" in pixels, NaN where one of the masks is empty, and the numbers of pixels "true_pixels",
      "predicted_pixels" and "common_pixels".

    Raises:
      ValueError: the shapes differ, or a value is no class.
    """
    predicted, truth = _check("predicted", predicted, classes), _check("truth", truth, classes, IGNORE)
    if predicted.shape != truth.shape:
        raise ValueError(f"predicted {predicted.shape} and truth {truth.shape} must have the same shape")
    counts = np.zeros((3, len(truth), classes - 1), np.int64)
    distances = np.full((len(truth), classes - 1), np.nan)
    for i, (ours, theirs) in enumerate(zip(predicted, truth, strict=True)):
        ours = np.where(theirs == IGNORE, 0, ours)
        # Row c: pixels with true class c; 0 stands for ignored ones too, where both are background now.
        pairs = np.where(theirs == IGNORE, 0, theirs).astype(int) * classes + ours
        table = np.bincount(pairs.ravel(), minlength=classes**2).reshape(classes, classes)
        counts[:, i] = table.sum(1)[1:], table.sum(0)[1:], np.diag(table)[1:]
        for c in range(classes - 1):
            distances[i, c] = hausdorff95(ours == c + 1, theirs == c + 1)
    true, found, common = counts
    total = true + found
    return {
        "dice": np.where(total > 0, safe_divide(2.0 * common, total), 1.0),
        "iou": np.where(total > 0, safe_divide(1.0 * common, total - common), 1.0),
        "hausdorff95": distances,
        "true_pixels": true,
        "predicted_pixels": found,
        "common_pixels": common,
    }


def hausdorff95(a: np.ndarray, b: np.ndarray) -> float:
    """Return the 95 % Hausdorff distance of two masks [H, W] bool in pixels (Huttenlocher et al. 1993).

    The larger one of the 95th percentiles of the distances from the border of each mask to the border of the other.
    Border pixels are those with a neighbor outside of the mask, up, down, left or right; beyond the image is outside.

    Returns:
      0 if both masks are empty, NaN if one of them is.
    """
    if not a.any() or not b.any():
        return 0.0 if not a.any() and not b.any() else math.nan
    box = ndimage.find_objects((a | b).astype(np.uint8))[0]  # Both borders lie in it, which saves time.
    borders = [mask[box] & np.logical_not(ndimage.binary_erosion(mask[box], _CROSS)) for mask in (a, b)]
    to_a, to_b = (np.asarray(ndimage.distance_transform_edt(~border)) for border in borders)
    return float(max(np.percentile(to_b[borders[0]], PERCENTILE), np.percentile(to_a[borders[1]], PERCENTILE)))


def count_levels(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Count the pixels of each probability, from which `pixel_average_precision` is computed.

    Args:
      probabilities: [N, H, W, C] float in [0, 1], of each class without the background; rounded to 1/255.
      truth: as for `scores`.

    Returns:
      [N, C, 2, 256] int: pixels with this probability that are not, and that are, of the class.
    """
    images, height, width, classes = probabilities.shape
    truth = _check("truth", truth, classes + 1, IGNORE)
    if truth.shape != (images, height, width):
        raise ValueError(f"probabilities {probabilities.shape} and truth {truth.shape} must be of the same images")
    levels = np.rint(np.clip(probabilities, 0, 1) * (LEVELS - 1)).astype(int)
    counts = np.zeros((images, classes, 2, LEVELS), np.int64)
    for i, kept in enumerate(truth != IGNORE):
        for c in range(classes):
            index = levels[i, ..., c][kept] + LEVELS * (truth[i][kept] == c + 1)
            counts[i, c] = np.bincount(index, minlength=2 * LEVELS).reshape(2, LEVELS)
    return counts


def pixel_average_precision(counts: np.ndarray) -> np.ndarray:
    """Return the average precision, the mean precision over all true pixels, of counts [..., 2, 256]; NaN without one.

    Precision is taken at the probability of each true pixel, as scikit-learn's `average_precision_score` does.
    """
    counts = np.asarray(counts, float)[..., ::-1]
    hits = counts[..., 1, :].cumsum(-1)
    precision = np.nan_to_num(safe_divide(hits, counts.sum(-2).cumsum(-1)))
    return safe_divide((precision * counts[..., 1, :]).sum(-1), hits[..., -1])


def is_constant(predicted: np.ndarray) -> bool:
    """Return whether the masks [N, H, W] of two or more images are all the same."""
    return len(predicted) > 1 and bool((predicted[1:] == predicted[:1]).all())


def evaluate(
    of: dict[str, np.ndarray],
    groups: Sequence | np.ndarray,
    shape: tuple[int, int],
    *,
    levels: np.ndarray | None = None,
) -> dict[str, Any]:
    """Average the scores of images, with 95 % intervals over groups.

    Args:
      of: what `scores` returns for N images.
      groups: [N] str, the patient, lesion or series of each image.
      shape: height and width of the masks, whose diagonal takes the place of an undefined distance.
      levels: [N, C, 2, 256], what `count_levels` returns; without it there is no average precision.

    Returns:
      images: N.
      metrics: {name: {"value", "low", "high"}}, the mean over classes of the mean over images, with "without", the
        reason, where an interval lacks: "dice", "iou", "hausdorff95", "dice_present" (over the images that have the
        class, where predicting nothing scores 0), and "pixel_average_precision" (of the pixels of all images).
      over_groups: the same of means over groups, in which each group weighs the same, without average precision.
      class_metrics: [C], `metrics` of each class.
      all_background: "dice", "iou" and "dice_present" of predicting nothing in every image.
      undefined_distances: number of images and classes whose distance is undefined.
      empty_predictor: whether nothing is predicted in any image.
      images_by_class: [C], number of images that have the class.
      groups_by_class: [C], number of groups that have it.
    """
    columns = _columns(of, math.hypot(*shape))
    present, groups = of["true_pixels"] > 0, np.asarray(groups)
    classes = range(present.shape[1])
    metrics = {name: _mean(name, values, groups) for name, values in columns.items()}
    by_class = [{name: _mean(name, v[:, [c]], groups) for name, v in columns.items()} for c in classes]
    if levels is not None:
        metrics["pixel_average_precision"] = _average_precision(levels, groups)
        for c in classes:
            by_class[c]["pixel_average_precision"] = _average_precision(levels[:, [c]], groups)
    background = {"dice": ~present, "iou": ~present, "dice_present": np.where(present, 0.0, np.nan)}
    return {
        "images": len(groups),
        "metrics": metrics,
        "over_groups": {name: _mean(name, *means.group_means(v, groups)) for name, v in columns.items()},
        "class_metrics": by_class,
        "all_background": {
            name: None if math.isnan(mean := means.mean_and_influence(v.astype(float))[0]) else mean
            for name, v in background.items()
        },
        "undefined_distances": int(np.isnan(of["hausdorff95"]).sum()),
        "empty_predictor": not of["predicted_pixels"].any(),
        "images_by_class": present.sum(axis=0).tolist(),
        "groups_by_class": [len(np.unique(groups[column])) for column in present.T],
    }


def paired_differences(
    a: dict[str, np.ndarray], b: dict[str, np.ndarray], groups: Sequence | np.ndarray, shape: tuple[int, int]
) -> dict[str, dict[str, Any]]:
    """Return score(a) - score(b) of two arms on the same images, for each score that is a mean over images.

    Args:
      a: what `scores` returns for one arm.
      b: likewise for the other.
      groups: [N] str.
      shape: as for `evaluate`.

    Returns:
      {name: {"value", "low", "high", "p", "detectable"}}, as `means.paired_difference`.
    """
    ours, theirs = (_columns(of, math.hypot(*shape)) for of in (a, b))
    return {name: means.paired_difference(ours[name], theirs[name], groups) for name in ours}


def _columns(of: dict[str, np.ndarray], diagonal: float) -> dict[str, np.ndarray]:
    """Return the values [N, C] whose means are reported."""
    return {
        "dice": of["dice"],
        "iou": of["iou"],
        "hausdorff95": np.where(np.isnan(of["hausdorff95"]), diagonal, of["hausdorff95"]),
        "dice_present": np.where(of["true_pixels"] > 0, of["dice"], np.nan),
    }


def _mean(name: str, values: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    value, influence = means.mean_and_influence(values)
    # Images that do not have the class say nothing of it: their groups do not count.
    counted = ~np.isnan(values).all(axis=1)
    high = math.inf if name == "hausdorff95" else 1.0
    return means.to_interval(value, influence[counted], groups[counted], high)


def _average_precision(levels: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """Return the mean over classes [C] of the average precision of levels [N, C, 2, 256], with its interval."""

    def average(counts: np.ndarray) -> float:
        found = pixel_average_precision(counts)
        return math.nan if np.isnan(found).all() else float(np.nanmean(found))

    names, indices = group_indices(groups, len(levels))
    of_groups = np.zeros((len(names), *levels.shape[1:]), np.int64)
    np.add.at(of_groups, indices, levels)
    total = of_groups.sum(axis=0)
    influence = means.jackknife_influence(np.array([average(total - of) for of in of_groups]), groups)
    value = average(total)
    if np.isnan(influence).any() and not math.isnan(value):
        without = "without one of the groups no image has the class"
        return {"value": value, "low": None, "high": None, "without": without}
    return means.to_interval(value, influence, groups)


def _check(name: str, mask: np.ndarray, classes: int, *others: int) -> np.ndarray:
    mask = np.asarray(mask)
    if mask.ndim != 3 or mask.dtype != np.uint8:
        raise ValueError(f"{name} must be [N, H, W] uint8, not {mask.shape} {mask.dtype}")
    wrong = sorted(set(np.flatnonzero(np.bincount(mask.ravel(), minlength=LEVELS))) - {*range(classes), *others})
    if wrong:
        raise ValueError(f"{name} has the value {wrong[0]}, and there are {classes} classes with the background")
    return mask
