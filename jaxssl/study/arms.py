"""Sorts the evaluations of all runs into arms.

An arm is a method with an initialization, a protocol and a share of the labels. The runs of an arm differ in seed or
fold; they are compared with those of another arm that have the same seed and fold, and therefore the same test images.
"""

import itertools
import json
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxssl.config import fields
from jaxssl.errors import UserError
from jaxssl.evaluation.intervals import RunPredictions
from jaxssl.results import words
from jaxssl.results.schema import Evaluation
from jaxssl.results.words import has_own_pretraining
from jaxssl.study.runs import Run

Unit = tuple[int, int | None]
"""Seed and fold, which identify a run of an arm."""


class Arm(NamedTuple):
    """What the runs of one arm have in common; equal values are the same arm.

    Attributes:
      name: its name in tables.
      method: pretraining objective; None without pretraining.
      init: initialization, as in results.json.
      protocol: evaluation protocol, as in results.json.
      labels: share of the labels in words.
      settings: (config field, value as JSON).
    """

    name: str
    method: str | None
    init: str
    protocol: str
    labels: str
    settings: tuple[tuple[str, str], ...]


class Cell(NamedTuple):
    """One evaluation of one run.

    Attributes:
      arm: its arm, with all its settings.
      run: the run.
      seed: its seed.
      fold: its fold; None without cross-validation.
      label_fraction: share of the training labels that transfer used.
      predictions: on the test images; the rows ascend.
      evaluation: its entry in results.json.
    """

    arm: Arm
    run: Run
    seed: int
    fold: int | None
    label_fraction: float
    predictions: RunPredictions
    evaluation: Evaluation


Arms = dict[Arm, dict[Unit, Cell]]
MODEL = "model.name"


class Images(NamedTuple):
    """The N test images of all runs together."""

    labels: np.ndarray  # as in `Predictions`
    groups: np.ndarray  # [N] str


class _ImageTable:
    """Numbers the test images of all runs."""

    def __init__(self) -> None:
        self.row_of: dict[tuple[Any, str], int] = {}
        self.known: list[tuple[int, str]] = []

    def rows(self, run: Run, name: str, seed: int) -> np.ndarray:
        """Return the row of each image of an evaluation. UserError if an image has another label or group elsewhere."""
        predictions = run.predictions[name]
        # Simulated images have the same ids for every seed and are different ones.
        scope = seed if run.simulated else ""
        rows = []
        for image, label, group in zip(
            predictions.ids, predictions.labels.tolist(), predictions.groups.tolist(), strict=True
        ):
            group = f"{scope}/{group}" if run.simulated else group
            row = self.row_of.setdefault((scope, image), len(self.known))
            if row == len(self.known):
                self.known.append((label, group))
            elif self.known[row] != (label, group):
                file = run.folder / "predictions.csv"
                message = f"{file}: {image} has another label or group in another run"
                raise UserError(message, code="mismatch", field=str(file))
            rows.append(row)
        return np.array(rows, int)

    def images(self) -> Images:
        return Images(np.array([label for label, _ in self.known]), np.array([g for _, g in self.known], str))


def collect_arms(runs: Sequence[Run]) -> tuple[Arms, Images, int]:
    """Sort the evaluations of all runs into arms, by seed and fold.

    Where two runs have the same arm, seed and fold, such as random weights next to several pretrainings, the first one
    is used.

    Returns:
      The arms in display order, all test images, and how many evaluations were left out although their predictions
      differ from the one used.

    Raises:
      UserError: an image has two labels or groups; runs of one seed and fold have different test images.
    """
    table = _ImageTable()
    arms: Arms = {}
    repeated = 0
    for run in runs:
        for e in run.results["evaluations"]:
            if e["name"] not in run.predictions:
                continue
            rows = table.rows(run, e["name"], e["seed"])
            order = np.argsort(rows)
            predictions = RunPredictions(rows[order], run.predictions[e["name"]].probabilities[order])
            fraction = float(e["label_fraction"])
            cell = Cell(make_arm(run, e), run, e["seed"], e["fold"], fraction, predictions, e)
            first = arms.setdefault(cell.arm, {}).setdefault((cell.seed, cell.fold), cell)
            check_same_images(first, cell)
            repeated += not np.array_equal(first.predictions.probabilities, predictions.probabilities)
    return name_arms(arms), table.images(), repeated


def make_arm(run: Run, e: Evaluation) -> Arm:
    """Return the arm of one evaluation, with all settings that its result depends on."""
    method, name = None, e["init"]
    own, pretraining = has_own_pretraining(e["init"]), run.results["pretrain"]
    if own and pretraining:
        method = pretraining["objective"]
        supervised = " (supervised)" if pretraining["supervised"] else ""
        name = "+".join([*e["init"].split("+")[:-1], method + supervised])
    per_class = run.settings.get("data.labels_per_class")
    labels = f"{per_class} a class" if per_class else f"{100 * e['label_fraction']:.3g} %"
    settings = {field: value for field, value in run.settings.items() if _distinguishes(field, run, e)}
    items = tuple(sorted((field, json.dumps(value)) for field, value in settings.items()))
    return Arm(words.clean_text(name), method, e["init"], e["protocol"], labels, items)


