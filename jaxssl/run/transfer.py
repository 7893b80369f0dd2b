"""Transfer of an encoder to the labels: linear probe and kNN on frozen features, fine-tuning."""

import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxssl.augment import views
from jaxssl.evaluation import probe, scores, tasks
from jaxssl.objectives import Objective, supervised
from jaxssl.run import few_labels
from jaxssl.run.encoders import feature_function, map_batches
from jaxssl.run.finetuning import Task, train
from jaxssl.run.prepare import make_classifier
from jaxssl.run.setup import Setup, chooses_by_few, every_nth, init_names, transfer_rows
from jaxssl.training import checkpoint

Tree = Any
SCORED = ("validation", "test")
SPLITS = ("train", *SCORED)
MAX_TRAIN_IMAGES = 1000  # By which the loss on training images is measured.
Predict = Callable[[dict[str, Tree], np.ndarray], np.ndarray]  # (network, rows) -> predictions [N, classes]


class TransferResult(NamedTuple):
    """What one protocol made of one encoder.

    Attributes:
      probabilities: predictions [N, classes], see `evaluation.tasks`, of "validation" and of "test"; of "train", for up
        to `MAX_TRAIN_IMAGES` images without augmentation (`measured_train_rows`), unless the protocol has no loss on
        them.
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
      features: kind, see `encoders.feature_function` -> (features [N, D] of each split, seconds to compute them);
        computed once for all protocols.
    """

    init: str
    variables: Tree
    features: Callable[..., tuple[dict[str, np.ndarray], float]]


def make_arm(setup: Setup, init: str, variables: Tree) -> Arm:
    """Return the arm of an encoder."""

    @functools.cache
    def features(kind: str = "pooled") -> tuple[dict[str, np.ndarray], float]:
        start = time.perf_counter()
        encode = feature_function(setup, kind)
        computed = {
            name: map_batches(setup, rows, lambda batch: encode(variables, batch))
            for name, rows in transfer_rows(setup).items()
        }
        return computed, time.perf_counter() - start

    return Arm(init, variables, features)


def transfer(setup: Setup, protocol: str, arm: Arm) -> TransferResult:
    """Apply a protocol, one of `PROTOCOLS`, to an encoder."""
    return PROTOCOLS[protocol](setup, arm)


def labels_of(setup: Setup, split: str) -> np.ndarray:
    """Return the labels of a split, of "train" those that transfer may use."""
    return setup.source.labels[transfer_rows(setup)[split]]


def task_of(setup: Setup) -> tasks.Task:
    """Return the task of the labels."""
    return tasks.TASKS[setup.source.task]


def selection_of(setup: Setup) -> str:
    """Return the score that chooses on validation."""
    return tasks.selection_metric(task_of(setup), setup.config.transfer.select)


# On frozen features.


def probe_encoder(setup: Setup, arm: Arm) -> TransferResult:
    """Fit a logistic regression to the features; for values, a ridge regression."""
    kinds = setup.config.transfer.probe_features
    seconds = sum(arm.features(kind)[1] for kind in kinds)
    start = time.perf_counter()
    fits = [(kind, *_fit_probe(setup, arm.features(kind)[0])) for kind in kinds]
    kind, fitted, held_out = max(fits, key=lambda fit: fit[1].validation)  # Of equal ones the first.
    features = dict(arm.features(kind)[0])
    features["train"] = every_nth(features["train"], MAX_TRAIN_IMAGES)
    probabilities = {split: probe.predict_proba(fitted, features[split]) for split in SPLITS}
    if chooses_by_few(setup.config):
        probabilities["validation"] = no_predictions(probabilities) if held_out is None else held_out
    chosen = {"C": fitted.C, "selected_by": name_selection(setup, fitted.validation, "the default")}
    chosen |= describe_choice(fitted.validation) | ({"features": kind} if len(kinds) > 1 else {})
    pretrained = setup.objective and arm.init == init_names(setup.config, setup.objective.supervised)[0]
    if pretrained and kind == "pooled":
        checkpoint.save(setup.workdir / "checkpoints" / f"probe_{arm.init}", 0, probe.to_head(fitted), keep=1)
    return TransferResult(probabilities, seconds + time.perf_counter() - start, len(setup.labelled), chosen)


def _fit_probe(setup: Setup, features: dict[str, np.ndarray]) -> tuple[probe.Probe, np.ndarray | None]:
    """Return a fitted probe, and its predictions of held-out images where few labels choose."""
    if chooses_by_few(setup.config):
        return few_labels.fit_probe(setup, features["train"], selection_of(setup))
    fitted = probe.fit(
        features["train"],
        labels_of(setup, "train"),
        features["validation"],
        labels_of(setup, "validation"),
        classes=len(setup.source.classes),
        metric=selection_of(setup),
        balanced=setup.config.transfer.class_weights == "balanced",
    )
    return fitted, None


def no_predictions(probabilities: dict[str, np.ndarray]) -> np.ndarray:
    """Return the predictions [0, classes] of no image, where none was held out to choose by."""
    return probabilities["test"][:0]


def validation_rows(setup: Setup, predictions: np.ndarray) -> np.ndarray:
    """Return the images by which settings were chosen, given the predictions for them; none where there are none."""
    return transfer_rows(setup)["validation"][: len(predictions)]


def describe_choice(score: float) -> dict[str, Any]:
    """Return the score that chose, for results.json."""
    return {"validation": score if score > -math.inf else None}


