"""`jaxssl compare S [S2 ...] [--to=DIR] [--against=ARM]`: which arm is better, by how much, how sure that is.

Reads every run below the folders S: names, seeds, folds and shares of the labels from results.json, what makes two arms
of one method from config.json where it is there, and every score from predictions.csv, by `jaxssl.evaluation.significance`.

An arm is a method with an initialisation, a protocol and a share of the labels; its runs differ in seed or fold. Arms
are compared run by run, on the same test images, within a protocol and a share of the labels. Written to --to (S, the
first, by default): report.html, compare.json, compare_arms.csv and compare_differences.csv.

compare.json (a number that is undefined is null):
  dataset: {name, classes, fingerprints, groups_known}
  runs, unfinished: how many folders hold a run, and how many more one that has not ended
  split: "one run"; "fixed", all runs have the same test images; "resplit", seeds or folds have others of the same data;
    "simulated", each seed has images of its own
  resamples: of the test groups
  tests: how many differences have a p-value, over all of which Holm's correction goes
  arms: a list of
    name, method (null: none), init, protocol, labels (in words), label_fraction, settings ({config field: value} in
    which it differs from others of its name), runs, seeds, folds, images (of all test splits together), groups
    majority_accuracy: mean over runs, of always predicting the commonest class of the test images
    constant_runs: how many runs predict one class for every image
    pretrain_seconds: mean over runs, 0.0 without pretraining, null where it is not known
    transfer_seconds: mean over runs, of all learning rates that were tried; null where it is not known
    trained_images: mean over runs, what pretraining and transfer saw, as often as they did; null where it is not known
    metrics: {metric: {mean, std, over_runs: {low, high}, over_groups: {low, high}, values: one each run}}
  differences: a list of, `a` less `b`,
    a, b, protocol, labels, label_fraction, metric, runs, seeds, test_to_train (of the corrected t-test), mean, std
    over_runs, over_groups: {low, high, p}, of other seeds and of other test groups; no p from fewer than five seeds
    p: the larger of these two, for a difference that is to hold for both; p_holm
    mcnemar: null for other metrics than accuracy, else {only_a, only_b: images of all runs that it alone has right,
      p, p_holm: corrected over the McNemar tests, without: why there is no p, or null}
    verdict: "higher", "lower" (for other seeds and other test groups alike, after Holm's correction), "these runs" (of
      these trained networks alone) or "open"; sentence
    values: one each run
  curves: label efficiency, a list of {name, protocol, metric, points: [{label_fraction, labels, mean, over_runs,
    over_groups}]}, for arms with several shares of the labels
  conclusion: {may: [sentence], may_not: [sentence]}
"""

import csv
import io
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from jaxssl import files
from jaxssl.config import fields as config_fields
from jaxssl.errors import TrainingFailedError, UserError, did_you_mean
from jaxssl.evaluation import scores, significance
from jaxssl.evaluation.significance import MIN_SEEDS
from jaxssl.report import page, words
from jaxssl.report.study import MOST_SENTENCES, TOO_FEW, cautions, document, importance, verdict

METRICS = page.COMPARED
TESTED = ("auc_macro", "accuracy")
# Their images are a function of the seed.
SIMULATED = ("lenses",)
OWN = ("ssl", "supervised")  # How the last step of an initialisation by the run's own pretraining is called.
# Fields of a config that make no other arm: what a run is of its arm, what the arm says itself, where and how it ran.
NOT_OF_ARM = {*config_fields.with_role("repeat", "place", "record"), "pretrain.objective"}
# Resamples of the groups cost so many images x classes x resamples; larger studies take fewer.
MOST_WORK = 4 * page.MOST_WORK
COMPUTE = ("pretrain_seconds", "transfer_seconds", "trained_images")


class Run(NamedTuple):
    """A workdir that is done."""

    folder: Path
    results: dict[str, Any]
    settings: dict[str, Any]  # The config by the names of its fields; empty where it is not there.
    predictions: dict[str, page.Predictions]


