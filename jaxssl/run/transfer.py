"""Transfer of an encoder to the labels: linear probe and kNN on frozen features, fine-tuning."""

import functools
import logging
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxssl.augment import views
from jaxssl.config import schedule
from jaxssl.evaluation import calibration, knn, probe, scores
from jaxssl.objectives import Objective, supervised
from jaxssl.run.encoders import compute_features, map_batches
from jaxssl.run.phase import Phase, train_phase
from jaxssl.run.prepare import make_classifier
from jaxssl.run.setup import Setup, every_nth, transfer_rows
from jaxssl.training import checkpoint, distributed, metrics
from jaxssl.training.step import TrainState

Tree = Any
log = logging.getLogger(__name__)
SCORED = ("validation", "test")
SPLITS = ("train", *SCORED)
MAX_TRAIN_IMAGES = 1000  # By which the loss on training images is measured.
Predict = Callable[[dict[str, Tree], np.ndarray], np.ndarray]  # (network, rows) -> probabilities [N, classes]


class TransferResult(NamedTuple):
    """What one protocol made of one encoder.

    Attributes:
      probabilities: [N, classes] float32 of "validation" and of "test"; of "train", for up to `MAX_TRAIN_IMAGES` images
        without augmentation (`measured_train_rows`), unless the protocol has no loss on them.
      seconds: of training, of choosing on validation, and of predicting.
      images: number of images trained on, each as often as it was seen.
      chosen: fields of results.json that tell what was chosen on validation.
    """

    probabilities: dict[str, np.ndarray]
    seconds: float
    images: int
    chosen: dict[str, Any]


class Arm(NamedTuple):
    """One encoder to be transferred.

    Attributes:
      init: its initialization, such as "ssl" or "random".
      variables: its variables.
      features: () -> (features [N, D] of each split, seconds to compute them); computed once for all protocols.
    """

    init: str
    variables: Tree
    features: Callable[[], tuple[dict[str, np.ndarray], float]]


def make_arm(setup: Setup, init: str, variables: Tree) -> Arm:
    """Return the arm of an encoder."""

    @functools.cache
    def features() -> tuple[dict[str, np.ndarray], float]:
        start = time.perf_counter()
        computed = {name: compute_features(setup, variables, rows) for name, rows in transfer_rows(setup).items()}
        return computed, time.perf_counter() - start

    return Arm(init, variables, features)


def transfer(setup: Setup, protocol: str, arm: Arm) -> TransferResult:
    """Apply a protocol, one of `PROTOCOLS`, to an encoder."""
    return PROTOCOLS[protocol](setup, arm)


def labels_of(setup: Setup, split: str) -> np.ndarray:
    """Return the labels [N] of a split, of "train" those that transfer may use."""
    return setup.source.labels[transfer_rows(setup)[split]]


# On frozen features.


def probe_encoder(setup: Setup, arm: Arm) -> TransferResult:
    """Fit a logistic regression to the features."""
    features, seconds = arm.features()
    features = dict(features)
    start = time.perf_counter()
    fitted = probe.fit(
        features["train"],
        labels_of(setup, "train"),
        features["validation"],
        labels_of(setup, "validation"),
        classes=len(setup.source.classes),
        metric=setup.config.transfer.select,
        balanced=setup.config.transfer.class_weights == "balanced",
    )
    features["train"] = every_nth(features["train"], MAX_TRAIN_IMAGES)
    probabilities = {split: probe.predict_proba(fitted, features[split]) for split in SPLITS}
    chosen = {"C": fitted.C, "selected_by": name_selection(setup, fitted.validation, "the default")}
    return TransferResult(probabilities, seconds + time.perf_counter() - start, len(setup.labelled), chosen)


def name_selection(setup: Setup, score: float, otherwise: str) -> str:
    """Return what chose on validation: `transfer.select`, or `otherwise` where that is undefined there."""
    return setup.config.transfer.select if score > -math.inf else otherwise


def measured_train_rows(setup: Setup) -> np.ndarray:
    """Return the training images by which the loss on training images is measured."""
    return every_nth(setup.labelled, MAX_TRAIN_IMAGES)


def classify_by_neighbors(setup: Setup, arm: Arm) -> TransferResult:
    """Classify each image by its nearest neighbours among the training images."""
    features, seconds = arm.features()
    start = time.perf_counter()
    train, classes = (features["train"], labels_of(setup, "train")), len(setup.source.classes)
    probabilities = {split: knn.predict_proba(*train, features[split], classes=classes) for split in SCORED}
    return TransferResult(probabilities, seconds + time.perf_counter() - start, len(setup.labelled), {})


# Fine-tuning.


