"""Simulated test sets: how often verdicts are wrong, how often they are found, how often intervals hold the truth.

    python -m tests.evaluation.simulate

prints the tables of docs/statistics.md (some ten minutes). The tests take fewer trials of the same cells.
"""

import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy import stats

from jaxssl.evaluation import scores
from jaxssl.evaluation.ends import auc_interval
from jaxssl.evaluation.influence import Variance
from jaxssl.evaluation.intervals import RunPredictions, TestImages

TRIALS = 1000


class Draw(NamedTuple):
    """One simulated test set: evidence [runs, N] of two arms for the second of two classes."""

    a: np.ndarray
    b: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    rows: list[np.ndarray]  # Of each run.


def probabilities(evidence: np.ndarray) -> np.ndarray:
    p = 1 / (1 + np.exp(-evidence))
    return np.stack([1 - p, p], axis=-1)


def runs_of(evidence: np.ndarray, rows: list[np.ndarray]) -> list[RunPredictions]:
    return [RunPredictions(r, probabilities(e[r])) for e, r in zip(evidence, rows, strict=True)]


# Cells.


def patients(rng, groups, each, gains=(0.7, 0.7), own=1.0):
    """Patients with `each` images of both classes, who are hard or easy for an arm by chance (deviation `own`)."""
    n = groups * each
    of, labels = np.repeat(np.arange(groups), each), rng.integers(2, size=n)
    labels[:2] = 0, 1
    sign = 2 * labels - 1
    a, b = (sign * (gain + own * rng.normal(size=groups)[of]) + rng.normal(size=n) for gain in gains)
    return Draw(a[None], b[None], labels, of, [np.arange(n)])


def images(rng, positive, negative, gains=(1.0, 1.0), shared=0.5, scale=1.0):
    """Images of a patient each; what makes them hard is partly `shared` by both arms. `scale`: calibration of `b`."""
    labels = np.repeat([1, 0], [positive, negative])
    n, hard = len(labels), rng.normal(size=positive + negative)
    a, b = (
        labels * gain + np.sqrt(shared) * hard + np.sqrt(1 - shared) * rng.normal(size=n) - gain / 2 for gain in gains
    )
    return Draw(a[None], scale * b[None], labels, np.arange(n), [np.arange(n)])


def two_kinds(rng, positive, negative, seen):
    """Images of a patient each; a share `seen` of the positive ones is obvious, the others look like negative ones."""
    labels = np.repeat([1, 0], [positive, negative])
    evidence = rng.normal(size=len(labels)) + 6 * (labels * (rng.random(len(labels)) < seen))
    return Draw(evidence[None], evidence[None], labels, np.arange(len(labels)), [np.arange(len(labels))])


