"""Where metrics go besides metrics.jsonl and TensorBoard: Weights & Biases or MLflow, where `config.logger` says so.

A workdir is one run there, and goes on as that run when it is resumed: tracker.json holds its name. Accounts and
servers are set as these packages want them, by WANDB_* and MLFLOW_* in the environment.
"""

import importlib
import itertools
import json
import logging
import math
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from jaxssl import files
from jaxssl.errors import UserError

log = logging.getLogger(__name__)
NAMES = ("", "wandb", "mlflow")
_PARAMETERS = 100  # That MLflow takes at once.


class Tracker(NamedTuple):
    """What takes the metrics.

    Attributes:
      row: (phase, step, numbers by name) -> None; of a phase, steps ascend.
      end: () -> None.
    """

    row: Callable[[str, int, Mapping[str, float]], None]
    end: Callable[[], None]


SILENT = Tracker(lambda phase, step, numbers: None, lambda: None)


def package(logger: str) -> ModuleType | None:
    """The package of a logger, or None for "". UserError where it is not installed."""
    try:
        return importlib.import_module(logger) if logger else None
    except ImportError as error:
        raise UserError(f"logger={logger!r} needs the package {logger}: pip install {logger}") from error


def begin(logger: str, workdir: Path, settings: Mapping[str, Any]) -> Tracker:
    """Begins the run of a workdir, or goes on with it.

    Args:
      logger: "", "wandb" or "mlflow".
      workdir: of the run.
      settings: the config, as JSON has it.

    Raises:
      UserError: the package is not installed, or cannot begin, such as for want of an account.
    """
    module, file = package(logger), workdir / "tracker.json"
    if module is None:
        return SILENT
    known = json.loads(file.read_text()) if file.exists() else {}
    try:
        name, tracker = {"wandb": by_wandb, "mlflow": by_mlflow}[logger](module, workdir, settings, known.get(logger))
    except Exception as error:
        raise UserError(
            f"logger={logger!r} cannot begin ({' '.join(str(error).split())}): set it up, or take logger=''"
        ) from error
    files.write_json(file, known | {logger: name})
    return Tracker(until_it_fails(logger, tracker.row), until_it_fails(logger, tracker.end))


def until_it_fails(logger: str, function: Callable[..., None]) -> Callable[..., None]:
    """The same, but that a failure is only told, once: training does not end for want of a network."""
    failed = []

    def call(*arguments: Any) -> None:
        try:
            if not failed:
                function(*arguments)
        except Exception as error:
            failed.append(error)
            log.warning("logger=%r failed and is left alone until the next phase: %s", logger, error)

    return call


def by_wandb(wandb: Any, workdir: Path, settings: Mapping[str, Any], known: str | None) -> tuple[str, Tracker]:
    name = known or secrets.token_hex(4)
    about = {"project": "jaxssl", "name": workdir.name, "dir": str(workdir), "config": dict(settings)}
    run = wandb.init(id=name, resume="allow", **about)

    def row(phase: str, step: int, numbers: Mapping[str, float]) -> None:
        # Each phase counts its own steps.
        run.define_metric(f"{phase}/*", step_metric=f"{phase}/step")
        run.log({f"{phase}/{key}": value for key, value in numbers.items()} | {f"{phase}/step": step})

    return name, Tracker(row, run.finish)


def by_mlflow(mlflow: Any, workdir: Path, settings: Mapping[str, Any], known: str | None) -> tuple[str, Tracker]:
    run = mlflow.start_run(run_id=known, run_name=None if known else workdir.name)
    if not known:
        rest = iter(files.flatten(settings))
        while some := dict(itertools.islice(rest, _PARAMETERS)):
            mlflow.log_params(some)

    def row(phase: str, step: int, numbers: Mapping[str, float]) -> None:
        mlflow.log_metrics({f"{phase}/{key}": value for key, value in numbers.items()}, step=step)

    return run.info.run_id, Tracker(row, mlflow.end_run)


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Those of the values that a plot can show."""
    return {name: v for name, v in values.items() if isinstance(v, int | float) and math.isfinite(v)}