def name_selection(setup: Setup, score: float, otherwise: str) -> str:
    """Return what chose on validation: `transfer.select`, or `otherwise` where that is undefined there."""
    return selection_of(setup) if score > -math.inf else otherwise


def measured_train_rows(setup: Setup) -> np.ndarray:
    """Return the training images by which the loss on training images is measured."""
    return every_nth(setup.labelled, MAX_TRAIN_IMAGES)


def classify_by_neighbors(setup: Setup, arm: Arm) -> TransferResult:
    """Predict each image from its nearest neighbours among the training images."""
    features, seconds = arm.features()
    start = time.perf_counter()
    train, classes = (features["train"], labels_of(setup, "train")), len(setup.source.classes)
    predict = task_of(setup).knn
    probabilities = {split: predict(*train, features[split], classes) for split in SCORED}
    if chooses_by_few(setup.config):
        chosen = few_labels.choose(
            setup,
            (0.0,),
            0.0,
            selection_of(setup),
            lambda _, rows, held: predict(train[0][rows], train[1][rows], train[0][held], classes),
        )
        probabilities["validation"] = no_predictions(probabilities) if chosen.held_out is None else chosen.held_out
    return TransferResult(probabilities, seconds + time.perf_counter() - start, len(setup.labelled), {})


# Fine-tuning.


def finetune(setup: Setup, arm: Arm, attentive: bool = False) -> TransferResult:
    """Fine-tune the encoder with a head, or train an attentive head on the frozen encoder; see `finetuning.train`."""
    c, classes, predict = setup.config.transfer, len(setup.source.classes), make_predict(setup)
    labels, losses = labels_of(setup, "train"), task_of(setup).losses
    options: dict[str, Any] = {"task": setup.source.task, "attentive": attentive}
    freeze_epochs, name = (c.epochs, "attentive") if attentive else (c.freeze_epochs, "finetune")
    if c.class_weights == "balanced":
        options["class_weights"] = balance_classes(labels, classes)
    if setup.source.task == "value":
        options["scale"] = float(labels.mean()), float(labels.std()) or 1.0

    def objective_at(epoch: int) -> Objective:
        return make_classifier(setup.config, setup.encoder, classes, frozen=epoch < freeze_epochs, **options)

    def measure(network: dict[str, Tree]) -> dict[str, float]:
        train = measured_train_rows(setup)
        measured = {"train_loss": float(losses(predict(network, train), setup.source.labels[train]).mean())}
        if chooses_by_few(setup.config):
            return measured | {"validation": -math.inf, "validation_loss": math.inf}
        labels, probabilities = labels_of(setup, "validation"), predict(network, setup.splits["validation"])
        score = scores.selection_score(probabilities, labels, selection_of(setup))
        return {"validation": score, "validation_loss": float(losses(probabilities, labels).mean())} | measured

    task = Task(setup.labelled, objective_at, measure, freeze_epochs)
    name, held_out = f"{name}_{arm.init}", None
    if chooses_by_few(setup.config) and len(c.learning_rates) > 1:
        chosen = few_labels.choose_rate(setup, name, task, arm.variables, predict)
        held_out, setup = chosen.held_out, setup._replace(config=with_rate(setup.config, chosen.value))
    trained = train(setup, name, task, arm.variables)
    otherwise = "no validation, the last epoch" if chooses_by_few(setup.config) else "the last epoch"
    trained.chosen["selected_by"] = name_selection(setup, trained.score, otherwise)
    trained.chosen.update(describe_choice(trained.score))
    start = time.perf_counter()
    rows = setup.splits | {"train": measured_train_rows(setup)}
    probabilities = {split: predict(trained.network, rows[split]) for split in SPLITS}
    if chooses_by_few(setup.config):
        probabilities["validation"] = no_predictions(probabilities) if held_out is None else held_out
    seconds = time.perf_counter() - start + trained.seconds
    return TransferResult(probabilities, seconds, trained.images, trained.chosen)


def with_rate(config: ConfigDict, rate: float) -> ConfigDict:
    """Return the config with one learning rate of the fine-tuning."""
    config = config.copy_and_resolve_references()
    config.transfer.learning_rates, config.transfer.optimizer.learning_rate = (), rate
    return config


def make_predict(setup: Setup) -> Predict:
    """Return the function that predicts images with a fine-tuned network."""
    classes = len(setup.source.classes)

    @jax.jit
    def predict(params: Tree, model_state: Tree, batch: dict) -> jax.Array:
        image = views.eval_transform(batch["image"], setup.pixels, setup.config.data.image_size)
        return supervised.predict(setup.encoder, classes, params, model_state, image, setup.source.task)

    def predict_rows(network: dict[str, Tree], rows: np.ndarray) -> np.ndarray:
        return map_batches(setup, rows, lambda batch: predict(network["params"], network["model_state"], batch))

    return predict_rows


def balance_classes(labels: np.ndarray, classes: int) -> tuple:
    """Return a weight for each class, inverse to its number of training images; they average 1 over these images.

    Of several labels [N, C], return weights [2, C] of their absence and presence, over the images in which each is
    known.
    """
    if labels.ndim == 2:
        pairs = [balance_classes(of[of >= 0], 2) for of in labels.T]
        return tuple(zip(*pairs, strict=True))
    counts = np.bincount(labels, minlength=classes)
    present = (counts > 0).sum()
    return tuple(float(len(labels) / (present * count)) if count else 0.0 for count in counts)


PROTOCOLS = {
    "probe": probe_encoder,
    "knn": classify_by_neighbors,
    "finetune": finetune,
    "attentive": functools.partial(finetune, attentive=True),
}