class Arm(NamedTuple):
    """What runs of one arm have in common; equal ones are the same arm."""

    name: str
    method: str | None
    init: str
    protocol: str
    labels: str
    settings: tuple[tuple[str, str], ...]  # (field, JSON)


class Cell(NamedTuple):
    """One evaluation of one run."""

    arm: Arm
    run: Run
    seed: int
    fold: int | None
    label_fraction: float
    part: significance.RunPredictions  # Its rows ascend.
    compute: dict[str, Any]  # Of its transfer; empty where it is not known.


class Images(NamedTuple):
    """The test images of all runs together."""

    labels: np.ndarray
    groups: np.ndarray


Unit = tuple[int, int | None]  # Seed and fold.


# Reading.


def find(folders: Sequence[Path]) -> tuple[list[Run], int]:
    """The runs below these folders in the order of their paths, and how many more have not ended.

    Raises:
      UserError: a folder without a run, a file that is missing or damaged, runs on different data.
    """
    done, begun = set(), set()
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: name one that holds runs")
        ended = {file.parent.resolve() for file in folder.rglob("results.json")}
        if not ended:
            raise UserError(f"{folder} holds no run that ended: there is no results.json below it")
        done |= ended
        begun |= {file.parent.resolve() for file in folder.rglob("config.json")}
    runs = [read(folder) for folder in sorted(done)]
    bare = [run.folder for run in runs if not run.settings]
    if 0 < len(bare) < len(runs):
        raise UserError(f"{bare[0]} has no config.json and other runs have one: without it arms cannot be told apart")
    same_data(runs)
    return runs, len(begun - done)


