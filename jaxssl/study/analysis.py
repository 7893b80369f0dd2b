"""The content of compare.json: scores of all arms, their paired differences, and what these allow to conclude."""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from jaxssl import files
from jaxssl.errors import UserError, did_you_mean
from jaxssl.evaluation import significance
from jaxssl.evaluation.ends import TRANSFORMS
from jaxssl.evaluation.intervals import Compared, Measured, TestImages
from jaxssl.evaluation.significance import MIN_SEEDS
from jaxssl.evaluation.tasks import TASKS, Task
from jaxssl.results import cautions
from jaxssl.results.predictions import task_name
from jaxssl.results.study_conclusions import (
    TOO_FEW_SEEDS,
    describe_limits,
    headline_metrics,
    judge_difference,
    sort_key,
)
from jaxssl.results.study_schema import Study
from jaxssl.results.words import is_segmentation
from jaxssl.study.arms import (
    Arm,
    Arms,
    Cell,
    Unit,
    check_same_images,
    collect_arms,
    confounded_fields,
    find_start,
    is_alike,
    mean_label_fraction,
)
from jaxssl.study.folds import pool_folds
from jaxssl.study.learning import learning_curves, mean_overfitting
from jaxssl.study.runs import Run

COPIES = ("test_images_copied_in_train", "test_images_nearly_copied_in_train")
TESTED = 2  # Of the metrics that a task compares, the first ones are tested.
# {(arm, metric, seeds and folds): the mean over these runs}
Cache = dict[tuple[Arm, str, tuple[Unit, ...]], Measured]


def analyze(runs: Sequence[Run], unfinished: int = 0, against: str | None = None) -> Study:
    """Return the content of compare.json, which does not depend on the order of the runs.

    Args:
      runs: from `runs.find_runs`.
      unfinished: how many more have not finished.
      against: name of an arm; all others are compared with it only.

    Raises:
      UserError: runs of the same seed and fold have different test images; no arm is called `against`.
    """
    parts = [collect_arms(sorted(of, key=lambda run: run.folder)) for of in split_by_task(runs)]
    arms = {arm: cells for of, _, _ in parts for arm, cells in of.items()}
    if against is not None and against not in (names := {arm.name for arm in arms}):
        valid = f"{did_you_mean(against, names)}Valid names: {', '.join(sorted(names))}"
        raise UserError(f"--against={against!r} is not an arm: {valid}", code="unknown-name", field="--against")
    described, differences = [], []
    for of, images, _ in parts:
        tested, cache = TestImages(images.labels, images.groups), {}
        described += [describe_arm(arm, cells, tested, cache) for arm, cells in of.items()]
        differences += [
            compare_arms(a, b, metric, of, tested, cache)
            for a, b in pair_arms(of, against)
            if of[a].keys() & of[b].keys()
            for metric in TASKS[task_name(next(iter(of[a].values())).run.results)].compared[:TESTED]
        ]
    tests = adjust_p_values(differences)
    for d in differences:
        d["verdict"], d["sentence"] = judge_difference(d)
    groups = max(len(np.unique(images.groups)) for _, images, _ in parts)
    result = {
        "dataset": describe_dataset(runs),
        "runs": len(runs),
        "unfinished": unfinished,
        "split": split_kind([cell for cells in parts[0][0].values() for cell in cells.values()]),
        "images": max(len(images.labels) for _, images, _ in parts),
        "groups": groups,
        "tests": tests,
        "arms": described,
        "differences": differences,
        "curves": label_efficiency(described),
    }
    confounded = confounded_fields(arms) if not runs or any(run.settings for run in runs) else None
    limits = describe_limits(result, groups, sum(repeated for _, _, repeated in parts), confounded)
    ordered = sorted(differences, key=sort_key)
    may = [d["sentence"] for d in ordered if d["verdict"] != "open"]
    may_not = limits + [d["sentence"] for d in ordered if d["verdict"] == "open"]
    return cast(Study, result | {"conclusion": {"may": may, "may_not": may_not}})


