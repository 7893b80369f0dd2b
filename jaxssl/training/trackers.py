"""Weights & Biases and MLflow, which receive the metrics too if `config.logger` names one of them.

A workdir is one run there: a resumed run continues it, by its id in tracker.json. Accounts and servers are set as these
packages expect it, by WANDB_* and MLFLOW_* in the environment.
"""

import importlib
import itertools
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
MAX_PARAMETERS = 100  # That MLflow takes in one call.


class Tracker(NamedTuple):
    """A run of an external service.

    Attributes:
      row: (phase, step, numbers by name) -> None; the steps of a phase ascend.
      end: () -> None.
    """

    row: Callable[[str, int, Mapping[str, float]], None]
    end: Callable[[], None]


# Offline, wandb would write a run anew for each start.
_started: dict[tuple[str, Path], Tracker] = {}
NO_TRACKER = Tracker(lambda phase, step, numbers: None, lambda: None)


def import_package(logger: str) -> ModuleType | None:
    """Return the package of a logger, None for "". UserError if it, or a package that it needs, cannot be imported."""
    try:
        return importlib.import_module(logger) if logger else None
    except Exception as error:  # Broken packages raise anything.
        lacking = getattr(error, "name", None) or logger
        if isinstance(error, ImportError) and lacking.partition(".")[0] == logger and lacking == logger:
            problem = f"needs the package {logger}: pip install {logger}"
        else:
            problem = (
                f"cannot import {logger}, because {lacking} is missing or broken ({' '.join(str(error).split())}): "
                f"pip install --force-reinstall {logger}"
            )
        raise UserError(f"logger={logger!r} {problem}", code="missing", field="logger") from error


def begin(logger: str, workdir: Path, settings: Mapping[str, Any]) -> Tracker:
    """Start the run of a workdir, or continue it. One process starts it once, for all phases; `finish` ends it.

    Args:
      logger: one of `NAMES`.
      workdir: of the run.
      settings: the config as JSON has it.

    Raises:
      UserError: the package is not installed, or cannot start, for example without an account.
    """
    module, file = import_package(logger), workdir / "tracker.json"
    if module is None:
        return NO_TRACKER
    key = logger, workdir.resolve()
    if key not in _started:
        _started[key] = _start(logger, module, workdir, settings, file)
    return _started[key]._replace(row=stop_at_failure(logger, _started[key].row))


def finish() -> None:
    """End all runs that `begin` started."""
    while _started:
        (logger, _), tracker = _started.popitem()
        stop_at_failure(logger, tracker.end)()


def _start(logger: str, module: ModuleType, workdir: Path, settings: Mapping[str, Any], file: Path) -> Tracker:
    ids = read_ids(file)
    try:
        start = {"wandb": start_wandb, "mlflow": start_mlflow}[logger]
        run_id, tracker = start(module, workdir, settings, ids.get(logger))
    except Exception as error:
        raise UserError(
            f"logger={logger!r} cannot start ({' '.join(str(error).split())}): set it up, or set logger=''",
            code="missing",
            field="logger",
        ) from error
    files.write_json(file, ids | {logger: run_id})
    return tracker


def read_ids(file: Path) -> dict[str, str]:
    """Return {logger: id of its run} of tracker.json; {} if it is missing or damaged: then a new run begins there."""
    try:
        content = files.load_json(file)
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in content.items() if isinstance(value, str)} if isinstance(content, dict) else {}


def stop_at_failure(logger: str, function: Callable[..., None]) -> Callable[..., None]:
    """Return the function without its exceptions: the first is logged, later calls do nothing. Training goes on."""
    failed = []

    def call(*arguments: Any) -> None:
        try:
            if not failed:
                function(*arguments)
        except Exception as error:
            failed.append(error)
            log.warning("logger=%r failed and is not used until the next phase: %s", logger, error)

    return call


def start_wandb(wandb: Any, workdir: Path, settings: Mapping[str, Any], run_id: str | None) -> tuple[str, Tracker]:
    """Start or continue a run of Weights & Biases; returns its id."""
    run_id = run_id or secrets.token_hex(4)
    run = wandb.init(
        id=run_id, resume="allow", project="jaxssl", name=workdir.name, dir=str(workdir), config=dict(settings)
    )

    def row(phase: str, step: int, numbers: Mapping[str, float]) -> None:
        # Each phase counts its own steps.
        run.define_metric(f"{phase}/*", step_metric=f"{phase}/step")
        run.log({f"{phase}/{key}": value for key, value in numbers.items()} | {f"{phase}/step": step})

    return run_id, Tracker(row, run.finish)


def start_mlflow(mlflow: Any, workdir: Path, settings: Mapping[str, Any], run_id: str | None) -> tuple[str, Tracker]:
    """Start or continue a run of MLflow; returns its id."""
    run = mlflow.start_run(run_id=run_id, run_name=None if run_id else workdir.name)
    if not run_id:
        parameters = iter(files.flatten(settings))
        while chunk := dict(itertools.islice(parameters, MAX_PARAMETERS)):
            mlflow.log_params(chunk)

    def row(phase: str, step: int, numbers: Mapping[str, float]) -> None:
        mlflow.log_metrics({f"{phase}/{key}": value for key, value in numbers.items()}, step=step)

    return run.info.run_id, Tracker(row, mlflow.end_run)


def finite_numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the values that are finite numbers."""
    return {name: v for name, v in values.items() if isinstance(v, int | float) and math.isfinite(v)}