def finetune(setup: Setup, arm: Arm) -> TransferResult:
    """Fine-tune the encoder with a head, once for each learning rate to be tried.

    The learning rate and the epoch are those that are best on validation; of equal ones, of which small validation
    splits have many, that with the smallest log loss there. Each rate is a training phase, called finetune_<init>, or
    finetune_<init>_1 and so on if there are several.
    """
    c, name = setup.config.transfer, f"finetune_{arm.init}"
    rates = c.learning_rates or (c.optimizer.learning_rate,)
    phases = [name] if len(rates) == 1 else [f"{name}_{i}" for i in range(1, len(rates) + 1)]
    predict = make_predict(setup)
    best, trials = None, []
    for phase, rate in zip(phases, rates, strict=True):
        network = finetune_once(setup, phase, rate, arm.variables, predict)
        score = best_validation(setup.workdir, phase)
        trials.append({"phase": phase, "learning_rate": rate, "validation": score[0]})
        if best is None or score > best[0]:
            best = score, network, {"phase": phase, "learning_rate": rate}
    assert best is not None  # There is one learning rate at least.
    score, network, chosen = best
    chosen["selected_by"] = name_selection(setup, score[0], "the last epoch")
    start = time.perf_counter()
    rows = setup.splits | {"train": measured_train_rows(setup)}
    probabilities = {split: predict(network, rows[split]) for split in SPLITS}
    seconds = time.perf_counter() - start + sum(seconds_of(setup.workdir, phase) for phase in phases)
    steps = c.epochs * schedule.steps_per_epoch(len(setup.labelled), c, "transfer")
    return TransferResult(probabilities, seconds, len(rates) * steps * c.batch_size, chosen | {"tried": trials})


def make_predict(setup: Setup) -> Predict:
    """Return the function that predicts images with a fine-tuned network."""
    classes = len(setup.source.classes)

    @jax.jit
    def predict(params: Tree, model_state: Tree, batch: dict) -> jax.Array:
        image = views.eval_transform(batch["image"], setup.pixels, setup.config.data.image_size)
        return supervised.predict(setup.encoder, classes, params, model_state, image)

    def predict_rows(network: dict[str, Tree], rows: np.ndarray) -> np.ndarray:
        return map_batches(setup, rows, lambda batch: predict(network["params"], network["model_state"], batch))

    return predict_rows


def balance_classes(labels: np.ndarray, classes: int) -> tuple[float, ...]:
    """Return a weight for each class, inverse to its number of training images; they average 1 over these images."""
    counts = np.bincount(labels, minlength=classes)
    present = (counts > 0).sum()
    return tuple(float(len(labels) / (present * count)) if count else 0.0 for count in counts)


def finetune_once(setup: Setup, name: str, learning_rate: float, variables: Tree, predict: Predict) -> dict[str, Tree]:
    """Fine-tune with one learning rate and return the network of the epoch that was best on validation."""
    c, classes = setup.config.transfer.copy_and_resolve_references(), len(setup.source.classes)
    weights = balance_classes(labels_of(setup, "train"), classes) if c.class_weights == "balanced" else ()
    c.optimizer.learning_rate = float(learning_rate)
    best_folder = setup.workdir / "checkpoints" / f"{name}_best"

    def objective_at(epoch: int) -> Objective:
        frozen = epoch < c.freeze_epochs
        return make_classifier(setup.config, setup.encoder, classes, frozen=frozen, class_weights=weights)

    def measure(epoch: int, state: TrainState) -> dict[str, Any]:
        start = time.perf_counter()
        network = {"params": state.params, "model_state": state.model_state}
        labels, train = labels_of(setup, "validation"), measured_train_rows(setup)
        probabilities = predict(network, setup.splits["validation"])
        score = scores.selection_score(probabilities, labels, c.select)
        loss = float(calibration.log_losses(probabilities, labels).mean())
        if epoch and (score, -loss) > best_validation(setup.workdir, name) and score > -math.inf:
            checkpoint.save(best_folder, epoch, network, keep=1)
        train_loss = float(calibration.log_losses(predict(network, train), setup.source.labels[train]).mean())
        seconds = round(time.perf_counter() - start, 4)
        return {
            "validation": score,
            "validation_loss": loss,
            "train_loss": train_loss,
            "validation_seconds": seconds,
        }

    phase = Phase(name, c, setup.labelled, objective_at, measure, c.freeze_epochs)
    state = train_phase(setup, phase, variables)
    network = {"params": state.params, "model_state": state.model_state}
    # If validation could not tell one epoch from another, the last one is used.
    if best_validation(setup.workdir, name)[0] > -math.inf:
        restored = checkpoint.restore(best_folder, network)
        if restored is None:
            log.warning("%s is damaged: it is fine-tuned again", best_folder)
            for folder in (best_folder, best_folder.with_name(name)):
                shutil.rmtree(folder, ignore_errors=True)
            return finetune_once(setup, name, learning_rate, variables, predict)
        network = restored[1]
    return network


def best_validation(workdir: Path, phase: str) -> tuple[float, float]:
    """Return (score, -log loss) of the epoch in metrics.jsonl that is best on validation; -inf if there is none."""

    def best() -> tuple[float, float]:
        rows = [row for row in metrics.read(workdir, phase) if row["step"] and row.get("validation") is not None]
        scored = ((row["validation"], -row.get("validation_loss", math.inf)) for row in rows)
        return max(scored, default=(-math.inf, -math.inf))

    return distributed.from_main(best)


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


PROTOCOLS = {"probe": probe_encoder, "knn": classify_by_neighbors, "finetune": finetune}
