"""Scores of detection against slow, independent implementations."""

import math

import numpy as np
import pytest
from skimage.measure import label as label_components
from skimage.measure import regionprops

from jaxssl.evaluation import detection
from jaxssl.evaluation.detection import Lesions


def draw(seed, images=14, classes=3):
    """Draw true boxes, and predicted ones: true ones moved, and others; scores with ties."""
    rng = np.random.default_rng(seed)
    truth, predicted = [], []
    for i in range(images):
        count = int(rng.integers(0, 4)) if i else 0  # The first image has no lesion.
        corners = rng.integers(0, 40, (count, 2))
        boxes = np.hstack([corners, corners + rng.integers(3, 12, (count, 2))]).astype(float)
        labels = rng.integers(1, classes, count)
        truth.append(Lesions(boxes, labels, np.ones(count)))
        extra = rng.integers(0, 40, (3, 2))
        moved = boxes + rng.integers(-3, 4, boxes.shape)
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        others = np.hstack([extra, extra + 8])
        both = np.vstack([moved, others, boxes[:1] + 1])
        scores = np.round(rng.random(len(both)), 1)
        predicted.append(Lesions(both, np.concatenate([labels, rng.integers(1, classes, 3), labels[:1]]), scores))
    return predicted, truth, [f"g{i // 2}" for i in range(images)]


def overlap(a, b):
    """IoU of two boxes of integers, by counting pixels."""

    def pixels(box):
        return {(x, y) for x in range(int(box[0]), int(box[2])) for y in range(int(box[1]), int(box[3]))}

    first, second = pixels(a), pixels(b)
    return len(first & second) / len(first | second)


def curve(predicted, truth, label, iou, images):
    """Hits and misses at each threshold, matched from the start: (hits, misses), and the number of lesions."""
    total, found = sum((truth[i].labels == label).sum() for i in images), []
    for threshold in sorted({s for of in predicted for s in of.scores}, reverse=True):
        hits = misses = 0
        for i in images:
            free = [box for box, c in zip(truth[i].boxes, truth[i].labels, strict=True) if c == label]
            ours = [(s, box) for box, c, s in zip(*predicted[i], strict=True) if c == label and s >= threshold]
            for _, box in sorted(ours, key=lambda pair: -pair[0]):
                best = max(range(len(free)), key=lambda k: overlap(box, free[k]), default=None)
                if best is not None and overlap(box, free[best]) >= iou:
                    hits += 1
                    del free[best]
                else:
                    misses += 1
        found.append((hits, misses))
    return found, total


@pytest.mark.parametrize("seed", [0, 1])
def test_scores_are_those_of_a_slow_implementation(seed):
    predicted, truth, _ = draw(seed)
    images = range(len(truth))
    for label in (1, 2):
        for iou in detection.IOUS:
            points, total = curve(predicted, truth, label, iou, images)
            slow = []
            for recall in np.arange(101) / 100:
                precisions = [h / (h + m) for h, m in points if h and h / total >= recall - 1e-9]
                slow.append(max(precisions, default=0) if recall or points else 0)
            matched = detection.match(predicted, truth, label, iou)
            assert detection.average_precision(matched, np.ones(len(truth))) == pytest.approx(np.mean(slow))
        points, total = curve(predicted, truth, label, 0.1, images)
        matched = detection.match(predicted, truth, label, 0.1)
        slow = [
            max((h / total for h, m in points if m / 14 <= r), default=0) for r in (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
        ]
        assert np.allclose(detection.sensitivities(matched, np.ones(len(truth))), slow)


def test_intervals_are_those_of_leaving_groups_out():
    predicted, truth, groups = draw(2)
    found = detection.evaluate(predicted, truth, 3, groups)
    without = []
    for g in sorted(set(groups)):
        kept = [i for i, of in enumerate(groups) if of != g]
        part = detection.evaluate([predicted[i] for i in kept], [truth[i] for i in kept], 3, [groups[i] for i in kept])
        without.append(part["metrics"]["froc"]["value"])
    error = math.sqrt(6 / 7 * ((np.array(without) - np.mean(without)) ** 2).sum())
    # The variance of a sum over 7 groups has 7 / 6 in cluster_variance, as that of a mean.
    assert found["metrics"]["froc"]["value"] - found["metrics"]["froc"]["low"] >= 2.446 * error
    assert found["metrics"]["froc"]["low"] == pytest.approx(found["metrics"]["froc"]["value"] - 2.447 * error, abs=0.03)
    assert found["lesions_by_class"] == [sum((of.labels == c).sum() for of in truth) for c in (1, 2)]


def test_perfect_empty_and_constant_detectors():
    _, truth, groups = draw(3)
    nothing = [Lesions(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0)) for _ in truth]
    perfect = detection.evaluate(truth, truth, 3, groups)["metrics"]
    empty = detection.evaluate(nothing, truth, 3, groups)["metrics"]
    assert all(m["value"] == 1 and m["low"] < 1 for m in perfect.values())
    assert all(m["value"] == 0 and m["high"] > 0 for m in empty.values())
    undefined = detection.evaluate(truth, nothing, 3, groups)["metrics"]
    assert all(m["value"] is None for m in undefined.values())


def test_a_lesion_is_hit_once():
    one = Lesions(np.array([[0.0, 0, 4, 4]]), np.array([1]), np.array([1.0]))
    two = Lesions(np.array([[0.0, 0, 4, 4], [0, 0, 4, 4]]), np.array([1, 1]), np.array([0.9, 0.8]))
    assert detection.match([two], [one], 1, 0.5).hits.tolist() == [True, False]
    assert detection.match([one], [one._replace(labels=np.array([2]))], 1, 0.5).hits.tolist() == [False]


def test_components_are_those_of_scikit_image():
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 6, (30, 40)).astype(np.uint8) // 2 * (rng.random((30, 40)) < 0.5)
    mask[0, 0] = 255
    p = rng.random((30, 40, 2))
    found = detection.find_lesions(mask, 3, p)
    expected = []
    for c in (1, 2):
        for region in regionprops(label_components(mask == c, connectivity=2)):
            top, left, bottom, right = region.bbox
            expected.append((c, left, top, right, bottom, max(p[y, x, c - 1] for y, x in region.coords)))
    ours = [(c, *box, s) for box, c, s in zip(*found, strict=True)]
    assert sorted(ours) == sorted(expected)
    sizes = detection.find_lesions(mask, 3).scores
    assert sizes.sum() == ((mask > 0) & (mask < 3)).sum()
    assert detection.find_lesions(np.zeros((4, 4), np.uint8), 3).boxes.shape == (0, 4)