def _distinguishes(field: str, run: Run, e: Evaluation) -> bool:
    """Return whether a config field with another value makes another arm of this evaluation."""
    if e["protocol"] == "probe" and field == "transfer.select":
        return True
    if fields.has_role(field, "repeat", "place", "record") or field == "pretrain.objective":
        return False
    if e["init"] == "random" and run.settings.get("init.mean") and field == "init.weights":
        # Given weights change random ones by the scaling of the images only, which `init.mean` sets.
        return False
    if field.startswith("pretrain.") and not has_own_pretraining(e["init"]):
        return False
    if field.startswith("data.options.") and run.settings[field] in (None, "", [], ()):
        # An option that is not used: runs of another version may lack it.
        return False
    return not field.startswith("transfer.") or e["protocol"] in words.TRAINED_PROTOCOLS


def name_arms(arms: Arms) -> Arms:
    """Return the arms in display order; `settings` and name keep only what differs from other arms of the same name.

    Encoders of another name have other options and may have another precision, which their name says.
    """
    renamed: Arms = {}
    for arm, cells in arms.items():
        same = [a for a in arms if (a.name, a.protocol, a.labels) == (arm.name, arm.protocol, arm.labels)]
        values = [dict(a.settings) for a in same]
        differing = sorted({field for of in values for field in of if len({v.get(field) for v in values}) > 1})
        own = dict(arm.settings)
        settings = tuple((field, own[field]) for field in differing if field in own)
        told = [f for f in differing if not f.startswith("model.") or f == MODEL or MODEL not in differing]
        of_told = {tuple(v.get(field) for field in told) for v in values}
        told = told if len(of_told) == len(same) else differing
        suffix = ", ".join(json.loads(own[f]) if f == MODEL else f"{f}={own[f]}" for f in told if f in own)
        name = words.clean_text(f"{arm.name}, {suffix}" if suffix else arm.name)
        units = dict(sorted(cells.items(), key=lambda item: (item[0][0], item[0][1] is not None, item[0][1] or 0)))
        renamed[arm._replace(name=name, settings=settings)] = units
    return dict(sorted(renamed.items(), key=lambda item: _sort_key(*item)))


def find_start(a: Arm, arms: Arms) -> Arm | None:
    """Return the arm of the weights that `a` started from, of the same encoder; None if there is none.

    As `jaxssl.results.words.find_start`: given weights before random ones. Of several, that with most settings of `a`.
    """
    if a.init == "random":
        return None
    settings = {arm: {*next(iter(arms[arm].values())).arm.settings} for arm in arms if is_alike(arm, a)}
    encoder = {item for item in settings[a] if item[0].startswith("model.")}
    for init in (a.init.rpartition("+")[0], "random"):
        found = [arm for arm, own in settings.items() if arm.init == init and encoder <= own]
        if found:
            return max(found, key=lambda arm: len(settings[arm] & settings[a]))
    return None


def is_alike(a: Arm, b: Arm) -> bool:
    """Return whether two arms have the same protocol and share of the labels."""
    return (a.protocol, a.labels) == (b.protocol, b.labels)


def _sort_key(arm: Arm, cells: dict[Unit, Cell]) -> tuple[Any, ...]:
    protocols = list(words.PROTOCOL_NAMES)
    protocol = protocols.index(arm.protocol) if arm.protocol in protocols else len(protocols)
    return protocol, arm.protocol, -mean_label_fraction(cells), arm.labels, _init_rank(arm.init), arm.name


def _init_rank(init: str) -> int:
    """Return the place of an initialization: random, given weights, own pretraining, both."""
    if init == "random":
        return 0
    if not has_own_pretraining(init):
        return 1
    return 3 if "+" in init else 2


def mean_label_fraction(cells: dict[Unit, Cell]) -> float:
    """Return the mean share of the labels over the runs of an arm."""
    return statistics.mean(cell.label_fraction for cell in cells.values())  # Exact: three times .05 is .05.


def check_same_images(a: Cell, b: Cell) -> None:
    """Raise UserError unless two evaluations of one seed and fold have the same test images."""
    if not np.array_equal(a.predictions.rows, b.predictions.rows):
        raise UserError(
            f"{a.run.folder} and {b.run.folder} have the same seed and fold and different test images: their splits "
            "differ",
            code="mismatch",
            field="splits.json",
        )


def confounded_fields(arms: Arms) -> list[str]:
    """Return config fields, other than those of the method, that two arms of one protocol set differently."""
    found: set[str] = set()
    for a, b in itertools.combinations(arms.values(), 2):
        one, other = next(iter(a.values())).arm, next(iter(b.values())).arm
        mine, theirs = dict(one.settings), dict(other.settings)
        if one.protocol == other.protocol:
            shared = mine.keys() & theirs.keys()
            found |= {f for f in shared if mine[f] != theirs[f] and not fields.has_role(f, "method")}
    return sorted(found)
