"""One experiment from images to results, in order; what is already in the workdir is not done again."""

import contextlib
import csv
import functools
import io
import json
import math
import shutil
import statistics
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxssl import files
from jaxssl.augment import views
from jaxssl.config import schedule
from jaxssl.data import pipeline
from jaxssl.data.source import UNLABELLED
from jaxssl.errors import TrainingFailedError, UserError
from jaxssl.evaluation import calibration, collapse, knn, probe, scores
from jaxssl.objectives import Objective, supervised, with_online_probe
from jaxssl.report import page, table
from jaxssl.run import gallery
from jaxssl.run import setup as preparation
from jaxssl.run.setup import Setup
from jaxssl.training import checkpoint, distributed, metrics, optimizers, sharding
from jaxssl.training import loop as train
from jaxssl.training.loop import TrainState

Tree = Any
EVALUATION_BATCH = 256
SCORED = ("validation", "test")
DIAGNOSED = 512  # Images on which the spread of the features is measured.


def run(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Runs or resumes `config` in `workdir` and returns what `results.json` holds.

    Raises:
      UserError: the config, the data or the workdir cannot serve.
      TrainingFailedError: the loss is not finite, or the encoder collapsed and `on_collapse` is "stop".
      PreemptedError: a signal came and all is saved.
    """
    setup = preparation.prepare(config, Path(workdir))
    with alone_in(setup.workdir):
        distributed.from_main(lambda: begin(setup))
        results = run_phases(setup)
        # What it draws is on the devices of one process.
        if jax.process_count() == 1:
            gallery.collect(setup)
        distributed.from_main(lambda: report(setup, results))
        return results


def begin(setup: Setup) -> None:
    files.remove_unfinished(setup.workdir)
    preparation.claim(setup)
    preparation.audit_images(setup)


def report(setup: Setup, results: dict[str, Any]) -> None:
    found = page.differences(results, page.read_predictions(setup.workdir, results))
    page.write(setup.workdir, found)
    metrics.conclude(setup.workdir, preparation.plain(setup.config), results)
    metrics.console.print(table.summary(results, setup.workdir, found))


@contextlib.contextmanager
def alone_in(workdir: Path) -> Iterator[None]:
    """Create the workdir and lock it. UserError if it cannot be written or another run uses it."""
    with files.lock(workdir / f".lock{jax.process_index()}", "--workdir"), files.disk_errors(workdir):
        yield


def run_phases(setup: Setup) -> dict[str, Any]:
    untrained = init_encoder(setup)
    encoders = [untrained] if setup.given is None else [setup.given, untrained]
    if setup.config.pretrain.epochs:
        encoders = [pretrain(setup, encoders[0]), *encoders]
    names = preparation.inits(setup.config, bool(setup.pretext and setup.pretext.supervised))
    evaluations = []
    if setup.source.classes:
        for init, variables in zip(names, encoders, strict=True):
            if init in (setup.config.transfer.inits or names):
                evaluations += evaluate_encoder(setup, init, variables)
    return distributed.from_main(lambda: write_results(setup, evaluations))


# Encoders.


def named_key(setup: Setup, name: str) -> jax.Array:
    """A key of its own for each purpose, the same in each run of this seed."""
    return jax.random.fold_in(jax.random.key(setup.config.seed), zlib.crc32(name.encode()))


def init_encoder(setup: Setup) -> Tree:
    """Variables of the untrained encoder: pretraining starts from them and the random arm keeps them."""
    size = setup.config.data.image_size
    image = jnp.zeros((1, size, size, setup.source.channels))
    init = jax.jit(functools.partial(setup.encoder.init, train=False), out_shardings=sharding.replicated(setup.mesh))
    return init(named_key(setup, "encoder"), image)


def encoder_of(state: TrainState) -> Tree:
    return {"params": state.params["encoder"], **state.model_state["encoder"]}


def with_encoder(state: TrainState, variables: Tree) -> TrainState:
    """The state with copies of these encoder variables wherever it has an encoder, in a moving average too."""
    params = variables["params"]
    statistics = {k: v for k, v in variables.items() if k != "params"}

    def place(tree: Tree, value: Tree) -> Tree:
        if "encoder" not in tree:
            return tree
        fits = checkpoint.merge(tree["encoder"], value, "the encoder to start from")
        return tree | {"encoder": jax.tree.map(jnp.copy, fits)}

    model_state = place(state.model_state, statistics)
    if "target" in model_state:
        model_state |= {"target": place(model_state["target"], statistics)}
    return state._replace(
        params=place(state.params, params), target=place(state.target, params), model_state=model_state
    )


def features(setup: Setup, variables: Tree, rows: np.ndarray) -> np.ndarray:
    """Pooled features [N, D] float32 of these images, seen as in evaluation."""
    return over(setup, rows, lambda batch: setup.encode(variables, batch))


def over(setup: Setup, rows: np.ndarray, function: Callable[[dict], jax.Array]) -> np.ndarray:
    """A jitted function of batches over all of these images, each counted once, in their order."""
    parts = []
    size, workers = evaluation_batch(setup), setup.config.data.workers
    for batch in pipeline.evaluation(
        setup.source, rows, batch_size=size, sharding=sharding.of_batch(setup.mesh), workers=workers
    ):
        parts.append(distributed.gather(function(batch)))
    return np.concatenate(parts)[: len(rows)]


def evaluation_batch(setup: Setup) -> int:
    return -(-EVALUATION_BATCH // setup.mesh.size) * setup.mesh.size


# Training phases.


def fit(
    setup: Setup,
    phase: str,
    c: ConfigDict,
    rows: np.ndarray,
    variables: Tree,
    objective_of: Callable[[int], Objective],
    measure: Callable[[int, TrainState], dict[str, Any]],
    freeze_epochs: int = 0,
) -> TrainState:
    """Trains one phase from its last checkpoint, or else from these encoder variables; the state at its end.

    Args:
      setup: of the experiment.
      phase: its name in metrics.jsonl and below checkpoints/.
      c: `config.pretrain` or `config.transfer`.
      rows: the images to train on.
      variables: of the encoder to start from.
      objective_of: epoch -> objective; it may change with the epoch, its trees may not.
      measure: (epochs done, state) -> what to write beside; asked before the first epoch and after each.
      freeze_epochs: how long the encoder stays as it is.
    """
    per_epoch = schedule.steps_per_epoch(len(rows), c, phase)
    options = schedule.optimizer_options(c.optimizer, c.epochs, per_epoch, c.batch_size)
    tx = optimizers.make(**options, frozen_steps=freeze_epochs * per_epoch)
    objective = objective_of(0)
    view = views.make(setup.pixels, size=setup.config.data.image_size, views=objective.views, **c.augment)
    key = named_key(setup, phase.split("_")[0])
    sample = pipeline.gather(setup.source, rows[: setup.mesh.size])

    def init(key: jax.Array, batch: dict, variables: Tree) -> TrainState:
        return with_encoder(train.init_state(key, batch, objective, view, tx), variables)

    shapes = jax.eval_shape(init, key, sample, variables)
    places = sharding.of_state(setup.mesh, shapes)
    folder = setup.workdir / "checkpoints" / phase
    like = jax.tree.map(lambda s, place: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place), shapes, places)
    keep_target = not objective.constant_target
    start, state = checkpoint.restore(folder, like if keep_target else train.without_target(like)) or (0, None)
    if state is None or not keep_target:
        fresh = jax.jit(init, out_shardings=places)(key, sample, variables)
        state = fresh if state is None else state._replace(target=fresh.target)

    @functools.cache
    def compiled(frozen: bool) -> Callable:
        objective = objective_of(0 if frozen else freeze_epochs)
        return train.jit_step(setup.mesh, shapes, objective, view, tx, c.gradient_accumulation)

    settings, first_loss = preparation.plain(setup.config), expected_first_loss(objective, c)
    with metrics.Writer(
        setup.workdir, phase, start, c.epochs, per_epoch, c.batch_size, c.log_every, first_loss, settings
    ) as writer:
        if start == 0:
            writer.row(0, 0, measure(0, state))
        for epoch, trained in train.epochs(
            state,
            lambda epoch: compiled(epoch < freeze_epochs),
            lambda epoch, skip: pipeline.training(
                setup.source,
                rows,
                batch_size=c.batch_size,
                steps=per_epoch,
                seed=setup.config.seed,
                epoch=epoch,
                skip=skip,
                sharding=sharding.of_batch(setup.mesh),
                workers=setup.config.data.workers,
            ),
            epochs=c.epochs,
            steps_per_epoch=per_epoch,
            writer=writer,
            checkpoints=folder,
            save_every=c.save_every,
            keep_target=keep_target,
        ):
            writer.row(epoch * per_epoch, epoch, measure(epoch, trained))
            state = trained
    return state


def expected_first_loss(objective: Objective, c: ConfigDict) -> float | None:
    return objective.first_loss(c.batch_size // c.gradient_accumulation) if objective.first_loss else None


def pretrain(setup: Setup, start: Tree) -> Tree:
    """Variables of the pretrained encoder, from its checkpoint; pretrains first where there is none."""
    c = setup.config.pretrain
    folder = setup.workdir / "checkpoints" / "encoder"
    if not distributed.from_main(lambda: checkpoint.steps(folder)):
        watched = preparation.every_nth(setup.splits["train"], DIAGNOSED)

        def objective_of(epoch: int) -> Objective:
            del epoch
            return with_online_probe(setup.pretext, max(1, len(setup.source.classes)))

        def measure(epoch: int, state: TrainState) -> dict[str, Any]:
            diagnosis = collapse.diagnose(features(setup, encoder_of(state), watched))
            if epoch and setup.config.on_collapse == "stop" and distributed.is_main():
                stop_if_collapsed(setup, diagnosis)
            return diagnosis

        state = fit(setup, "pretrain", c, setup.seen, start, objective_of, measure)
        checkpoint.save(folder, int(state.step), encoder_of(state))
    return load_encoder(folder, start)


def load_encoder(folder: Path, start: Tree) -> Tree:
    """Encoder variables from `folder`. UserError where there are none, they do not fit, or are those of `start`."""
    found = checkpoint.restore(folder, start)
    if found is None:
        raise UserError(f"{folder} holds no whole checkpoint of an encoder; delete the folder to pretrain again")
    variables = checkpoint.merge(start, found[1], str(folder))
    same = jax.tree.map(lambda a, b: bool((a == b).all()), variables["params"], start["params"])
    if all(jax.tree.leaves(same)):
        raise UserError(f"{folder} holds the encoder that training began with: nothing was learnt to be evaluated")
    return variables


def collapse_state(workdir: Path, diagnosis: dict[str, float] | None = None) -> dict[str, Any]:
    """Verdict and figures of the last epoch in metrics.jsonl, or of this newer diagnosis."""
    rows = metrics.read(workdir, "pretrain")
    diagnoses = [row for row in rows if "effective_rank" in row]
    embedding = [row["embedding_std"] for row in rows if "embedding_std" in row]
    last = diagnosis or diagnoses[-1]
    verdict = collapse.verdict(last, diagnoses[0], embedding[-1] if embedding else None)
    return {"verdict": verdict, "feature_std": last["feature_std"], "effective_rank": last["effective_rank"]}


def stop_if_collapsed(setup: Setup, diagnosis: dict[str, float]) -> None:
    state = collapse_state(setup.workdir, diagnosis)
    if state["verdict"] == "collapsed":
        raise TrainingFailedError(
            f"pretrain: the encoder collapsed (feature_std {state['feature_std']:.3g}, effective_rank "
            f"{state['effective_rank']:.3g}) and on_collapse is 'stop'; see metrics.jsonl in {setup.workdir}"
        )


def summarise_pretraining(setup: Setup) -> dict[str, Any]:
    """The "pretrain" of results.json, from metrics.jsonl."""
    c = setup.config.pretrain
    steps = [row for row in metrics.read(setup.workdir, "pretrain") if "loss" in row]
    return {
        "objective": c.objective,
        "supervised": setup.pretext.supervised,
        "epochs": c.epochs,
        "final_loss": statistics.fmean(row["loss"] for row in steps if row["epoch"] == steps[-1]["epoch"]),
        "first_loss": steps[0]["loss"],
        "expected_first_loss": expected_first_loss(setup.pretext, c),
        "collapse": collapse_state(setup.workdir),
        "seconds": sum(row["seconds"] for row in steps),
        "images": steps[-1]["step"] * c.batch_size,
        "images_per_second": statistics.median(row["images_per_second"] for row in steps),
    }


# Evaluation.


class TransferResult(NamedTuple):
    """What one protocol made of one encoder.

    Attributes:
      probabilities: [N, classes] of "validation" and of "test".
      seconds: of training, of choosing on validation, and of predicting.
      images: seen in training, each as often as it was seen.
      chosen: what results.json says besides of what was chosen.
    """

    probabilities: dict[str, np.ndarray]
    seconds: float
    images: int
    chosen: dict[str, Any]


def evaluate_encoder(setup: Setup, init: str, variables: Tree) -> list[dict[str, Any]]:
    """The evaluations of one encoder by each protocol, from evaluations/ where they are done."""

    @functools.cache
    def taken() -> tuple[dict[str, np.ndarray], float]:
        since = time.perf_counter()
        found = {name: features(setup, variables, rows) for name, rows in transfer_rows(setup).items()}
        return found, time.perf_counter() - since

    done = []
    for protocol in setup.config.transfer.protocols:
        name = f"{protocol}_{init}"
        file = setup.workdir / "evaluations" / f"{name}.json"
        if not distributed.from_main(file.exists):
            predict = {"probe": predict_by_probe, "knn": predict_by_knn}.get(protocol)
            found = from_features(setup, predict, *taken()) if predict else finetune(setup, name, variables)
            distributed.from_main(lambda: write_evaluation(setup, name, protocol, init, found))
            distributed.from_main(lambda: remove_unchosen(setup.workdir, found.chosen))
        done.append(distributed.from_main(lambda: json.loads(file.read_text())))
    return done


def transfer_rows(setup: Setup) -> dict[str, np.ndarray]:
    return setup.splits | {"train": setup.labelled}


def labels_of(setup: Setup, split: str) -> np.ndarray:
    return setup.source.labels[transfer_rows(setup)[split]]


def from_features(
    setup: Setup, predict: Callable[[Setup, dict[str, np.ndarray]], dict[str, np.ndarray]], taken: dict, seconds: float
) -> TransferResult:
    """What a protocol on frozen features predicts, its time with the `seconds` in which these were made."""
    since = time.perf_counter()
    probabilities = predict(setup, taken)
    return TransferResult(probabilities, seconds + time.perf_counter() - since, len(setup.labelled), {})


def predict_by_probe(setup: Setup, taken: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Probabilities of a logistic regression on frozen features."""
    fitted = probe.fit(
        taken["train"],
        labels_of(setup, "train"),
        taken["validation"],
        labels_of(setup, "validation"),
        classes=len(setup.source.classes),
        metric=setup.config.transfer.select,
    )
    return {split: probe.predict_proba(fitted, taken[split]) for split in SCORED}


def predict_by_knn(setup: Setup, taken: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Probabilities of the nearest neighbours among the training images."""
    train, classes = (taken["train"], labels_of(setup, "train")), len(setup.source.classes)
    return {split: knn.predict_proba(*train, taken[split], classes=classes) for split in SCORED}


def finetune(setup: Setup, name: str, variables: Tree) -> TransferResult:
    """Trains the encoder on with a head, once for each learning rate that is to be tried.

    The rate and the epoch are those that are best on validation; of equal ones the first. Each rate is a training phase
    of its own, called `name`, or `name`_1 and so on where there are several.
    """
    c, classes = setup.config.transfer, len(setup.source.classes)
    rates = c.learning_rates or (c.optimizer.learning_rate,)
    phases = [name] if len(rates) == 1 else [f"{name}_{i}" for i in range(1, len(rates) + 1)]

    @jax.jit
    def predict(params: Tree, model_state: Tree, batch: dict) -> jax.Array:
        image = views.plain(batch["image"], setup.pixels, setup.config.data.image_size)
        return supervised.predict(setup.encoder, classes, params, model_state, image)

    def probabilities(network: dict[str, Tree], split: str) -> np.ndarray:
        return over(setup, setup.splits[split], lambda batch: predict(network["params"], network["model_state"], batch))

    best, tried = None, []
    for phase, rate in zip(phases, rates, strict=True):
        network = finetune_once(setup, phase, rate, variables, probabilities)
        score = best_validation(setup.workdir, phase)
        tried.append({"phase": phase, "learning_rate": rate, "validation": score})
        if best is None or score > best[0]:
            best = score, network, {"phase": phase, "learning_rate": rate}
    _, network, chosen = best
    since = time.perf_counter()
    found = {split: probabilities(network, split) for split in SCORED}
    seconds = time.perf_counter() - since + sum(seconds_of(setup.workdir, phase) for phase in phases)
    steps = c.epochs * schedule.steps_per_epoch(len(setup.labelled), c, "transfer")
    return TransferResult(found, seconds, len(rates) * steps * c.batch_size, chosen | {"tried": tried})


def finetune_once(
    setup: Setup,
    phase: str,
    learning_rate: float,
    variables: Tree,
    probabilities: Callable[[dict[str, Tree], str], np.ndarray],
) -> dict[str, Tree]:
    """The network of the epoch that was best on validation, trained with this learning rate."""
    c, classes = setup.config.transfer.copy_and_resolve_references(), len(setup.source.classes)
    c.optimizer.learning_rate = float(learning_rate)
    best_folder = setup.workdir / "checkpoints" / f"{phase}_best"

    def objective_of(epoch: int) -> Objective:
        return preparation.make_classifier(setup.config, setup.encoder, classes, frozen=epoch < c.freeze_epochs)

    def measure(epoch: int, state: TrainState) -> dict[str, Any]:
        since = time.perf_counter()
        network = {"params": state.params, "model_state": state.model_state}
        score = scores.selection_score(probabilities(network, "validation"), labels_of(setup, "validation"), c.select)
        if epoch and score > best_validation(setup.workdir, phase):
            checkpoint.save(best_folder, epoch, network, keep=1)
        return {"validation": score, "validation_seconds": round(time.perf_counter() - since, 4)}

    state = fit(setup, phase, c, setup.labelled, variables, objective_of, measure, c.freeze_epochs)
    network = {"params": state.params, "model_state": state.model_state}
    # Where validation could not tell one epoch from another, the last one stands.
    if best_validation(setup.workdir, phase) > -math.inf:
        found = checkpoint.restore(best_folder, network)
        if found is None:
            raise UserError(f"{best_folder} is damaged: delete it and {best_folder.with_name(phase)} to train it again")
        network = found[1]
    return network


def best_validation(workdir: Path, phase: str) -> float:
    """The best validation score of the epochs that metrics.jsonl holds; -inf where there is none."""

    def best() -> float:
        found = [row.get("validation") for row in metrics.read(workdir, phase) if row["step"]]
        return max((score for score in found if score is not None), default=-math.inf)

    return distributed.from_main(best)


def seconds_of(workdir: Path, phase: str) -> float:
    """What its training steps and its looks at validation took, in all of its starts."""

    def seconds() -> float:
        rows = metrics.read(workdir, phase)
        return sum(row.get("seconds", 0.0) + row.get("validation_seconds", 0.0) for row in rows)

    return distributed.from_main(seconds)


# Results.


def write_evaluation(setup: Setup, name: str, protocol: str, init: str, found: TransferResult) -> None:
    """Scores test probabilities and writes evaluations/<name>.csv, then .json, which says that both are whole."""
    source, rows, c = setup.source, setup.splits["test"], setup.config
    validation, probabilities = (found.probabilities[split].astype(np.float64) for split in SCORED)
    scored = calibrate(setup, validation, probabilities)
    evaluation = {
        "name": name,
        "protocol": protocol,
        "init": init,
        "label_fraction": label_fraction(setup),
        "fold": c.data.fold if c.data.folds else None,
        "seed": c.seed,
        "split": "test",
        **found.chosen,
        "compute": {"seconds": round(found.seconds, 2), "images": found.images},
        **scored,
    }
    lines = io.StringIO()
    table = csv.writer(lines, lineterminator="\n")
    for row, p in zip(rows, probabilities, strict=True):
        label, predicted = source.classes[source.labels[row]], source.classes[p.argmax()]
        table.writerow([name, source.ids[row], source.groups[row], label, predicted, *map(repr, p.tolist())])
    folder = setup.workdir / "evaluations"
    files.write_text(folder / f"{name}.csv", lines.getvalue())
    files.write_json(folder / f"{name}.json", evaluation)


def remove_unchosen(workdir: Path, chosen: dict[str, Any]) -> None:
    """Takes away the checkpoints of learning rates that were tried in vain: a network of each is no one's need."""
    for tried in chosen.get("tried", []):
        if tried["phase"] != chosen["phase"]:
            for phase in (tried["phase"], f"{tried['phase']}_best"):
                shutil.rmtree(workdir / "checkpoints" / phase, ignore_errors=True)


def calibrate(setup: Setup, validation: np.ndarray, test: np.ndarray) -> dict[str, Any]:
    """What results.json says of test probabilities, with temperature and thresholds from those of validation."""
    source, c, rows = setup.source, setup.config, setup.splits["test"]
    known, labels, groups = labels_of(setup, "validation"), source.labels[rows], source.groups[rows]
    found = calibration.fit_temperature(validation, known)
    calibrated = None if found is None else calibration.apply_temperature(test, found)
    scored = scores.evaluate(test, labels, groups, seed=c.seed, calibrated=calibrated)
    scored["metrics"].setdefault("ece_calibrated", dict.fromkeys(("value", "low", "high")))
    points = []
    for k in [1] if len(source.classes) == 2 else range(len(source.classes)):
        chosen = calibration.threshold_at_specificity(validation[:, k], known == k, c.transfer.specificity)
        point = calibration.operating_point(chosen, test[:, k], labels == k, groups, seed=c.seed)
        wanted = {"specificity_wanted": c.transfer.specificity, "class": source.classes[k], "threshold": chosen}
        points.append(wanted | point)
    bins = calibration.reliability_bins(test, labels)
    return scored | {"temperature": found, "reliability": bins, "operating_point": points}


def label_fraction(setup: Setup) -> float:
    """The share of the labels that transfer may use; of the images, where so many of each class were asked for."""
    if not setup.config.data.labels_per_class:
        return setup.config.data.label_fraction
    return len(setup.labelled) / int((setup.source.labels[setup.splits["train"]] != UNLABELLED).sum())


def write_results(setup: Setup, evaluations: list[dict[str, Any]]) -> dict[str, Any]:
    """predictions.csv and, last of all, results.json."""
    lines = io.StringIO()
    columns = ["evaluation", "image_id", "group", "label", "predicted", *(f"p_{name}" for name in setup.source.classes)]
    csv.writer(lines, lineterminator="\n").writerow(columns)
    for evaluation in evaluations:
        lines.write((setup.workdir / "evaluations" / f"{evaluation['name']}.csv").read_text())
    files.write_text(setup.workdir / "predictions.csv", lines.getvalue())
    results = {
        "dataset": preparation.describe_dataset(setup),
        "pretrain": summarise_pretraining(setup) if setup.config.pretrain.epochs else None,
        "evaluations": evaluations,
    }
    files.write_json(setup.workdir / "results.json", results)
    return results