def splits(rng, groups=60, each=2, folds=5, overlap=False):
    """Runs on folds, or on random splits that overlap, of the same patients; each arm has a chance of its own a run."""
    n = groups * each
    of, labels = np.repeat(np.arange(groups), each), rng.integers(2, size=n)
    hard = rng.normal(size=(2, 1, groups))[..., of]
    a, b = (2 * labels - 1) * (0.8 + hard) + 0.5 * rng.normal(size=(2, folds, n))
    if overlap:
        rows = [np.flatnonzero(np.isin(of, rng.choice(groups, groups // 3, replace=False))) for _ in range(folds)]
    else:
        part = rng.permutation(groups) % folds
        rows = [np.flatnonzero(part[of] == k) for k in range(folds)]
    return Draw(a, b, labels, of, rows)


NULL: dict[str, Callable[[np.random.Generator], Draw]] = {
    **{
        f"{g} patients": lambda rng, g=g, each=each: patients(rng, g, each)
        for g, each in ((2, 40), (3, 40), (5, 40), (8, 20), (15, 20), (50, 4))
    },
    **{f"{p} positives of {p + 300}": lambda rng, p=p: images(rng, p, 300) for p in (2, 3, 5, 10, 30)},
    **{
        f"{p} positives, scores of one arm 20 times as wide": lambda rng, p=p: images(rng, p, 300, scale=20.0)
        for p in (5, 30)
    },
    "25 + 26 images": lambda rng: images(rng, 25, 26),
    "5 folds of 60 patients": splits,
    "5 random splits of 60 patients": lambda rng: splits(rng, overlap=True),
}
POWER = {
    f"{n} images, gain {gain}": lambda rng, n=n, gain=gain: images(rng, n // 2, n // 2, (1.0 + gain, 1.0))
    for n in (50, 200)
    for gain in (0.3, 0.6, 1.0)
}
COVERAGE: dict[str, tuple[Callable[[np.random.Generator], Draw], float, float]] = {
    **{
        f"{p} + {n} images, AUC {auc(a):.2f} and {auc(b):.2f}": (
            lambda rng, p=p, n=n, a=a, b=b: images(rng, p, n, (a, b)),
            auc(a),
            auc(b),
        )
        for auc in [lambda gain: float(stats.norm.cdf(gain / 2**0.5))]
        for p, n in ((5, 300), (10, 10), (10, 300), (25, 26), (100, 100))
        for a, b in ((1.0, 1.0), (2.5, 1.5))
    },
    **{
        f"{g} patients with {each} images, AUC {auc(a):.2f} and {auc(b):.2f}": (
            lambda rng, g=g, each=each, a=a, b=b: patients(rng, g, each, (a, b)),
            auc(a),
            auc(b),
        )
        for auc in [lambda gain: float(stats.norm.cdf(gain))]
        for g, each in ((8, 20), (15, 20), (50, 4))
        for a, b in ((0.7, 0.7), (1.2, 0.5))
    },
}
TWO_KINDS = [(p, n, seen) for p, n in ((5, 300), (10, 10), (10, 300), (25, 26), (100, 100)) for seen in (0.5, 0.8)]


# Measures.


def verdict(draw: Draw, metric: str = "auc_macro") -> int:
    """Return 1 where `a` is called better, -1 where worse, 0 where nothing is concluded."""
    found = TestImages(draw.labels, draw.groups).compare(metric, runs_of(draw.a, draw.rows), runs_of(draw.b, draw.rows))
    if found.ends is None:
        return 0
    low, high = found.ends
    assert found.p is not None and (low > 0 or high < 0) == (found.p <= 0.05), "the interval contradicts the p-value"
    return 1 if low > 0 else -1 if high < 0 else 0


def bootstrap_verdict(draw: Draw, rng: np.random.Generator, resamples: int = 400) -> int:
    """Return the same by the percentiles of a bootstrap over the groups, as jaxssl did before."""
    groups = draw.groups.max() + 1
    counts = rng.multinomial(groups, np.full(groups, 1 / groups), size=resamples)[:, draw.groups].astype(float)
    a, b = (scores.METRICS["auc_macro"](probabilities(of[0]), draw.labels)(counts) for of in (draw.a, draw.b))
    low, high = np.nanpercentile(a - b, [2.5, 97.5])
    return 1 if low > 0 else -1 if high < 0 else 0


def draws(make: Callable[[np.random.Generator], Draw], trials: int) -> Iterator[tuple[Draw, np.random.Generator]]:
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        yield make(rng), rng


def error(make: Callable[[np.random.Generator], Draw], trials: int, metric: str = "auc_macro") -> float:
    """Return how often one of two equal arms is called better."""
    return float(np.mean([verdict(draw, metric) != 0 for draw, _ in draws(make, trials)]))


def power(make: Callable[[np.random.Generator], Draw], trials: int) -> tuple[float, float]:
    """Return how often the better arm is called better, by the randomization test and by a bootstrap."""
    found = [(verdict(draw) > 0, bootstrap_verdict(draw, rng) > 0) for draw, rng in draws(make, trials)]
    own, other = np.mean(found, axis=0)
    return float(own), float(other)


def coverage(make: Callable[[np.random.Generator], Draw], a: float, b: float, trials: int) -> tuple[float, float]:
    """Return how often the interval of an AUC, and that of a difference, hold the truth, of those that are given."""
    one, both = [], []
    for draw, _ in draws(make, trials):
        images = TestImages(draw.labels, draw.groups)
        arms = runs_of(draw.a, draw.rows), runs_of(draw.b, draw.rows)
        ends = images.measure("auc_macro", arms[0]).ends
        if ends:
            one.append(ends[0] <= a <= ends[1])
            low, high = images.compare("auc_macro", *arms).ends or (-1, 1)
            both.append(low <= a - b <= high)
    return float(np.mean(one)), float(np.mean(both))


def coverage_of_two_kinds(positive: int, negative: int, seen: float, trials: int) -> tuple[float, float]:
    """Return how often the interval of the AUC holds the truth, and how often Newcombe's alone does.

    The latter takes its variance from the AUC and the numbers of images, not from the predictions.
    """
    truth = seen * stats.norm.cdf(6 / 2**0.5) + (1 - seen) / 2
    hits = []
    for draw, _ in draws(lambda rng: two_kinds(rng, positive, negative, seen), trials):
        found = TestImages(draw.labels, draw.groups).measure("auc_macro", runs_of(draw.a, draw.rows))
        alone = auc_interval(found.value, Variance(0.0, 1.0), [(positive, negative)], 1.0)
        hits.append([low <= truth <= high for low, high in (found.ends or (0.0, 1.0), alone)])
    own, other = np.mean(hits, axis=0)
    return float(own), float(other)


def accuracy_coverage(groups: int, each: int, right: float, trials: int) -> float:
    """Return how often the interval of an accuracy holds the truth; patients with several images differ."""
    hits = []
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        chance = rng.beta(4 * right, 4 * (1 - right), size=groups) if each > 1 else np.full(groups, right)
        of = np.repeat(np.arange(groups), each)
        correct = rng.random(groups * each) < chance[of]
        predicted = np.stack([correct, ~correct], axis=1).astype(float)
        images = TestImages(np.zeros(groups * each, int), of)
        ends = images.measure("accuracy", [RunPredictions(np.arange(groups * each), predicted)]).ends
        hits.append(ends is not None and ends[0] <= right <= ends[1])
    return float(np.mean(hits))


ACCURACY = [(g, 1, right) for g in (8, 20, 50) for right in (0.8, 0.95)]
ACCURACY += [(g, 20, right) for g in (5, 8, 20, 50) for right in (0.8, 0.95)]


def print_row(*cells: str | float) -> None:
    print("| " + " | ".join(cell if isinstance(cell, str) else f"{cell:.3f}" for cell in cells) + " |", flush=True)


def main(trials: int) -> None:
    print(f"Of {trials:,} test sets with two equal arms, one is called better in\n")
    print_row("test images", "macro AUC", "accuracy")
    print_row("---", "---", "---")
    for name, make in NULL.items():
        print_row(name, error(make, trials), error(make, trials, "accuracy"))
    print("\nOf as many where one arm is better, it is called better in\n")
    print_row("test images", "randomization test", "percentile bootstrap")
    print_row("---", "---", "---")
    for name, make in POWER.items():
        print_row(name, *power(make, trials))
    print("\n95 % intervals hold the truth in\n")
    print_row("test images", "macro AUC", "difference")
    print_row("---", "---", "---")
    for name, (make, a, b) in COVERAGE.items():
        print_row(name, *coverage(make, a, b, trials))
    print()
    print_row("test images", "macro AUC", "by Newcombe's interval alone")
    print_row("---", "---", "---")
    for positive, negative, seen in TWO_KINDS:
        name = f"{positive} + {negative} images, of the positive ones {seen:.0%} obvious"
        print_row(name, *coverage_of_two_kinds(positive, negative, seen, trials))
    print()
    print_row("test images", "accuracy")
    print_row("---", "---")
    for groups, each, right in ACCURACY:
        who = f"{groups} images" if each == 1 else f"{groups} patients with {each} images"
        print_row(f"{who}, accuracy {right}", accuracy_coverage(groups, each, right, trials))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else TRIALS)
