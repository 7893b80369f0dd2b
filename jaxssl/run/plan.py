"""The plan of a run: batches that fit the images, the trainings in their order, and both in words."""

import logging
from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

from jaxssl.config import schedule
from jaxssl.data.source import Source
from jaxssl.results.words import SEGMENTATION_PROTOCOLS, TRAINED_PROTOCOLS
from jaxssl.run.setup import Setup, init_names

log = logging.getLogger(__name__)


def fit_batches(
    config: ConfigDict, images: Mapping[schedule.Phase, int], devices: int
) -> tuple[ConfigDict, dict[str, int]]:
    """Reduce batches that are larger than the images at hand.

    A batch of the transfer may repeat images if `min_steps_per_epoch` is set. One of the pretraining may not: two views
    of one image would count as different images.

    Args:
      config: the config; it is not changed.
      images: number of training images of each phase that trains a network.
      devices: number of devices that share a batch; batches stay divisible by it.

    Returns:
      The config with batches that fit, and {field: requested value} of those that were reduced.
    """
    fitted, requested = config.copy_and_resolve_references(), {}
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
    """Return "pretrain (1 of 4)"."""
    phases = list_trainings(setup)
    return f"{phase} ({phases.index(phase) + 1} of {len(phases)})" if phase in phases else phase


def count_transferred(source: Source, labelled: np.ndarray, config: ConfigDict) -> int:
    """Return the smallest number of images that a protocol trains on; 0 where none can."""
    asked, counts = {*config.transfer.protocols}, []
    if source.classes and "finetune" in asked:
        counts.append(len(labelled))
    if source.masked is not None and not asked.isdisjoint(SEGMENTATION_PROTOCOLS):
        counts.append(int(source.masked[labelled].sum()))
    return min(counts, default=0)


def describe(setup: Setup) -> str:
    """Return what the run is going to do, in a few lines."""
    c, splits, source = setup.config, setup.splits, setup.source
    sizes = ", ".join(f"{len(rows):,} {name}" for name, rows in splits.items())
    classes = f"{len(source.classes)} classes" if source.classes else "no labels"
    if source.masked is not None:
        classes += f", {source.masked.sum():,} with masks of {len(source.mask_classes) - 1} classes"
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
    return "\n".join([*lines, f"trainings: {len(trainings)}"])


def _amount(c: ConfigDict, images: int, phase: str) -> str:
    steps = c.epochs * schedule.steps_per_epoch(images, c, phase)
    return f"{steps:,} steps of {c.batch_size} images"
