"""Scores of the test predictions, and the files that hold them: evaluations/, predictions.csv and results.json."""

import csv
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from jaxssl import files
from jaxssl.data.label_text import format_label
from jaxssl.evaluation import calibration
from jaxssl.evaluation.evaluate import evaluate
from jaxssl.evaluation.intervals import difference_of_means
from jaxssl.results import schema
from jaxssl.results.cells import escape_row
from jaxssl.results.schema import Evaluation, Results
from jaxssl.results.words import is_segmentation
from jaxssl.run import pretraining
from jaxssl.run.setup import Setup, chooses_by_few
from jaxssl.run.transfer import SCORED, TransferResult, labels_of, measured_train_rows, task_of, validation_rows
from jaxssl.run.workdir import describe_dataset

log = logging.getLogger(__name__)


def write_evaluation(setup: Setup, protocol: str, init: str, result: TransferResult) -> None:
    """Score the test predictions of one protocol and encoder; write evaluations/<name>.csv and .json."""
    validation, test = (result.probabilities[split].astype(np.float64) for split in SCORED)
    evaluation = {
        **describe_evaluation(setup, protocol, init, result.chosen, result.seconds, result.images),
        "chosen_on": 0 if chooses_by_few(setup.config) else len(validation),
        **score(setup, validation, test),
        "overfitting": measure_overfitting(setup, result),
    }
    write_files(setup.workdir, evaluation, {".csv": format_predictions(setup, evaluation["name"], test).encode()})


def describe_evaluation(
    setup: Setup, protocol: str, init: str, chosen: dict[str, Any], seconds: float, images: int
) -> dict[str, Any]:
    """Return the fields of an evaluation that tell what was evaluated, and at what cost."""
    return {
        "name": f"{protocol}_{init}",
        "protocol": protocol,
        "init": init,
        "label_fraction": label_fraction(setup),
        "fold": setup.config.data.fold if setup.config.data.folds else None,
        "seed": setup.config.seed,
        "split": "test",
        **chosen,
        "compute": {"seconds": round(seconds, 2), "images": images},
    }


def write_files(workdir: Path, evaluation: dict[str, Any], contents: dict[str, bytes]) -> None:
    """Write the files of an evaluation, {ending: content} and the JSON of its fields.

    Their checksums are written last: an evaluation without them is unfinished.
    """
    start = workdir / "evaluations" / evaluation["name"]
    written = [start.with_name(f"{start.name}{ending}") for ending in (*contents, ".json")]
    for path, content in zip(written, contents.values(), strict=False):
        files.write_bytes(path, content)
    files.write_json(written[-1], evaluation)
    hashes = {path.name: files.hash_file(path) for path in written}
    files.write_json(start.with_name(f"{start.name}.sha256.json"), hashes)


def load_evaluation(workdir: Path, name: str, endings: Sequence[str] = (".csv", ".json")) -> Evaluation | None:
    """Return a finished evaluation; None if it lacks a file of `endings` or files do not match their checksums."""
    folder = workdir / "evaluations"
    checksums = folder / f"{name}.sha256.json"
    if not checksums.exists():
        return None
    try:
        hashes = files.load_json(checksums)
        listed = {f"{name}{ending}" for ending in endings} <= hashes.keys()
        if listed and all(files.hash_file(folder / file) == expected for file, expected in hashes.items()):
            return files.load_json(folder / f"{name}.json")
    except (OSError, ValueError, AttributeError):
        pass
    log.warning("%s is damaged: it is computed again", folder / name)
    return None


def format_predictions(setup: Setup, name: str, probabilities: np.ndarray) -> str:
    """Return the rows of predictions.csv of one evaluation."""
    source, lines = setup.source, io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    predicted, numbers = task_of(setup).predicted(probabilities), source.task != "value"
    for row, p, guess in zip(setup.splits["test"], probabilities, predicted, strict=True):
        texts = [format_label(of, source.classes, source.task) for of in (source.labels[row], guess)]
        cells = escape_row(map(str, (name, source.ids[row], source.groups[row], *texts)))
        writer.writerow([*cells, *(map(repr, p.tolist()) if numbers else ())])
    return lines.getvalue()


