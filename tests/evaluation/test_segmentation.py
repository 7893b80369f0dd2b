"""Scores of masks against slow, independent implementations, scikit-learn and SciPy."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist, directed_hausdorff
from sklearn.metrics import average_precision_score, f1_score, jaccard_score

from jaxssl.evaluation import means, segmentation

SHAPE = (23, 31)
CLASSES = 3


def masks(seed, images=6, classes=CLASSES, shape=SHAPE):
    """Draw smooth random regions [N, H, W] uint8; the last image is empty."""
    rng = np.random.default_rng(seed)
    fields = gaussian_filter(rng.normal(size=(images, classes + 1, *shape)), (0, 0, 2, 2))
    fields[-1, 0] = 9
    return fields.argmax(1).astype(np.uint8)


@pytest.fixture(scope="module")
def pair():
    truth = masks(0)
    truth[truth == 3] = 0
    truth[1][masks(1)[1] == 3] = 3  # A class that one image has.
    truth[2, :5, :7] = segmentation.IGNORE
    return masks(2), truth


def border(mask):
    """Pixels of the mask with a neighbor outside of it, one by one."""
    found = []
    for y, x in np.argwhere(mask):
        around = ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
        inside = [0 <= v < mask.shape[0] and 0 <= u < mask.shape[1] and mask[v, u] for v, u in around]
        if not all(inside):
            found.append((y, x))
    return np.array(found)


def test_overlap_is_that_of_scikit_learn(pair):
    predicted, truth = pair
    of = segmentation.scores(predicted, truth, CLASSES + 1)
    for i, (ours, theirs) in enumerate(zip(predicted, truth, strict=True)):
        kept = theirs != segmentation.IGNORE
        for c in range(CLASSES):
            a, b = ours[kept] == c + 1, theirs[kept] == c + 1
            assert of["dice"][i, c] == pytest.approx(f1_score(b, a, zero_division=1))
            assert of["iou"][i, c] == pytest.approx(jaccard_score(b, a, zero_division=1))
            counts = [of[f"{name}_pixels"][i, c] for name in ("true", "predicted", "common")]
            assert counts == [b.sum(), a.sum(), (a & b).sum()]


def test_hausdorff_distance_is_that_of_all_pairs_of_border_pixels(pair):
    predicted, truth = pair
    of, tested = segmentation.scores(predicted, truth, CLASSES + 1)["hausdorff95"], 0
    for i, (ours, theirs) in enumerate(zip(predicted, truth, strict=True)):
        for c in range(CLASSES):
            a, b = (border((mask == c + 1) & (theirs != segmentation.IGNORE)) for mask in (ours, theirs))
            if len(a) and len(b):
                between = cdist(a, b)
                slow = max(np.percentile(between.min(0), 95), np.percentile(between.min(1), 95))
                assert of[i, c] == pytest.approx(slow)
                assert slow <= max(directed_hausdorff(a, b)[0], directed_hausdorff(b, a)[0])
                tested += 1
            else:
                assert of[i, c] == 0 if not len(a) and not len(b) else np.isnan(of[i, c])
    assert tested > 8


def test_hausdorff_distance_of_few_pixels_is_that_of_scipy():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = (rng.random((9, 8)) < 0.04 for _ in range(2))
        if 0 < a.sum() < 2 and 0 < b.sum() < 2:  # The 95th percentile of one distance is its maximum.
            assert segmentation.hausdorff95(a, b) == directed_hausdorff(np.argwhere(a), np.argwhere(b))[0]
    square = np.zeros((12, 12), bool)
    square[3:7, 3:7] = True
    assert segmentation.hausdorff95(square, np.roll(square, 3, 1)) == 3
    assert segmentation.hausdorff95(square, square) == 0


def test_empty_masks():
    empty, full = np.zeros((1, 4, 4), np.uint8), np.ones((1, 4, 4), np.uint8)
    values = {
        (a.any(), b.any()): tuple(
            float(segmentation.scores(a, b, 2)[name][0, 0]) for name in ("dice", "iou", "hausdorff95")
        )
        for a in (empty, full)
        for b in (empty, full)
    }
    assert values[False, False] == values[True, True] == (1, 1, 0)
    for mixed in ((True, False), (False, True)):
        assert values[mixed][:2] == (0, 0)
        assert math.isnan(values[mixed][2])


@pytest.mark.parametrize("fault", ["shape", "value", "dtype", "ignored"])
def test_masks_that_do_not_fit_are_refused(fault):
    predicted, truth = np.zeros((2, 4, 4), np.uint8), np.zeros((2, 4, 4), np.uint8)
    if fault == "shape":
        truth = truth[:, :3]
    if fault == "value":
        truth[1, 2, 3] = 7
    if fault == "dtype":
        truth = truth.astype(int)
    if fault == "ignored":
        predicted[0, 0, 0] = 255
    with pytest.raises(ValueError, match={"value": "7", "ignored": "255"}.get(fault)):
        segmentation.scores(predicted, truth, 3)


def test_pixel_average_precision_is_that_of_scikit_learn(pair):
    _, truth = pair
    rng = np.random.default_rng(3)
    p = np.clip(0.3 * (truth[..., None] == np.arange(1, CLASSES + 1)) + 0.7 * rng.random((*truth.shape, CLASSES)), 0, 1)
    counts = segmentation.count_levels(p, truth)
    found = segmentation.pixel_average_precision(counts.sum(0))
    kept = truth != segmentation.IGNORE
    for c in range(CLASSES):
        exact = average_precision_score(truth[kept] == c + 1, p[kept][:, c])
        rounded = average_precision_score(truth[kept] == c + 1, np.rint(255 * p[kept][:, c]))
        assert found[c] == pytest.approx(rounded)
        assert found[c] == pytest.approx(exact, abs=0.01)
    assert np.isnan(segmentation.pixel_average_precision(counts[-1])).all()  # The image without any class.


def grouped(seed, groups=12, size=3):
    truth = np.concatenate([masks(seed + g, size + 1, 2, (12, 12))[:size] for g in range(groups)])
    predicted = np.where(np.random.default_rng(seed).random(truth.shape) < 0.2, 0, truth).astype(np.uint8)
    return predicted, truth, np.repeat([f"g{i}" for i in range(groups)], size)


def test_means_and_their_intervals():
    predicted, truth, groups = grouped(0)
    of = segmentation.scores(predicted, truth, 3)
    found = segmentation.evaluate(
        of, groups, (12, 12), levels=segmentation.count_levels(np.eye(3)[truth][..., 1:], truth)
    )
    dice = found["metrics"]["dice"]
    assert dice["value"] == pytest.approx(of["dice"].mean())
    by_group = of["dice"].mean(1).reshape(12, 3).mean(1)
    assert found["over_groups"]["dice"]["value"] == pytest.approx(by_group.mean())
    # Groups of one size: the interval is that of the mean of 12 independent numbers.
    half = 2.200985 * by_group.std(ddof=1) / math.sqrt(12)
    assert dice["value"] - dice["low"] == pytest.approx(half, rel=0.1)  # The logit makes it a bit wider.
    assert dice["low"] <= dice["value"] - half
    assert found["metrics"]["pixel_average_precision"]["value"] == 1
    present = np.where(truth == 1, 1, 0).any((1, 2))
    assert found["class_metrics"][0]["dice_present"]["value"] == pytest.approx(of["dice"][present, 0].mean())
    assert found["all_background"]["dice_present"] == 0
    assert found["images_by_class"][0] == present.sum()
    assert not found["empty_predictor"]


def test_predicting_nothing_is_flagged_and_scores_as_the_baseline():
    _, truth, groups = grouped(1)
    truth[::2] = 0
    nothing = np.zeros_like(truth)
    found = segmentation.evaluate(segmentation.scores(nothing, truth, 3), groups, (12, 12))
    assert found["empty_predictor"]
    assert segmentation.is_constant(nothing)
    assert not segmentation.is_constant(truth)
    for name, value in found["all_background"].items():
        assert found["metrics"][name]["value"] == value
    # A distance that is undefined is the diagonal.
    share = (truth[..., None] == [1, 2]).any((1, 2)).mean()
    assert found["metrics"]["hausdorff95"]["value"] == pytest.approx(share * math.hypot(12, 12))
    assert found["undefined_distances"] == share * truth.shape[0] * 2


def test_few_groups_have_no_interval():
    predicted, truth, groups = grouped(2, groups=4)
    metrics = segmentation.evaluate(segmentation.scores(predicted, truth, 3), groups, (12, 12))["metrics"]
    assert all(m["low"] is None and "4 groups" in m["without"] for m in metrics.values())


def test_perfect_masks_have_an_interval():
    _, truth, groups = grouped(3)
    dice = segmentation.evaluate(segmentation.scores(truth, truth, 3), groups, (12, 12))["metrics"]["dice"]
    assert (dice["value"], dice["high"]) == (1, 1)
    assert dice["low"] == pytest.approx(0.025 ** (1 / 12))  # Clopper and Pearson, all of 12.


def test_paired_difference():
    predicted, truth, groups = grouped(4)
    ours, theirs = (segmentation.scores(p, truth, 3) for p in (truth, predicted))
    found = segmentation.paired_differences(ours, theirs, groups, (12, 12))["dice"]
    assert found["value"] == pytest.approx((ours["dice"] - theirs["dice"]).mean())
    assert found["p"] == pytest.approx(2 / 2**12)  # All 12 groups on one side.
    assert 0 < found["low"] < found["value"] < found["high"]
    same = segmentation.paired_differences(ours, ours, groups, (12, 12))["dice"]
    assert (same["value"], same["p"]) == (0, 1)
    swapped = segmentation.paired_differences(theirs, ours, groups, (12, 12))["dice"]
    assert swapped["low"] == pytest.approx(-found["high"])


def test_jackknife_of_a_mean_is_its_influence():
    values, groups = np.random.default_rng(0).random(20), np.repeat(np.arange(10), 2)
    of_mean = means.jackknife_influence(np.array([values[groups != g].mean() for g in range(10)]), groups)
    _, influence = means.mean_and_influence(values[:, None])
    assert np.allclose(np.bincount(groups, of_mean), np.bincount(groups, influence))


@pytest.mark.slow
@pytest.mark.parametrize("groups", [6, 10, 40])
def test_intervals_of_dice_cover(groups):
    """Dice of images of a patient are alike: Beta(8, 2) around a mean of the patient."""
    rng, covered, runs = np.random.default_rng(0), 0, 2000
    truth = 0.8
    for _ in range(runs):
        patient = rng.beta(16, 4, groups)
        sizes = rng.integers(1, 6, groups)
        values = np.concatenate([rng.beta(10 * m, 10 * (1 - m), n) for m, n in zip(patient, sizes, strict=True)])
        value, influence = means.mean_and_influence(values[:, None])
        found = means.to_interval(value, influence, np.repeat(np.arange(groups), sizes))
        covered += found["low"] <= truth <= found["high"]
    assert covered / runs > 0.93
