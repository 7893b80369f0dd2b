"""Training of a network on labels or masks: one phase for each learning rate, the best epoch chosen on validation."""

import logging
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxssl.objectives import Objective
from jaxssl.run.phase import Phase, train_phase
from jaxssl.run.setup import Setup
from jaxssl.training import checkpoint, distributed, metrics
from jaxssl.training.step import TrainState

Tree = Any
log = logging.getLogger(__name__)


class Task(NamedTuple):
    """What a network is trained for.

    Attributes:
      rows: the images to train on.
      objective_at: epoch -> objective, see `Phase`.
      measure: network -> "validation", the score that chooses the epoch and the learning rate (-inf where undefined),
        "validation_loss", which decides between equal scores, and what metrics.jsonl gets besides.
      freeze_epochs: number of epochs in which the encoder does not change.
      masks: whether the objective reads masks.
    """

    rows: np.ndarray
    objective_at: Callable[[int], Objective]
    measure: Callable[[dict[str, Tree]], dict[str, float]]
    freeze_epochs: int = 0
    masks: bool = False


class Trained(NamedTuple):
    """The best network of all learning rates.

    Attributes:
      network: its "params" and "model_state".
      score: its score on validation; -inf if that is undefined in every epoch.
      seconds: of training and validation, over all learning rates.
      images: number of images trained on, each as often as it was seen.
      chosen: fields of results.json that tell what was chosen.
    """

    network: dict[str, Tree]
    score: float
    seconds: float
    images: int
    chosen: dict[str, Any]


def train(setup: Setup, name: str, task: Task, variables: Tree) -> Trained:
    """Train an encoder for a task, once for each learning rate to be tried.

    The learning rate and the epoch are those that are best on validation; of equal ones, of which small validation
    splits have many, that with the smallest loss there. Each rate is a training phase, called `name`, or <name>_1 and
    so on if there are several.
    """
    c = setup.config.transfer
    rates = c.learning_rates or (c.optimizer.learning_rate,)
    phases = [name] if len(rates) == 1 else [f"{name}_{i}" for i in range(1, len(rates) + 1)]
    best, trials = None, []
    for phase, rate in zip(phases, rates, strict=True):
        network = train_once(setup, phase, rate, task, variables)
        score = best_validation(setup.workdir, phase)
        trials.append({"phase": phase, "learning_rate": rate, "validation": score[0]})
        if best is None or score > best[0]:
            best = score, network, {"phase": phase, "learning_rate": rate}
    assert best is not None  # There is one learning rate at least.
    (score, _), network, chosen = best
    seconds = sum(seconds_of(setup.workdir, phase) for phase in phases)
    steps = sum(steps_of(setup.workdir, phase) for phase in phases)
    return Trained(network, score, seconds, steps * c.batch_size, chosen | {"tried": trials})


def train_once(setup: Setup, name: str, learning_rate: float, task: Task, variables: Tree) -> dict[str, Tree]:
    """Train with one learning rate and return the network of the epoch that was best on validation."""
    c = setup.config.transfer.copy_and_resolve_references()
    c.optimizer.learning_rate = float(learning_rate)
    best_folder = setup.workdir / "checkpoints" / f"{name}_best"

    def measure(epoch: int, state: TrainState) -> dict[str, Any]:
        start = time.perf_counter()
        network = {"params": state.params, "model_state": state.model_state}
        measured = task.measure(network)
        score, loss = measured["validation"], measured["validation_loss"]
        if epoch and (score, -loss) > best_validation(setup.workdir, name) and score > -math.inf:
            checkpoint.save(best_folder, epoch, network, keep=1)
        return measured | {"validation_seconds": round(time.perf_counter() - start, 4)}

    def stop(epoch: int) -> bool:
        return c.patience > 0 and has_stalled(setup.workdir, name, epoch, c.patience, task.freeze_epochs)

    phase = Phase(name, c, task.rows, task.objective_at, measure, task.freeze_epochs, task.masks, stop)
    state = train_phase(setup, phase, variables)
    network = {"params": state.params, "model_state": state.model_state}
    # If validation could not tell one epoch from another, the last one is used.
    if best_validation(setup.workdir, name)[0] > -math.inf:
        restored = checkpoint.restore(best_folder, network)
        if restored is None:
            log.warning("%s is damaged: it is trained again", best_folder)
            for folder in (best_folder, best_folder.with_name(name)):
                shutil.rmtree(folder, ignore_errors=True)
            return train_once(setup, name, learning_rate, task, variables)
        network = restored[1]
    elif c.ema or c.lora.rank:  # The checkpoint of the phase holds what it goes on from, not what is used.
        checkpoint.save(best_folder, c.epochs, network, keep=1)
    return network


def has_stalled(workdir: Path, phase: str, epoch: int, patience: int, freeze_epochs: int = 0) -> bool:
    """Return whether the score on validation has not risen in the last `patience` epochs up to this one.

    Epochs with a frozen encoder do not count; of equal scores the smaller loss is better. False where the score is
    undefined in every epoch.
    """

    def stalled() -> bool:
        rows = [row for row in metrics.read(workdir, phase) if row.get("validation") is not None]
        scored = {r["epoch"]: (r["validation"], -r["validation_loss"]) for r in rows if 1 <= r["epoch"] <= epoch}
        best = max(scored, key=lambda e: (scored[e], -e), default=epoch)
        return epoch - max(best, freeze_epochs) >= patience

    return distributed.from_main(stalled)


def best_validation(workdir: Path, phase: str) -> tuple[float, float]:
    """Return (score, -log loss) of the epoch in metrics.jsonl that is best on validation; -inf if there is none."""

    def best() -> tuple[float, float]:
        rows = [row for row in metrics.read(workdir, phase) if row["step"] and row.get("validation") is not None]
        scored = ((row["validation"], -row.get("validation_loss", math.inf)) for row in rows)
        return max(scored, default=(-math.inf, -math.inf))

    return distributed.from_main(best)


def steps_of(workdir: Path, phase: str) -> int:
    """Return the number of training steps of a phase in metrics.jsonl."""
    return distributed.from_main(lambda: max(row["step"] for row in metrics.read(workdir, phase)))


def seconds_of(workdir: Path, phase: str) -> float:
    """Return the time of training steps and validation in metrics.jsonl, over all starts of the phase."""

    def seconds() -> float:
        rows = metrics.read(workdir, phase)
        return sum(row.get("seconds", 0.0) + row.get("validation_seconds", 0.0) for row in rows)

    return distributed.from_main(seconds)


def remove_rejected(workdir: Path, chosen: dict[str, Any]) -> None:
    """Delete the checkpoints of rejected learning rates."""
    for trial in chosen.get("tried", []):
        if trial["phase"] != chosen["phase"]:
            for phase in (trial["phase"], f"{trial['phase']}_best"):
                shutil.rmtree(workdir / "checkpoints" / phase, ignore_errors=True)