def score(setup: Setup, validation: np.ndarray, test: np.ndarray) -> dict[str, Any]:
    """Return the scores of results.json for predictions [N, classes]; temperature and thresholds from validation."""
    source, rows, task = setup.source, setup.splits["test"], task_of(setup)
    labels, groups = source.labels[rows], source.groups[rows]
    if not task.has_classes:
        uncalibrated = {"temperature": None, "without_temperature": "", "reliability": []}
        points = [] if task.name == "value" else operating_points(setup, validation, test)
        scored = evaluate(test, labels, groups, task=task.name) | uncalibrated | {"operating_point": points}
        if task.name == "value":
            median = np.median(labels_of(setup, "train"))
            scored["constant_mae"] = float(np.abs(labels - median).mean())
        return scored
    validation_labels = source.labels[validation_rows(setup, validation)]
    temperature = calibration.fit_temperature(validation, validation_labels)
    calibrated = None if temperature is None else calibration.apply_temperature(test, temperature)
    scored = evaluate(test, labels, groups, calibrated=calibrated, task=task.name)
    scored["metrics"].setdefault("ece_calibrated", dict.fromkeys(("value", "low", "high")))
    calibration_fields = {
        "temperature": temperature,
        "without_temperature": calibration.why_not_calibrated(validation, validation_labels),
        "reliability": calibration.reliability_bins(test, labels),
    }
    return scored | calibration_fields | {"operating_point": operating_points(setup, validation, test)}


def operating_points(setup: Setup, validation: np.ndarray, test: np.ndarray) -> list[dict[str, Any]]:
    """Return the operating point of each class, of two classes of the second, or of each of several labels."""
    source, wanted = setup.source, setup.config.transfer.specificity
    sides = {"validation": (validation_rows(setup, validation), validation), "test": (setup.splits["test"], test)}
    points = []
    for k in [1] if source.task != "multi" and len(source.classes) == 2 else range(len(source.classes)):
        of: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        for split, (rows, probabilities) in sides.items():
            labels, groups = source.labels[rows], source.groups[rows]
            known = labels[:, k] >= 0 if labels.ndim == 2 else np.ones(len(labels), bool)
            positive = labels[:, k] == 1 if labels.ndim == 2 else labels == k
            of[split] = probabilities[known, k], positive[known], groups[known]
        score, positive, _ = of["validation"]
        threshold = calibration.threshold_at_specificity(score, positive, wanted)
        point = calibration.operating_point(threshold, *of["test"])
        points.append({"specificity_wanted": wanted, "class": source.classes[k], "threshold": threshold} | point)
    return points


def measure_overfitting(setup: Setup, result: TransferResult) -> dict[str, Any] | None:
    """Return the loss on training and validation images, and their difference; None without the former.

    It is the log loss, or of values the squared error.
    """
    chosen_by = validation_rows(setup, result.probabilities["validation"])
    if "train" not in result.probabilities or not len(chosen_by):
        return None
    source, losses, groups = setup.source, {}, {}
    for split, rows in {"validation": chosen_by, "train": measured_train_rows(setup)}.items():
        losses[split] = task_of(setup).losses(result.probabilities[split], source.labels[rows])
        groups[split] = source.groups[rows]
    return {
        "train_loss": float(losses["train"].mean()),
        "validation_loss": float(losses["validation"].mean()),
        "gap": difference_of_means(losses["validation"], groups["validation"], losses["train"], groups["train"]),
    }


def label_fraction(setup: Setup) -> float:
    """Return the share of the labels that transfer may use; of the images, if `data.labels_per_class` is set."""
    if not setup.config.data.labels_per_class:
        return setup.config.data.label_fraction
    source = setup.source
    usable = source.known if source.classes or source.masked is None else source.masked
    return len(setup.labelled) / int(usable[setup.splits["train"]].sum())


def write_results(setup: Setup, evaluations: list[Evaluation], episodes: Sequence[dict[str, Any]] = ()) -> Results:
    """Write predictions.csv and, last of all, results.json, whose content is returned."""
    lines = io.StringIO()
    classes = () if setup.source.task == "value" else setup.source.classes
    columns = ["evaluation", "image_id", "group", "label", "predicted", *(f"p_{name}" for name in classes)]
    csv.writer(lines, lineterminator="\n").writerow(columns)
    for evaluation in evaluations:
        if is_segmentation(evaluation):
            continue
        file = setup.workdir / "evaluations" / f"{evaluation['name']}.csv"
        lines.write(file.read_text(encoding="utf-8"))
    files.write_text(setup.workdir / "predictions.csv", lines.getvalue())
    content = {
        "dataset": describe_dataset(setup),
        "init": setup.weights_origin,
        "pretrain": pretraining.summarize(setup, setup.objective) if setup.objective else None,
        "evaluations": evaluations,
    }
    if episodes:
        content["episodes"] = episodes
    results = cast(Results, schema.with_version("results.json", content))
    files.write_json(setup.workdir / "results.json", results)
    return results
