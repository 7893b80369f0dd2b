"""Pretraining of the encoder, with its diagnosis for collapse after each epoch."""

import contextlib
import logging
import statistics
from pathlib import Path
from typing import Any

import jax

from jaxssl.config import schedule
from jaxssl.errors import TrainingFailedError, UserError
from jaxssl.evaluation import collapse
from jaxssl.objectives import Objective, with_online_probe
from jaxssl.results.workdir import read_results
from jaxssl.run.encoders import compute_features, get_encoder
from jaxssl.run.phase import Phase, expected_first_loss, train_phase
from jaxssl.run.setup import Setup, every_nth
from jaxssl.training import checkpoint, distributed, metrics
from jaxssl.training.step import TrainState
from jaxssl.weights.merge import merge

Tree = Any
log = logging.getLogger(__name__)
MAX_DIAGNOSED_IMAGES = 512


def pretrain(setup: Setup, objective: Objective, variables: Tree) -> Tree:
    """Return the variables of the pretrained encoder; pretrains from `variables` unless it has an intact checkpoint.

    Raises:
      TrainingFailedError: the loss is not finite, or the encoder collapsed and `on_collapse` is "stop".
    """
    folder = setup.workdir / "checkpoints" / "encoder"
    # A damaged one is saved again, from the last checkpoint of the pretraining if that is intact.
    if not distributed.from_main(lambda: checkpoint.find_newest(folder) is not None):
        images = every_nth(setup.splits["train"], MAX_DIAGNOSED_IMAGES)
        probed = objective
        if setup.source.task in ("single", "ordinal"):  # The online probe names one class.
            probed = with_online_probe(objective, max(1, len(setup.source.classes)))

        def measure(epoch: int, state: TrainState) -> dict[str, Any]:
            diagnosis = collapse.diagnose(compute_features(setup, get_encoder(state), images))
            if epoch and setup.config.on_collapse == "stop" and distributed.is_main():
                stop_if_collapsed(setup, diagnosis)
            return diagnosis

        phase = Phase("pretrain", setup.config.pretrain, setup.pretraining_rows, lambda epoch: probed, measure)
        state = train_phase(setup, phase, variables)
        checkpoint.save(folder, int(state.step), get_encoder(state))
    return load_pretrained(folder, variables)


def load_pretrained(folder: Path, initial: Tree) -> Tree:
    """Return the encoder variables in `folder`.

    Raises:
      UserError: there is no intact checkpoint, it does not fit, or it equals `initial`, from which training began.
    """
    restored = checkpoint.restore(folder, initial)
    if restored is None:
        raise UserError(
            f"{folder} holds no intact checkpoint of the encoder: delete the folder to pretrain again",
            code="damaged",
            field=str(folder),
        )
    variables = merge(initial, restored[1], str(folder))
    equal = jax.tree.map(lambda a, b: bool((a == b).all()), variables["params"], initial["params"])
    if all(jax.tree.leaves(equal)):
        raise UserError(
            f"{folder} holds the encoder from which pretraining began, unchanged: there is nothing to evaluate; "
            "check pretrain.optimizer.learning_rate",
            code="conflict",
            field="pretrain.optimizer.learning_rate",
        )
    return variables


def describe_collapse(workdir: Path, diagnosis: dict[str, float] | None = None) -> dict[str, Any]:
    """Return the "collapse" of results.json from the last epoch of metrics.jsonl, or from this newer diagnosis."""
    rows = metrics.read(workdir, "pretrain")
    diagnoses = [row for row in rows if "effective_rank" in row]
    # Null where a part of a batch holds one image, whose spread cannot be measured.
    embedding = [row["embedding_std"] for row in rows if row.get("embedding_std") is not None]
    last = diagnosis or diagnoses[-1]
    verdict = collapse.verdict(last, diagnoses[0], embedding[-1] if embedding else None)
    return {"verdict": verdict, "feature_std": last["feature_std"], "effective_rank": last["effective_rank"]}


def stop_if_collapsed(setup: Setup, diagnosis: dict[str, float]) -> None:
    """Raise TrainingFailedError if the encoder has collapsed."""
    state = describe_collapse(setup.workdir, diagnosis)
    if state["verdict"] == "collapsed":
        raise TrainingFailedError(
            f"pretrain: the encoder collapsed (feature_std {state['feature_std']:.3g}, effective_rank "
            f"{state['effective_rank']:.3g}) and on_collapse is 'stop'; see metrics.jsonl in {setup.workdir}"
        )


def summarize_again(setup: Setup) -> dict[str, Any]:
    """Return the "pretrain" of the results.json that an earlier start wrote."""
    file = setup.workdir / "metrics.jsonl"
    with contextlib.suppress(UserError):
        if summary := read_results(setup.workdir)["pretrain"]:
            log.warning("%s lacks rows of pretrain: its summary is that of the earlier results.json", file)
            return dict(summary)
    raise UserError(
        f"{file} lacks rows of pretrain: copy it back, or delete checkpoints/encoder and checkpoints/pretrain in "
        f"{setup.workdir} to pretrain again",
        code="damaged",
        field=str(file),
    )


def summarize(setup: Setup, objective: Objective) -> dict[str, Any]:
    """Return the "pretrain" of results.json, from metrics.jsonl; if rows are missing, from an earlier results.json.

    Raises:
      UserError: rows are missing, and there is no results.json.
    """
    c = setup.config.pretrain
    per_epoch = schedule.steps_per_epoch(len(setup.pretraining_rows), c, "pretrain")
    if not metrics.is_complete(setup.workdir, "pretrain", c.epochs * per_epoch, per_epoch, c.log_every):
        return summarize_again(setup)
    steps = [row for row in metrics.read(setup.workdir, "pretrain") if "loss" in row]
    return {
        "objective": c.objective,
        "supervised": objective.supervised,
        "epochs": c.epochs,
        "final_loss": statistics.fmean(row["loss"] for row in steps if row["epoch"] == steps[-1]["epoch"]),
        "first_loss": steps[0]["loss"],
        "expected_first_loss": expected_first_loss(objective, c, untrained=setup.weights is None),
        "collapse": describe_collapse(setup.workdir),
        "seconds": sum(row["seconds"] for row in steps),
        "images": steps[-1]["step"] * c.batch_size,
        "steps": steps[-1]["step"],
        "images_per_second": statistics.median(row["images_per_second"] for row in steps),
    }
