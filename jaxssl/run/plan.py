"""The plan of a run: batches that fit the images, the trainings in their order, and both in words."""

import logging
import math
import os
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxssl import data
from jaxssl.config import schedule
from jaxssl.data.sides import median_side
from jaxssl.data.source import Source
from jaxssl.results.words import SEGMENTATION_PROTOCOLS, TRAINED_PROTOCOLS, describe_phase
from jaxssl.run.encoders import EVALUATION_BATCH, compute_features
from jaxssl.run.setup import Setup, every_nth, init_names
from jaxssl.training.metrics import format_duration

Tree = Any
log = logging.getLogger(__name__)
# A step of training takes about three times as long as the forward pass, two more for the gradients; to compile, too.
PASSES = 3
# With few labels an epoch is a step or two, and as many epochs as for all labels would be too few steps.
FEW_LABELS_STEPS = 200


def fit_batches(
    config: ConfigDict, images: Mapping[schedule.Phase, int], devices: int
) -> tuple[ConfigDict, dict[str, int]]:
    """Reduce batches that are larger than the images at hand.

    With few labels fine-tuning then takes at least `FEW_LABELS_STEPS` steps. A batch of the transfer may repeat images
    if `min_steps_per_epoch` is set. One of the pretraining may not: two views of one image would count as different
    images.

    Args:
      config: the config; it is not changed.
      images: number of training images of each phase that trains a network.
      devices: number of devices that share a batch; batches stay divisible by it.

    Returns:
      The config with batches that fit, and {field: requested value} of those that were reduced.
    """
    fitted, requested = config.copy_and_resolve_references(), {}
    few = config.data.labels_per_class > 0 or config.data.label_fraction < 1
    for phase, count in images.items():
        c = fitted[phase]
        unit = devices * c.gradient_accumulation
        repeats = bool(c.min_steps_per_epoch)
        used = count if repeats else min(count, c.images_per_epoch or count)
        largest = used // unit * unit
        if c.batch_size <= used or not largest or (repeats and phase == "transfer"):
            continue
        log.warning("%s.batch_size=%d is reduced to %d: there are %d images", phase, c.batch_size, largest, used)
        requested[f"{phase}.batch_size"] = c.batch_size
        c.batch_size = largest
        if phase == "transfer" and few and not repeats and c.epochs:
            requested["transfer.min_steps_per_epoch"] = 0
            c.min_steps_per_epoch = max(used // largest, math.ceil(FEW_LABELS_STEPS / c.epochs))
    return fitted, requested


def fit_image_size(config: ConfigDict, smallest: int) -> tuple[ConfigDict, dict[str, int]]:
    """Reduce `data.image_size` to the side of images that are smaller, unless `data.enlarge`.

    Args:
      config: the config; it is not changed.
      smallest: side that the encoder needs.

    Returns:
      The config, and {field: requested value} of what was reduced.
    """
    d = config.data
    side = None if d.enlarge or d.name not in data.OWN else median_side(d.dir)
    if side is None or max(side, smallest) >= d.image_size:
        return config, {}
    fitted, requested = config.copy_and_resolve_references(), {"data.image_size": d.image_size}
    fitted.data.image_size = max(side, smallest)
    if d.stored_size:
        requested["data.stored_size"], fitted.data.stored_size = d.stored_size, fitted.data.image_size
    log.warning(
        "data.image_size=%d is reduced to %d: the images have %d pixels", d.image_size, fitted.data.image_size, side
    )
    return fitted, requested


def list_trainings(setup: Setup) -> list[str]:
    """Return the names of all training phases of a run, in their order."""
    c, names = setup.config, init_names(setup.config, bool(setup.objective and setup.objective.supervised))
    phases = ["pretrain"] if c.pretrain.epochs else []
    trained = [protocol for protocol in list_protocols(setup) if protocol in TRAINED_PROTOCOLS]
    inits = [init for init in names if init in (c.transfer.inits or names)]
    rates = len(c.transfer.learning_rates)
    endings = [f"_{i}" for i in range(1, rates + 1)] if rates > 1 else [""]
    return phases + [f"{protocol}_{init}{end}" for init in inits for protocol in trained for end in endings]


def list_protocols(setup: Setup) -> list[str]:
    """Return the protocols of a run: those of segmentation, and where images have labels the others."""
    protocols = setup.config.transfer.protocols
    return [name for name in protocols if name in SEGMENTATION_PROTOCOLS or setup.source.classes]


def number_of(setup: Setup, phase: str) -> str:
    """Return "pretraining (1 of 4)"."""
    phases, name = list_trainings(setup), describe_phase(phase)
    return f"{name} ({phases.index(phase) + 1} of {len(phases)})" if phase in phases else name


def count_transferred(source: Source, labelled: np.ndarray, config: ConfigDict) -> int:
    """Return the smallest number of images that a protocol trains on; 0 where none can."""
    asked, counts = {*config.transfer.protocols}, []
    if source.classes and not asked.isdisjoint(("finetune", "attentive")):
        counts.append(len(labelled))
    if source.masked is not None and not asked.isdisjoint(SEGMENTATION_PROTOCOLS):
        counts.append(int(source.masked[labelled].sum()))
    return min(counts, default=0)


def count_passes(setup: Setup, training: str) -> tuple[int, int]:
    """Return the steps of a training, and how many images pass forward through the encoder in the time of a step."""
    if training == "pretrain":
        c, images = setup.config.pretrain, len(setup.pretraining_rows)
        views = setup.objective.views if setup.objective else 1
    else:
        c, images, views = setup.config.transfer, count_transferred(setup.source, setup.labelled, setup.config), 1
    steps = c.epochs * schedule.steps_per_epoch(images, c, training)
    return steps, PASSES * views * c.batch_size


def count_other_steps(setup: Setup, training: str) -> tuple[float, float]:
    """Return the work of all trainings before this one, and of those after it, in steps of this one."""
    trainings = list_trainings(setup)
    if training not in trainings:
        return 0.0, 0.0
    work, at = [math.prod(count_passes(setup, name)) for name in trainings], trainings.index(training)
    images = count_passes(setup, training)[1]
    return sum(work[:at]) / images, sum(work[at + 1 :]) / images


def estimate_seconds(setup: Setup, variables: Tree) -> float:
    """Return about how long all trainings take, from the time in which the encoder evaluates a batch of the images."""
    rows = every_nth(setup.splits["train"], EVALUATION_BATCH)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        compute_features(setup, variables, rows)
        seconds.append(time.perf_counter() - start)
    trainings = list_trainings(setup)
    passes = sum(math.prod(count_passes(setup, name)) for name in trainings)
    # Pretraining is one program, and all other trainings, nearly, are one.
    compiling = PASSES * (seconds[0] - seconds[1]) * len({name == "pretrain" for name in trainings})
    # The batch is padded to its full size.
    return max(0.0, compiling) + seconds[1] / EVALUATION_BATCH * passes


def describe(setup: Setup, seconds: float | None = None) -> str:
    """Return what the run is going to do, in a few lines.

    Args:
      setup: of the run.
      seconds: from `estimate_seconds`.
    """
    c, splits, source = setup.config, setup.splits, setup.source
    sizes = ", ".join(f"{len(rows):,} {name}" for name, rows in splits.items())
    kinds = {"multi": f"{len(source.classes)} labels", "value": f"values of {' '.join(source.classes)}"}
    classes = kinds.get(source.task, f"{len(source.classes)} classes") if source.classes else "no labels"
    if source.masked is not None:
        classes += f", {source.masked.sum():,} with masks ({', '.join(source.mask_classes[1:])})"
    side, channels = c.data.image_size, source.channels
    kind = "1 channel" if channels == 1 else f"{channels} channels"
    lines = [f"images: {sizes}; {classes}; {side} x {side} pixels, {kind}"]
    if len(setup.labelled) < len(splits["train"]) and list_protocols(setup):
        lines.append(f"labels: those of {len(setup.labelled):,} training images")
    if c.pretrain.epochs:
        amount = _amount(c.pretrain, len(setup.pretraining_rows), "pretrain")
        lines.append(f"pretraining: {c.pretrain.objective}, {amount}")
    trainings = list_trainings(setup)
    finetunings = [name for name in trainings if name != "pretrain"]
    if finetunings:
        amount = _amount(c.transfer, count_transferred(source, setup.labelled, c), "transfer")
        lines.append(f"fine-tuning: {len(finetunings)} networks, {amount} each")
    about = f", about {format_duration(seconds)} on {describe_devices()}" if seconds is not None and trainings else ""
    return "\n".join([*lines, f"trainings: {len(trainings)}{about}"])


def describe_devices() -> str:
    """Return "2 CPU cores", or "4 x NVIDIA H200"."""
    devices = jax.devices()
    if devices[0].platform == "cpu":
        return f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} CPU cores"
    return f"{len(devices)} x {devices[0].device_kind}"


def _amount(c: ConfigDict, images: int, phase: str) -> str:
    steps = c.epochs * schedule.steps_per_epoch(images, c, phase)
    return f"{steps:,} steps of {c.batch_size} images"