def read(folder: Path) -> Run:
    """A run from its files. UserError where one is missing or damaged."""
    results = files.read_json(folder / "results.json", page.NEEDED)
    try:
        dataset = results["dataset"]
        known = dataset["name"], dataset["fingerprint"], dataset["groups_known"], dataset["classes"]
        known += tuple(dataset["splits"][side]["images"] / 1 for side in ("train", "test"))
        for e in results["evaluations"]:
            known += (
                "".join((e["name"], e["protocol"], e["init"])),
                float(e["label_fraction"]),
                int(e["seed"]),
                int(e["fold"] or 0),
            )
            if method_of(e["init"]):
                known += results["pretrain"]["objective"], results["pretrain"]["supervised"]
        predictions = page.read_predictions(folder, results)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / 'results.json'} is not of a jaxssl run, or damaged: {error!r}") from error
    for name, of in predictions.items():
        try:
            scores.accuracy(of.probabilities, of.labels)
        except (ValueError, TrainingFailedError) as error:
            raise UserError(f"{folder / 'predictions.csv'}: {name}: {error}") from error
        if len(set(of.ids)) < len(of.ids):
            raise UserError(f"{folder / 'predictions.csv'}: {name} has an image twice")
    file = folder / "config.json"
    config = files.read_json(file, page.NEEDED) if file.exists() else {"config": {}}
    try:
        settings = dict(files.flatten(config["config"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is not of a jaxssl run, or damaged: {error!r}") from error
    return Run(folder, results, settings, predictions)


def same_data(runs: Sequence[Run]) -> None:
    """UserError where two runs are of different images; simulated ones are the same where the seed is."""
    first: dict[Any, Run] = {}
    for run in runs:
        a = run.results["dataset"]
        for e in run.results["evaluations"]:
            other = first.setdefault(e["seed"] if a["name"] in SIMULATED else None, run)
            for name in ("name", "classes", "fingerprint"):
                theirs = other.results["dataset"][name]
                if a[name] != theirs:
                    raise UserError(
                        f"{run.folder} and {other.folder} are of different data ({name} {a[name]!r} and {theirs!r}): "
                        "compare runs on the same images"
                    )
    if len({run.results["dataset"]["name"] for run in runs}) > 1:
        raise UserError("the runs are of several datasets: compare those of one")


# Arms.


def method_of(init: str) -> bool:
    """Whether an initialisation is of the run's own pretraining."""
    return init.split("+")[-1] in OWN


def arm_of(run: Run, e: dict[str, Any]) -> Arm:
    """The arm of one evaluation."""
    own, method, init = method_of(e["init"]), None, e["init"]
    name = init
    if own:
        method = run.results["pretrain"]["objective"]
        supervised = " (supervised)" if run.results["pretrain"]["supervised"] else ""
        name = "+".join([*init.split("+")[:-1], method + supervised])
    per_class = run.settings.get("data.labels_per_class")
    labels = f"{per_class} a class" if per_class else f"{100 * e['label_fraction']:.3g} %"
    ignored = set(NOT_OF_ARM)
    if init == "random" and run.settings.get("init.mean"):
        # Given weights change random ones by their scaling of the images alone, which is the same here.
        ignored.add("init.weights")
    beside = () if own else ("pretrain.",)
    beside += () if e["protocol"] == "finetune" else ("transfer.",)
    chosen = {"transfer.select"} if e["protocol"] == "probe" else set()
    settings = {
        field: value
        for field, value in run.settings.items()
        if field in chosen or (field not in ignored and not field.startswith(beside))
    }
    said = tuple(sorted((field, json.dumps(value)) for field, value in settings.items()))
    return Arm(words.clean(name), method, init, e["protocol"], labels, said)


def collect(runs: Sequence[Run]) -> tuple[dict[Arm, dict[Unit, Cell]], Images, int]:
    """The runs of every arm by seed and fold, all test images, and how many evaluations were left out as repeated.

    Where two runs have the same arm, seed and fold, such as random weights beside each of several pretrainings, the
    first counts; it is told of only where the second found something else.
    """
    row_of: dict[tuple[Any, str], int] = {}
    known: list[tuple[int, str]] = []
    arms: dict[Arm, dict[Unit, Cell]] = {}
    repeated = 0
    for run in runs:
        simulated = run.results["dataset"]["name"] in SIMULATED
        for e in run.results["evaluations"]:
            if e["name"] not in run.predictions:
                continue
            found = run.predictions[e["name"]]
            scope = e["seed"] if simulated else ""
            rows = []
            for image, label, group in zip(found.ids, found.labels.tolist(), found.groups.tolist(), strict=True):
                # Simulated lenses have the same names in each seed, and are others.
                group = f"{scope}/{group}" if simulated else group
                row = row_of.setdefault((scope, image), len(known))
                if row == len(known):
                    known.append((label, group))
                elif known[row] != (label, group):
                    raise UserError(f"{run.folder / 'predictions.csv'}: {image} has another label or group elsewhere")
                rows.append(row)
            order = np.argsort(rows)
            part = significance.RunPredictions(np.array(rows)[order], found.probabilities[order])
            cell = Cell(
                arm_of(run, e), run, e["seed"], e["fold"], float(e["label_fraction"]), part, e.get("compute", {})
            )
            first = arms.setdefault(cell.arm, {}).setdefault((cell.seed, cell.fold), cell)
            same_images(first, cell)
            repeated += not np.array_equal(first.part.probabilities, part.probabilities)
    labels = np.array([label for label, _ in known], int)
    return named(arms), Images(labels, np.array([group for _, group in known], str)), repeated


def named(arms: dict[Arm, dict[Unit, Cell]]) -> dict[Arm, dict[Unit, Cell]]:
    """The arms in order, with settings and name telling in what each differs from others of its name."""
    renamed = {}
    for arm, cells in arms.items():
        alike = [a for a in arms if a.name == arm.name]
        same = [a for a in alike if (a.protocol, a.labels) == (arm.protocol, arm.labels)]
        values = [dict(a.settings) for a in same]
        fields = sorted({field for of in values for field in of if len({v.get(field) for v in values}) > 1})
        own = dict(arm.settings)
        told = tuple((field, own[field]) for field in fields if field in own)
        suffix = ", ".join(f"{field}={value}" for field, value in told)
        name = words.clean(f"{arm.name}, {suffix}" if suffix else arm.name)
        units = dict(sorted(cells.items(), key=lambda item: (item[0][0], item[0][1] is not None, item[0][1] or 0)))
        renamed[arm._replace(name=name, settings=told)] = units
    return dict(sorted(renamed.items(), key=lambda item: order_of(*item)))


def order_of(arm: Arm, cells: dict[Unit, Cell]) -> tuple:
    protocols, share = list(words.PROTOCOLS), fraction(cells)
    place = protocols.index(arm.protocol) if arm.protocol in protocols else len(protocols)
    inits = config_fields.find("transfer.inits").choices
    init = inits.index(arm.init) if arm.init in inits else len(inits)
    return place, arm.protocol, -share, arm.labels, init, arm.name


def fraction(cells: dict[Unit, Cell]) -> float:
    return float(np.mean([cell.label_fraction for cell in cells.values()]))


def same_images(a: Cell, b: Cell) -> None:
    """UserError unless two evaluations of one seed and fold have the same test images."""
    if not np.array_equal(a.part.rows, b.part.rows):
        raise UserError(
            f"{a.run.folder} and {b.run.folder} have the same seed and fold and other test images: their splits differ"
        )


def unfair(arms: dict[Arm, dict[Unit, Cell]]) -> list[str]:
    """Fields of the config that two arms of one protocol both have and that differ, but for those of the method."""
    found = set()
    for a, b in itertools.combinations(arms.values(), 2):
        one, other = next(iter(a.values())).arm, next(iter(b.values())).arm
        mine, theirs = dict(one.settings), dict(other.settings)
        if one.protocol == other.protocol:
            shared = mine.keys() & theirs.keys()
            differing = {field for field in shared if mine[field] != theirs[field]}
            found |= {field for field in differing if not config_fields.has_role(field, "method")}
    return sorted(found)


# Numbers.


def study(runs: Sequence[Run], unfinished: int = 0, against: str | None = None) -> dict[str, Any]:
    """What compare.json holds; a function of the runs, whatever their order.

    Args:
      runs: from `find`.
      unfinished: how many more have not ended.
      against: the name of an arm with which alone all others are compared.

    Raises:
      UserError: runs of the same seed and fold with other test images, no arm of the name `against`.
    """
    arms, images, repeated = collect(sorted(runs, key=lambda run: run.folder))
    if against is not None and against not in (names := {arm.name for arm in arms}):
        raise UserError(f"--against={against!r}: {did_you_mean(against, names)}There are {', '.join(sorted(names))}")
    cells = {(arm, unit): cell for arm, of in arms.items() for unit, cell in of.items()}
    work = sum(cell.part.probabilities.size for cell in cells.values())
    resamples = int(np.clip(MOST_WORK // max(1, work), 200, 2000))
    parts = [cell.part for cell in cells.values()]
    drawn = significance.bootstrap_scores(parts, images.labels, images.groups, METRICS, seed=0, resamples=resamples)
    drawn = dict(zip(cells, drawn, strict=True))
    described = [describe(arm, of, drawn, images) for arm, of in arms.items()]
    found = [
        difference(a, b, metric, arms, drawn, images)
        for a, b in pairs(arms, against)
        if arms[a].keys() & arms[b].keys()
        for metric in TESTED
    ]
    tests = correct(found)
    for d in found:
        d["verdict"], d["sentence"] = verdict(d)
    datasets = [run.results["dataset"] for run in runs]
    result = {
        "dataset": {
            "name": datasets[0]["name"],
            "classes": datasets[0]["classes"],
            "fingerprints": sorted({dataset["fingerprint"] for dataset in datasets}),
            "groups_known": all(dataset["groups_known"] for dataset in datasets),
        },
        "runs": len(runs),
        "unfinished": unfinished,
        "split": split_of([cell for of in arms.values() for cell in of.values()]),
        "resamples": resamples,
        "tests": tests,
        "arms": described,
        "differences": found,
        "curves": curves(described),
    }
    fields = unfair(arms) if not runs or any(run.settings for run in runs) else None
    limits = cautions(result, len(np.unique(images.groups)), repeated, fields)
    ordered = sorted(found, key=importance)
    open_ones = [d["sentence"] for d in ordered if d["verdict"] == "open"]
    may = [d["sentence"] for d in ordered if d["verdict"] != "open"]
    return result | {"conclusion": {"may": may, "may_not": limits + open_ones}}


def split_of(cells: Sequence[Cell]) -> str:
    """How the test images of these runs are to one another."""
    units = {(cell.seed, cell.fold): cell for cell in cells}
    if len(units) < 2:
        return "one run"
    first = cells[0]
    if first.run.results["dataset"]["name"] in SIMULATED and len({cell.seed for cell in cells}) == len(units):
        return "simulated"
    alike = all(np.array_equal(first.part.rows, cell.part.rows) for cell in units.values())
    return "fixed" if alike else "resplit"


def test_to_train(cells: Sequence[Cell]) -> float:
    """n_test/n_train where the runs share training images and not the test images, else 0."""
    if split_of(cells) != "resplit":
        return 0.0
    sizes = [cell.run.results["dataset"]["splits"] for cell in cells]
    return float(np.mean([size["test"]["images"] / max(1, size["train"]["images"]) for size in sizes]))


def describe(
    arm: Arm, cells: dict[Unit, Cell], drawn: dict[tuple[Arm, Unit], dict[str, np.ndarray]], images: Images
) -> dict[str, Any]:
    """One arm of compare.json."""
    tested = np.unique(np.concatenate([cell.part.rows for cell in cells.values()]))
    ratio = test_to_train(list(cells.values()))
    measured = {}
    for metric in METRICS:
        of = np.array([drawn[arm, unit][metric] for unit in cells])
        runs = summary(of, list(cells), ratio)
        ends = (runs["over_runs"][end] for end in ("low", "high"))
        low, high = (None if end is None else min(1.0, max(0.0, end)) for end in ends)
        measured[metric] = runs | {"over_runs": {"low": low, "high": high}}
    return {
        "name": arm.name,
        "method": arm.method,
        "init": arm.init,
        "protocol": arm.protocol,
        "labels": arm.labels,
        "label_fraction": fraction(cells),
        "settings": {field: json.loads(value) for field, value in arm.settings},
        "runs": len(cells),
        "seeds": sorted({seed for seed, _ in cells}),
        "folds": sorted({fold for _, fold in cells if fold is not None}),
        "images": len(tested),
        "groups": len(np.unique(images.groups[tested])),
        "majority_accuracy": float(np.mean([majority(images.labels[cell.part.rows]) for cell in cells.values()])),
        "constant_runs": sum(len(set(cell.part.probabilities.argmax(axis=1))) == 1 for cell in cells.values()),
        **compute(arm, list(cells.values())),
        "metrics": measured,
    }


def majority(labels: np.ndarray) -> float:
    """The share of the commonest label."""
    return float(np.bincount(labels).max() / len(labels))


def compute(arm: Arm, cells: Sequence[Cell]) -> dict[str, float | None]:
    """What the arm took, each a mean over its runs; None where one of them does not say it."""
    none = {"seconds": 0.0, "images": 0}
    pretraining = [none if arm.method is None else cell.run.results["pretrain"] for cell in cells]
    transfer = [cell.compute for cell in cells]

    def mean(*parts: Sequence[dict[str, Any]], field: str) -> float | None:
        known = [of.get(field) for part in parts for of in part]
        return None if None in known else sum(known) / len(cells)

    return {
        "pretrain_seconds": mean(pretraining, field="seconds"),
        "transfer_seconds": mean(transfer, field="seconds"),
        "trained_images": mean(pretraining, transfer, field="images"),
    }


def summary(drawn: np.ndarray, units: Sequence[Unit], ratio: float) -> dict[str, Any]:
    """Mean and both intervals of [K, 1 + R] scores or differences, over the runs in which they are defined."""
    defined = ~np.isnan(drawn[:, 0])
    seeds = len({seed for (seed, _), known in zip(units, defined, strict=True) if known})
    runs = significance.corrected_t_test(drawn[defined, 0], seeds=seeds, test_to_train=ratio)
    groups = significance.group_interval(drawn[defined])
    return {
        "mean": runs["mean"],
        "std": runs["std"],
        "over_runs": {end: runs[end] for end in ("low", "high", "p")},
        "over_groups": {end: groups[end] for end in ("low", "high")},
        "values": files.nan_to_null(drawn[:, 0].tolist()),
    }


def pairs(arms: dict[Arm, Any], against: str | None) -> list[tuple[Arm, Arm]]:
    """(a, b) of one protocol and share of the labels, b before a in the order of the arms; or b the one `against`."""
    found = []
    for b, a in itertools.combinations(arms, 2):
        if (a.protocol, a.labels) == (b.protocol, b.labels):
            found.append((b, a) if a.name == against else (a, b))
    return [(a, b) for a, b in found if against in (None, b.name)]


def difference(
    a: Arm,
    b: Arm,
    metric: str,
    arms: dict[Arm, dict[Unit, Cell]],
    drawn: dict[tuple[Arm, Unit], dict[str, np.ndarray]],
    images: Images,
) -> dict[str, Any]:
    """`a` less `b`, run by run where both have the seed and the fold; without verdict, and p not yet corrected."""
    units = [unit for unit in arms[a] if unit in arms[b]]
    for unit in units:
        same_images(arms[a][unit], arms[b][unit])
    ratio = test_to_train([arms[a][unit] for unit in units])
    of = np.array([drawn[a, unit][metric] - drawn[b, unit][metric] for unit in units])
    found = summary(of, units, ratio)
    test(found, of)
    return {
        "a": a.name,
        "b": b.name,
        "protocol": a.protocol,
        "labels": a.labels,
        "label_fraction": fraction(arms[a]),
        "metric": metric,
        "runs": len(units),
        "seeds": len({seed for seed, _ in units}),
        "test_to_train": ratio,
        **found,
        "mcnemar": mcnemar(arms[a], arms[b], units, images) if metric == "accuracy" else None,
    }


def test(found: dict[str, Any], drawn: np.ndarray) -> None:
    """Adds to the summary of [K, 1 + R] differences the p over test groups, and that of both kinds of chance.

    A difference that is to hold for other seeds and for other test groups is one for which "none for other seeds" and
    "none for other test groups" are both rejected: its p is the larger (Berger 1982, Technometrics 24:295).
    """
    seeds = found["over_runs"]["p"]
    groups = None if seeds is None else significance.group_p_value(drawn[~np.isnan(drawn[:, 0])])
    found["over_groups"]["p"] = groups
    found["p"] = None if groups is None else max(seeds, groups)


def mcnemar(a: dict[Unit, Cell], b: dict[Unit, Cell], units: Sequence[Unit], images: Images) -> dict[str, Any]:
    """McNemar's test of each seed, its folds together, and one p-value of all seeds."""
    counts: dict[int, np.ndarray] = {}
    several = False
    for unit in units:
        rows = a[unit].part.rows
        right = (of[unit].part.probabilities.argmax(axis=1) == images.labels[rows] for of in (a, b))
        counts[unit[0]] = counts.get(unit[0], 0) + np.array(significance.count_discordant(*right))
        several |= len(np.unique(images.groups[rows])) < len(rows)
    only_a, only_b = np.sum(list(counts.values()), axis=0).tolist()
    without = "groups of several images" if several else TOO_FEW if len(counts) < MIN_SEEDS else None
    p = (
        None
        if without
        else significance.combine_p_values([significance.mcnemar_p(*of.tolist()) for of in counts.values()])
    )
    return {"only_a": only_a, "only_b": only_b, "p": p, "without": without}


def correct(found: list[dict[str, Any]]) -> int:
    """Adds `p_holm` beside each p, and returns how many differences have one.

    The verdicts rest on the p of the differences alone, so that McNemar's tests are a family of their own.
    """
    for tests in (found, [d["mcnemar"] for d in found if d["mcnemar"]]):
        for test, corrected in zip(tests, significance.holm([test["p"] for test in tests]), strict=True):
            test["p_holm"] = corrected
    return sum(d["p"] is not None for d in found)


def curves(described: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Scores by the share of the labels, of those arms that have several."""
    by_name: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for arm in described:
        by_name.setdefault((arm["name"], arm["protocol"]), []).append(arm)
    found = []
    for (name, protocol), of in by_name.items():
        of = sorted(of, key=lambda arm: arm["label_fraction"])
        for metric in TESTED if len(of) > 1 else ():
            points = [
                {field: arm[field] for field in ("label_fraction", "labels")}
                | {field: arm["metrics"][metric][field] for field in ("mean", "over_runs", "over_groups")}
                for arm in of
            ]
            found.append({"name": name, "protocol": protocol, "metric": metric, "points": points})
    return found


# The terminal.


def shown(study: dict[str, Any]) -> Table:
    """The arms with the most labels that they have, and the accuracy of no model at all; fits 80 columns."""
    table = framed("arm", ("runs", "macro AUC", "over runs", "over groups", "accuracy"))
    arms = with_most_labels(study["arms"])
    for arm in in_sections(table, arms):
        auc, accuracy = (arm["metrics"][metric] for metric in TESTED)
        ends = [words.between(auc[kind])[1:-1] for kind in ("over_runs", "over_groups")]
        mark = "*" if arm["constant_runs"] else ""
        cells = [str(arm["runs"]), words.number(auc["mean"]), *ends, words.number(accuracy["mean"])]
        table.add_row(Text(arm["name"] + mark), *cells)
    if arms:
        table.add_section()
        table.add_row("the commonest class", "", "", "", "", words.number(arms[0]["majority_accuracy"]))
    table.caption = Text("Means; 95 % intervals of the macro AUC over runs, and over groups of the test images.")
    if any(arm["constant_runs"] for arm in arms):
        table.caption.append("\n* predicts one class for every image, in one run or more", style="bold yellow")
    return table


def shown_labels(study: dict[str, Any]) -> Table | None:
    """Macro AUC by the share of the labels; None where each arm has one share."""
    drawn = [curve for curve in study["curves"] if curve["metric"] == TESTED[0]]
    if not drawn:
        return None
    shares = {point["label_fraction"]: point["labels"] for curve in drawn for point in curve["points"]}
    table = framed("macro AUC by labels", [shares[share] for share in sorted(shares)])
    for protocol, of in itertools.groupby(drawn, lambda curve: curve["protocol"]):
        table.add_section()
        table.add_row(Text(words.protocol_name(protocol).capitalize(), style="bold"))
        for curve in of:
            means = {point["label_fraction"]: point["mean"] for point in curve["points"]}
            cells = [words.number(means[share]) if share in means else "" for share in sorted(shares)]
            table.add_row(Text(curve["name"]), *cells)
    return table


def shown_compute(study: dict[str, Any]) -> Table:
    """What the arms took, for the terminal."""
    table = framed("compute, mean over runs", ("pretraining s", "transfer s", "images trained on"))
    for arm in in_sections(table, with_most_labels(study["arms"])):
        took = ["unknown" if arm[field] is None else f"{arm[field]:,.0f}" for field in COMPUTE]
        table.add_row(Text(arm["name"]), *took)
    if any(arm["init"].startswith("imagenet") for arm in study["arms"]):
        table.caption = Text("Without what made the weights that were given.")
    return table


def framed(first: str, columns: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    table.add_column(first, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def in_sections(table: Table, arms: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The arms, with a heading in the table before the first of each protocol and share of the labels."""
    for (protocol, labels), of in itertools.groupby(arms, lambda arm: (arm["protocol"], arm["labels"])):
        table.add_section()
        table.add_row(Text(f"{words.protocol_name(protocol).capitalize()}, {labels}", style="bold"))
        yield from of


def with_most_labels(arms: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    most: dict[tuple[str, str], float] = {}
    for arm in arms:
        key = arm["name"], arm["protocol"]
        most[key] = max(most.get(key, 0.0), arm["label_fraction"])
    return [arm for arm in arms if arm["label_fraction"] == most[arm["name"], arm["protocol"]]]


def listed(texts: Sequence[str]) -> str:
    """The first of these sentences, and how many more there are."""
    lines = [f"- {text}" for text in texts[:MOST_SENTENCES] or ["Nothing."]]
    more = len(texts) - MOST_SENTENCES
    return "\n".join(lines + [f"- {more} more, in compare.json and report.html."] * (more > 0)) + "\n"


# Files.


def write(to: Path, study: dict[str, Any], runs: Sequence[Run]) -> list[Path]:
    """Writes all files of the study of these runs into `to` and returns them. UserError where it cannot be written."""
    texts = {
        "compare.json": json.dumps(files.nan_to_null(study), indent=1, allow_nan=False) + "\n",
        "compare_arms.csv": table_of_arms(study),
        "compare_differences.csv": table_of_differences(study),
    }
    if not (to / "results.json").exists():  # There it is the page of that run.
        texts["report.html"] = document(study, to, [(run.folder, run.results) for run in runs])
    with files.output_errors(to):
        for name, text in texts.items():
            files.write_text(to / name, text)
    return [to / name for name in texts]


def table_of_arms(study: dict[str, Any]) -> str:
    """A row for each arm and metric."""
    fields = ("name", "method", "init", "protocol", "labels", "label_fraction", "runs", "images", "groups")
    rows = [
        {field: arm[field] for field in fields}
        | {field: arm[field] for field in COMPUTE}
        | {"metric": metric}
        | line(of)
        for arm in study["arms"]
        for metric, of in arm["metrics"].items()
    ]
    return csv_of(rows)


def table_of_differences(study: dict[str, Any]) -> str:
    """A row for each difference and metric."""
    fields = ("a", "b", "protocol", "labels", "label_fraction", "metric", "runs", "seeds")
    rows = []
    for d in study["differences"]:
        exact = d["mcnemar"] or {}
        tests = {f"{kind}_p": d[kind]["p"] for kind in ("over_runs", "over_groups")}
        tests |= {"p": d["p"], "p_holm": d["p_holm"]}
        tests |= {f"mcnemar_{name}": exact.get(name) for name in ("only_a", "only_b", "p", "p_holm")}
        rows.append({field: d[field] for field in fields} | line(d) | tests | {"verdict": d["verdict"]})
    return csv_of(rows)


def line(of: dict[str, Any]) -> dict[str, Any]:
    """A mean and its intervals in columns."""
    ends = {f"{kind}_{end}": of[kind][end] for kind in ("over_runs", "over_groups") for end in ("low", "high")}
    return {"mean": of["mean"], "std": of["std"]} | ends


def csv_of(rows: Sequence[dict[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
