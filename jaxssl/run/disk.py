"""Disk space that the checkpoints of a run take, estimated before it starts."""

import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxssl.config import schedule
from jaxssl.models.shapes import shapes_of
from jaxssl.objectives import Objective, segmentation
from jaxssl.run.plan import list_trainings
from jaxssl.run.segmentation import make_decoder
from jaxssl.run.setup import Setup
from jaxssl.training import optimizers
from jaxssl.training.memory import format_bytes

Tree = Any
log = logging.getLogger(__name__)


def estimate_bytes(setup: Setup) -> tuple[int, int]:
    """Return the bytes that the checkpoints take at most during the run, and at its end."""
    c = setup.config
    encoder = _count(shapes_of(setup.encoder, c.data.image_size, setup.source.channels))
    trainings = list_trainings(setup)
    end = encoder if "pretrain" in trainings else 0
    largest = 0
    for name in trainings:
        if name == "pretrain" and setup.objective:
            network, optimizer = _measure(setup, setup.objective, "pretrain")
        elif name.startswith("segment"):
            protocol = "segment_linear" if name.startswith("segment_linear_") else "segment"
            objective = segmentation.make(setup.encoder, make_decoder(setup, protocol))
            network, optimizer = _measure(setup, objective, "transfer")
            end += network  # The best epoch.
        else:  # A head is small.
            network, optimizer = encoder, _count_optimizer(setup, "transfer", shapes_of_params(setup))
            end += encoder  # The best epoch.
        kept = c.checkpoints.keep * (network + optimizer) if c.checkpoints.optimizer_state else network
        # While one is written, those that are kept are there.
        largest = max(largest, (c.checkpoints.keep + 1) * (network + optimizer) - kept)
        end += kept
    return end + largest, end


def shapes_of_params(setup: Setup) -> Tree:
    """Return the shapes of the parameters of the encoder."""
    return shapes_of(setup.encoder, setup.config.data.image_size, setup.source.channels)["params"]


def _measure(setup: Setup, objective: Objective, phase: str) -> tuple[int, int]:
    """Return the bytes of the networks of a phase, and those of its optimizer."""
    size, channels = setup.config.data.image_size, setup.source.channels
    view = jax.ShapeDtypeStruct((2, size, size, channels), jnp.float32)
    batch = {"views": (view,) * objective.views, "label": jax.ShapeDtypeStruct((2,), jnp.int32)}
    batch["mask"] = jax.ShapeDtypeStruct((2, size, size), jnp.uint8)
    params, model_state, target = jax.eval_shape(objective.init, jax.random.key(0), batch)
    target = {} if objective.constant_target else target
    return _count((params, model_state, target)), _count_optimizer(setup, phase, params)


def _count_optimizer(setup: Setup, phase: str, params: Tree) -> int:
    c = setup.config[phase]
    tx = optimizers.make(**schedule.optimizer_options(c.optimizer, c.epochs, 1, c.batch_size))
    return _count(jax.eval_shape(tx.init, params))


def _count(tree: Tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def describe(setup: Setup) -> str:
    """Return "disk: up to 3.1 GiB of checkpoints, 0.9 GiB at the end"; a warning is logged if that does not fit."""
    most, end = estimate_bytes(setup)
    existing = next(folder for folder in (setup.workdir, *setup.workdir.absolute().parents) if folder.exists())
    warn_if_too_little(setup.workdir, most, shutil.disk_usage(existing).free)
    return f"disk: up to {format_bytes(most)} of checkpoints, {format_bytes(end)} at the end"


def warn_if_too_little(workdir: Path, needed: int, free: int) -> None:
    """Log a warning if there is too little space."""
    if needed > free:
        log.warning(
            "%s: checkpoints take up to %s, and %s are free: make room, or set checkpoints.keep=1",
            *(workdir, format_bytes(needed), format_bytes(free)),
        )