def split_by_task(runs: Sequence[Run]) -> list[list[Run]]:
    """Return the runs with their evaluations of labels alone, and with those of masks alone, where there are both."""
    parts: dict[bool, list[Run]] = {}
    for run, of_masks in itertools.product(runs, (False, True)):
        kept = [e for e in run.results["evaluations"] if is_segmentation(e) == of_masks]
        if kept:
            parts.setdefault(of_masks, []).append(run._replace(results={**run.results, "evaluations": kept}))
    return list(parts.values()) or [list(runs)]


def measure(arm: Arm, cells: dict[Unit, Cell], metric: str, images: TestImages, cache: Cache) -> Measured:
    """Return the mean score of these runs of an arm, from the cache if it is there."""
    key = arm, metric, tuple(cells)
    if key not in cache:
        cache[key] = images.measure(metric, [cell.predictions for cell in cells.values()])
    return cache[key]


def describe_dataset(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the "dataset" of compare.json."""
    datasets = [run.results["dataset"] for run in runs]
    titles = {dataset.get("title") for dataset in datasets} - {None}
    return {
        "name": datasets[0]["name"],
        **({"title": titles.pop()} if len(titles) == 1 else {}),
        "task": task_name(runs[0].results),
        "classes": datasets[0]["classes"],
        "fingerprints": sorted({dataset["fingerprint"] for dataset in datasets}),
        "groups_known": all(dataset["groups_known"] for dataset in datasets),
        **{name: max(dataset.get(name, 0) for dataset in datasets) for name in COPIES},
        "missing_classes": {
            split: sorted({name for dataset in datasets for name in missing_classes(dataset, split)})
            for split in ("train", "validation", "test")
        },
    }


def missing_classes(dataset: Mapping[str, Any], split: str) -> list[str]:
    """Return the classes without an image in a split of a run; [] where the run does not tell."""
    return dataset["splits"].get(split, {}).get("missing_classes", [])


def split_kind(cells: Sequence[Cell]) -> str:
    """Return how the test images of the runs are related: the "split" of compare.json."""
    units = {(cell.seed, cell.fold): cell for cell in cells}
    if len(units) < 2:
        return "one run"
    first = cells[0]
    if first.run.simulated and len({cell.seed for cell in cells}) == len(units):
        return "simulated"
    same = all(np.array_equal(first.predictions.rows, cell.predictions.rows) for cell in units.values())
    return "fixed" if same else "resplit"


def test_to_train_ratio(cells: Sequence[Cell]) -> float:
    """Return n_test/n_train if the runs share training images and have different test images, else 0."""
    if split_kind(cells) != "resplit":
        return 0.0
    sizes = [cell.run.results["dataset"]["splits"] for cell in cells]
    return float(np.mean([size["test"]["images"] / max(1, size["train"]["images"]) for size in sizes]))


def describe_arm(arm: Arm, cells: dict[Unit, Cell], images: TestImages, cache: Cache) -> dict[str, Any]:
    """Return one of the "arms" of compare.json."""
    tested = np.unique(np.concatenate([cell.predictions.rows for cell in cells.values()]))
    ratio = test_to_train_ratio(list(cells.values()))
    metrics = {}
    task = TASKS[task_name(next(iter(cells.values())).run.results)]
    for metric in task.metrics:
        if metric == "f1_macro":  # Of which there is no test.
            continue
        summary = summarize(measure(arm, cells, metric, images, cache), list(cells), ratio)
        low, high = (summary["over_runs"][end] for end in ("low", "high"))
        del summary["detectable"]
        least, most = TRANSFORMS[metric][0] if metric in TRANSFORMS else (0.0, 1.0)
        clipped = [None if end is None else min(most, max(least, end)) for end in (low, high)]
        metrics[metric] = summary | {"over_runs": dict(zip(("low", "high"), clipped, strict=True))}
    return {
        "name": arm.name,
        "method": arm.method,
        "init": arm.init,
        "protocol": arm.protocol,
        "labels": arm.labels,
        "label_fraction": mean_label_fraction(cells),
        "settings": {field: json.loads(value) for field, value in arm.settings},
        "runs": len(cells),
        "seeds": sorted({seed for seed, _ in cells}),
        "folds": sorted({fold for _, fold in cells if fold is not None}),
        "images": len(tested),
        "groups": len(np.unique(images.groups[tested])),
        "majority_accuracy": float(
            np.mean([_majority_share(images.labels[cell.predictions.rows]) for cell in cells.values()])
        )
        if task.has_classes
        else None,
        "constant_runs": sum(_is_constant(task, cell.predictions.probabilities) for cell in cells.values()),
        **mean_compute(arm, list(cells.values())),
        "metrics": metrics,
        "overfitting": mean_overfitting(cells, ratio),
        "learning": learning_curves(cells),
        "out_of_fold": pool_folds(cells, images, task),
    }


def _is_constant(task: Task, probabilities: np.ndarray) -> bool:
    predicted = task.predicted(probabilities)
    return bool(len(predicted) and (predicted == predicted[:1]).all())


def _majority_share(labels: np.ndarray) -> float:
    return float(np.bincount(labels).max() / len(labels))


def mean_compute(arm: Arm, cells: Sequence[Cell]) -> dict[str, float | None]:
    """Return the cost of an arm as means over its runs; None where a run does not report it."""
    none = {"seconds": 0.0, "images": 0, "steps": 0}
    pretraining = [none if arm.method is None else dict(cell.run.results["pretrain"] or {}) for cell in cells]
    transfer = [dict(cell.evaluation.get("compute", {})) for cell in cells]

    def mean(*parts: Sequence[dict[str, Any]], field: str) -> float | None:
        values = [of.get(field) for part in parts for of in part]
        return None if None in values else sum(v for v in values if v is not None) / len(cells)

    return {
        "pretrain_seconds": mean(pretraining, field="seconds"),
        "pretrain_steps": mean(pretraining, field="steps"),
        "transfer_seconds": mean(transfer, field="seconds"),
        "trained_images": mean(pretraining, transfer, field="images"),
    }


def summarize(of: Measured | Compared, units: Sequence[Unit], ratio: float) -> dict[str, Any]:
    """Return mean and intervals over runs and over groups of a score or a difference, and what runs could have shown.

    Args:
      of: over K runs; those in which it is undefined do not count.
      units: seed and fold of each run.
      ratio: from `test_to_train_ratio`.
    """
    values = np.array(of.values)
    defined = ~np.isnan(values)
    seeds = len({seed for (seed, _), known in zip(units, defined, strict=True) if known})
    runs = significance.corrected_t_test(values[defined], seeds=seeds, test_to_train=ratio)
    low, high = of.ends or (None, None)
    return {
        "mean": runs["mean"],
        "std": runs["std"],
        "over_runs": {end: runs[end] for end in ("low", "high", "p")},
        "over_groups": {"low": low, "high": high, "without": of.without},
        "detectable": runs["detectable"],
        "values": files.nan_to_null(values.tolist()),
    }


def pair_arms(arms: Arms, against: str | None) -> list[tuple[Arm, Arm]]:
    """Return the pairs (a, b) of one protocol and share of the labels, b before a in the order of the arms.

    With `against`, only the pairs in which b has this name.
    """
    pairs = []
    for b, a in itertools.combinations(arms, 2):
        if is_alike(a, b):
            pairs.append((b, a) if a.name == against else (a, b))
    return [(a, b) for a, b in pairs if against in (None, b.name)]


def compare_arms(a: Arm, b: Arm, metric: str, arms: Arms, images: TestImages, cache: Cache) -> dict[str, Any]:
    """Return `a - b` over the runs whose seed and fold both have; without verdict and adjusted p-value."""
    units = [unit for unit in arms[a] if unit in arms[b]]
    for unit in units:
        check_same_images(arms[a][unit], arms[b][unit])
    ratio = test_to_train_ratio([arms[a][unit] for unit in units])
    cells = [{unit: arms[arm][unit] for unit in units} for arm in (a, b)]
    of_a, of_b = (measure(arm, of, metric, images, cache) for arm, of in zip((a, b), cells, strict=True))
    first, second = ([cell.predictions for cell in of.values()] for of in cells)
    compared = images.compare(metric, first, second, of_a, of_b)
    summary = summarize(compared, units, ratio)
    add_p_values(summary, compared)
    return {
        "a": a.name,
        "b": b.name,
        "effect": b == find_start(a, arms),
        "protocol": a.protocol,
        "labels": a.labels,
        "label_fraction": mean_label_fraction(arms[a]),
        "metric": metric,
        "runs": len(units),
        "seeds": len({seed for seed, _ in units}),
        "test_to_train": ratio,
        **summary,
        "without": find_obstacle([(arms[a][unit], arms[b][unit]) for unit in units]),
        "mcnemar": mcnemar_test(arms[a], arms[b], units, images) if metric == "accuracy" else None,
    }


def find_obstacle(pairs: Sequence[tuple[Cell, Cell]]) -> str:
    """Return why there is no verdict on two arms: what rules one out in at least half of the pairs of runs."""
    found = []
    for pair in pairs:
        obstacles = (cautions.find_obstacle(cell.run.results, cell.evaluation["init"]) for cell in pair)
        found += [next(filter(None, obstacles), "")]
    known = [obstacle for obstacle in found if obstacle]
    return known[0] if 2 * len(known) >= len(found) else ""


def add_p_values(summary: dict[str, Any], compared: Compared) -> None:
    """Add the p-value over test groups, that of the intersection-union test with the p-value over runs, and the
    difference that both could have shown.

    Args:
      summary: from `summarize`; changed in place.
      compared: what it summarizes.
    """
    summary["over_groups"]["p"] = compared.p
    summary["p"] = significance.intersection_union_p(summary["over_runs"]["p"], compared.p)
    over_runs = summary["detectable"] if summary["over_runs"]["p"] is not None else None
    summary["detectable"] = max(compared.detectable, over_runs or 0.0) if compared.detectable else None


def mcnemar_test(a: dict[Unit, Cell], b: dict[Unit, Cell], units: Sequence[Unit], images: TestImages) -> dict[str, Any]:
    """Return McNemar's test of each seed, its folds together, combined into one p-value."""
    counts: dict[int, np.ndarray] = {}
    clustered = False
    for unit in units:
        rows = a[unit].predictions.rows
        right = (of[unit].predictions.probabilities.argmax(axis=1) == images.labels[rows] for of in (a, b))
        counts[unit[0]] = counts.get(unit[0], np.zeros(2, int)) + np.array(significance.count_discordant(*right))
        clustered |= len(np.unique(images.groups[rows])) < len(rows)
    only_a, only_b = np.sum(list(counts.values()), axis=0).tolist()
    without = "groups of several images" if clustered else TOO_FEW_SEEDS if len(counts) < MIN_SEEDS else None
    p = None
    if not without:
        p = significance.combine_p_values([significance.mcnemar_p(*of.tolist()) for of in counts.values()])
    return {"only_a": only_a, "only_b": only_b, "p": p, "without": without}


def adjust_p_values(differences: list[dict[str, Any]]) -> int:
    """Add `p_holm` to every difference, and return how many have a p-value.

    Verdicts rest on the p-values of the differences, for other seeds and test groups, or for other test groups only;
    each of these, and McNemar's tests, are families of their own. What a study is about, the effects of starts, is
    corrected for itself; every other difference is corrected for all, of which there may be hundreds.
    """
    for of in (differences, [d for d in differences if d["effect"]]):
        over_groups, mcnemar = [d["over_groups"] for d in of], [d["mcnemar"] for d in of if d["mcnemar"]]
        for tests in (of, over_groups, mcnemar):
            for test, adjusted in zip(tests, significance.holm([test["p"] for test in tests]), strict=True):
                test["p_holm"] = adjusted
    return sum(d["p"] is not None for d in differences)


def label_efficiency(arms: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the "curves" of compare.json: scores by share of the labels, for arms with several shares."""
    by_name: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for arm in arms:
        by_name.setdefault((arm["name"], arm["protocol"]), []).append(arm)
    curves = []
    for (name, protocol), of in by_name.items():
        ordered = sorted(of, key=lambda arm: arm["label_fraction"])
        for metric in headline_metrics(ordered) if len(ordered) > 1 else ():
            points = [
                {field: arm[field] for field in ("label_fraction", "labels")}
                | {field: arm["metrics"][metric][field] for field in ("mean", "over_runs", "over_groups")}
                for arm in ordered
            ]
            curves.append({"name": name, "protocol": protocol, "metric": metric, "points": points})
    return curves
