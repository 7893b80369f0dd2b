"""Search of settings by Optuna before the cells of a sweep: each arm has as many trials, judged on validation."""

import importlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from jaxssl.config.fields import has_role
from jaxssl.errors import UserError
from jaxssl.results.workdir import read_results
from jaxssl.study.sweep.cells import Cell
from jaxssl.study.sweep.expand import check_field

SPACE = MappingProxyType(
    {"pretrain.optimizer.learning_rate": (1e-4, 1e-2), "transfer.optimizer.learning_rate": (1e-4, 1e-2)}
)


class Search(NamedTuple):
    """What is searched.

    Attributes:
      trials: of each arm.
      space: {config field: smallest and largest value}, log-uniform.
    """

    trials: int
    space: Mapping[str, tuple[float, float]] = SPACE


def parse_space(texts: Sequence[str]) -> Mapping[str, tuple[float, float]]:
    """Return {field: (low, high)} of arguments such as "transfer.optimizer.learning_rate=1e-4:1e-2".

    Raises:
      UserError: an argument is not of this form or of no field, or the ends are not 0 < low < high.
    """
    space = {}
    for text in texts:
        field, _, ends = text.removeprefix("--config.").partition("=")
        try:
            low, high = map(float, ends.split(":"))
        except ValueError:
            low = high = 0.0
        if not 0 < low < high < math.inf:
            message = f"--space={text}: write FIELD=LOW:HIGH with 0 < LOW < HIGH, such as {next(iter(SPACE))}=1e-4:1e-2"
            raise UserError(message, code="out-of-range", field="--space")
        check_field(field)
        space[field] = low, high
    return space or SPACE


def search_settings(
    cells: Sequence[Cell], search: Search, folder: Path, run: Callable[[Sequence[Cell]], object]
) -> list[Cell]:
    """Return the cells with the settings of their arm that were best on validation.

    Cells that differ in seed and fold alone are one arm, and its trials are of the first of them. The same call makes
    the same trials, of which those that are done are not run again.

    Args:
      cells: of the sweep.
      search: what is searched.
      folder: of the trials.
      run: runs cells until they have ended.

    Raises:
      UserError: Optuna is not installed, or no trial of an arm has a score on validation.
    """
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        message = "--search needs the package optuna: pip install 'jaxssl[search]'"
        raise UserError(message, code="missing", field="--search") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    arms: dict[str, Cell] = {}
    for cell in cells:
        arms.setdefault(_arm_of(cell), cell)
    studies = {
        arm: optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0)) for arm in arms
    }
    best: dict[str, tuple[float, dict[str, float]]] = {}
    for n in range(search.trials):
        asked = {arm: studies[arm].ask() for arm in arms}
        settings = {arm: _suggest(trial, search.space) for arm, trial in asked.items()}
        batch = {arm: _trial_cell(cell, settings[arm], folder, n) for arm, cell in arms.items()}
        run(list(batch.values()))
        for arm, cell in batch.items():
            score = validation_score(cell.folder)
            state = optuna.trial.TrialState.FAIL if score is None else None
            studies[arm].tell(asked[arm], score, state=state)
            if score is not None and (arm not in best or score > best[arm][0]):
                best[arm] = score, settings[arm]
    for arm in arms.keys() - best.keys():
        message = f"--search: no trial of {arms[arm].name} has a score on validation: see its log.txt in {folder}"
        raise UserError(message, code="missing", field="--search")
    return [cell._replace(fields={**cell.fields, **best[_arm_of(cell)][1]}) for cell in cells]


def validation_score(workdir: Path) -> float | None:
    """Return the mean score on validation of the first initialization of a run; None if there is none."""
    try:
        evaluations = read_results(workdir)["evaluations"]
    except UserError:
        return None
    first = [e.get("validation") for e in evaluations if e["init"] == evaluations[0]["init"]]
    scores = [score for score in first if score is not None]
    return float(np.mean(scores)) if scores else None


def _arm_of(cell: Cell) -> str:
    """Return a key that is equal for cells that differ in seed and fold alone."""
    fields = {k: repr(v) for k, v in sorted(cell.fields.items()) if not has_role(k, "repeat") or k.startswith("data.l")}
    return json.dumps(fields)


def _suggest(trial: Any, space: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Return a value of each field, with three digits, so that commands are short."""
    return {
        field: float(f"{trial.suggest_float(field, low, high, log=True):.3g}") for field, (low, high) in space.items()
    }


def _trial_cell(cell: Cell, settings: Mapping[str, float], folder: Path, n: int) -> Cell:
    name = f"{cell.name}-trial{n}"
    return Cell(name, folder / name, {**cell.fields, **settings})
