"""Predictions of a run, read from predictions.csv, and the paired differences from the weights before."""

from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from jaxssl.data.label_text import parse_labels
from jaxssl.errors import TrainingFailedError, UserError
from jaxssl.evaluation import scores, tasks
from jaxssl.evaluation.evaluate import paired_difference
from jaxssl.results import workdir as workdirs
from jaxssl.results.cells import Row, parse_rows, unescape_cell
from jaxssl.results.schema import Results, TestedDifference
from jaxssl.results.segmentations import Segmentations, compare_masks
from jaxssl.results.words import find_start, is_segmentation

# {evaluation name: {metric: its difference from its start}}
Differences = dict[str, dict[str, TestedDifference]]


class Predictions(NamedTuple):
    """The rows of one evaluation in predictions.csv, N images and C classes."""

    ids: list[str]
    groups: np.ndarray  # [N] str
    labels: np.ndarray  # [N] int; [N, C] int for several labels, -1 where unknown; [N] float32 for values
    probabilities: np.ndarray  # [N, C] float64; [N, 1] predicted values


def read_predictions(workdir: Path, results: Results) -> dict[str, Predictions]:
    """Return the predictions of each evaluation of `results` that has test images, by name; not those of masks.

    Raises:
      UserError: predictions.csv is missing, damaged, does not agree with `results`, or holds images outside the test
        split.
    """
    workdir = Path(workdir)
    file = workdir / "predictions.csv"
    evaluations = [e for e in results["evaluations"] if not is_segmentation(e)]
    if not evaluations:
        return {}
    found = _parse(file, results["dataset"]["classes"], task_name(results))
    for name, of in found.items():
        check_predictions(file, name, of)
    for e in evaluations:
        count = len(found[e["name"]].ids) if e["name"] in found else 0
        if count != e["images"]:
            raise UserError(
                f"{file} has {count} rows of {e['name']}, results.json has {e['images']}: run the command again",
                code="damaged",
                field=str(file),
            )
        if e["split"] != "test":
            raise _outside_test(file, f"{e['name']} is of the {e['split']} split")
    if (workdir / "splits.json").exists():
        test = set(workdirs.read_splits(workdir).get("test", ()))
        for name, predictions in found.items():
            if other := set(predictions.ids) - test:
                raise _outside_test(
                    file, f"{name} has {len(other)} images outside the test split of splits.json, such as {min(other)}"
                )
    return {e["name"]: found[e["name"]] for e in evaluations if e["images"]}


def check_predictions(file: Path, name: str, predictions: Predictions) -> None:
    """Raise UserError, naming the file, unless these are probabilities (or values), each of another image."""
    try:
        scores.check_predictions(predictions.probabilities, predictions.labels)
        if len(set(predictions.ids)) < len(predictions.ids):
            raise ValueError("an image occurs twice")
    except (ValueError, TrainingFailedError) as error:
        message = f"{file} is damaged: {name}: {str(error).rstrip('.')}; run the command of the run again to write it"
        raise UserError(message, code="damaged", field=str(file)) from error


def task_name(results: Results) -> str:
    """Return the task of the labels of a run, one of `tasks.TASKS`; "masks" if masks alone were evaluated."""
    evaluations = results["evaluations"]
    if evaluations and all(map(is_segmentation, evaluations)):
        return "masks"
    return results["dataset"].get("task", "single")


def mask_predictions(masks: dict[str, Segmentations]) -> dict[str, Predictions]:
    """Return scores of masks in the form of predictions, for a study: the Dice and the IoU of each image."""
    return {
        name: Predictions(
            of.ids,
            of.groups,
            np.zeros(len(of.ids)),
            np.stack([of.scores["dice"].mean(axis=1), of.scores["iou"].mean(axis=1)], axis=1),
        )
        for name, of in masks.items()
    }


def _parse(file: Path, classes: list[str], task: str) -> dict[str, Predictions]:
    first = 4 if task == "value" else 5  # The predicted value is the prediction.

    def parse(rows: dict[str, list[Row]]) -> dict[str, Predictions]:
        return {
            name: Predictions(
                [unescape_cell(row[1]) for row in of],
                np.array([unescape_cell(row[2]) for row in of]),
                parse_labels([unescape_cell(row[3]) for row in of], classes, task),
                np.array([row[first:] for row in of], np.float64).reshape(len(of), len(classes)),
            )
            for name, of in rows.items()
        }

    return parse_rows(file, parse)


def _outside_test(file: Path, fault: str) -> UserError:
    return UserError(f"{file}: {fault}: only test images may be scored", code="leakage", field=str(file))


def compute_differences(
    results: Results, predictions: dict[str, Predictions], masks: dict[str, Segmentations] | None = None
) -> Differences:
    """Compute each evaluation's scores minus those of the weights it started from (`words.find_start`).

    Both are of the same protocol and compared on the same groups of test images. Evaluations whose start was not
    evaluated on the same images are left out.

    Returns:
      {evaluation name: {metric: its difference}}, of the metrics that the task compares.
    """
    found = compare_masks(results, masks or {})
    compared = tasks.TASKS[task_name(results)].compared
    for e in results["evaluations"]:
        partner = find_start(results, e)
        if partner is None or not {e["name"], partner["name"]} <= predictions.keys():
            continue
        a, b = predictions[e["name"]], predictions[partner["name"]]
        if a.ids != b.ids:
            continue
        found[e["name"]] = {
            metric: cast(
                TestedDifference, paired_difference(a.probabilities, b.probabilities, a.labels, a.groups, metric)
            )
            for metric in compared
        }
    return found
