"""One training phase: from its last checkpoint, or from the encoder that it is given, to its last epoch."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from jaxssl.augment import views
from jaxssl.config import schedule
from jaxssl.data import pipeline
from jaxssl.objectives import Objective
from jaxssl.run.encoders import named_key, with_encoder
from jaxssl.run.setup import Setup
from jaxssl.run.workdir import config_to_json
from jaxssl.training import checkpoint, loop, metrics, optimizers, sharding
from jaxssl.training.step import Augment, Step, TrainState, init_state, jit_step, without_target

Tree = Any
Measure = Callable[[int, TrainState], dict[str, Any]]


class Phase(NamedTuple):
    """What is trained, on what, and how long.

    Attributes:
      name: its name in metrics.jsonl and below checkpoints/.
      config: `config.pretrain` or `config.transfer`.
      rows: the images to train on.
      objective_at: epoch -> objective; it may change with the epoch, the structure of its trees may not.
      measure: (epochs done, state) -> what metrics.jsonl gets before the first epoch and after each.
      freeze_epochs: number of epochs in which the encoder does not change.
    """

    name: str
    config: ConfigDict
    rows: np.ndarray
    objective_at: Callable[[int], Objective]
    measure: Measure
    freeze_epochs: int = 0


def train_phase(setup: Setup, phase: Phase, variables: Tree) -> TrainState:
    """Train a phase and return its last state.

    It resumes from its last checkpoint, or else begins with these variables of the encoder.
    """
    c, objective = phase.config, phase.objective_at(0)
    steps = schedule.steps_per_epoch(len(phase.rows), c, phase.name)
    tx = optimizers.make(
        **schedule.optimizer_options(c.optimizer, c.epochs, steps, c.batch_size),
        frozen_steps=phase.freeze_epochs * steps,
    )
    view = views.make(setup.pixels, size=setup.config.data.image_size, views=objective.views, **c.augment)
    folder = setup.workdir / "checkpoints" / phase.name
    start, state, shapes = load_state(setup, phase, objective, view, tx, variables, folder)

    @functools.cache
    def jitted_step(frozen: bool) -> Step:
        objective = phase.objective_at(0 if frozen else phase.freeze_epochs)
        return jit_step(setup.mesh, shapes, objective, view, tx, c.gradient_accumulation)

    first_loss = expected_first_loss(objective, c)
    with metrics.Writer(
        setup.workdir,
        phase.name,
        start,
        c.epochs,
        steps,
        c.batch_size,
        c.log_every,
        first_loss,
        config_to_json(setup.config),
    ) as writer:
        if start == 0:
            writer.row(0, 0, phase.measure(0, state))
        for epoch, trained in loop.train_epochs(
            state,
            lambda epoch: jitted_step(epoch < phase.freeze_epochs),
            lambda epoch, skip: read_batches(setup, phase, steps, epoch, skip),
            epochs=c.epochs,
            steps_per_epoch=steps,
            writer=writer,
            checkpoints=folder,
            save_every=c.save_every,
            keep_target=not objective.constant_target,
        ):
            writer.row(epoch * steps, epoch, phase.measure(epoch, trained))
            state = trained
    return state


def load_state(
    setup: Setup,
    phase: Phase,
    objective: Objective,
    view: Augment,
    tx: optax.GradientTransformation,
    variables: Tree,
    folder: Path,
) -> tuple[int, TrainState, TrainState]:
    """Return the step at which to begin, the state there, restored or new, and its shapes."""
    key = named_key(setup, phase.name.split("_")[0])
    sample = pipeline.gather(setup.source, phase.rows[: setup.mesh.size])

    def init(key: jax.Array, batch: dict, variables: Tree) -> TrainState:
        return with_encoder(init_state(key, batch, objective, view, tx), variables)

    shapes = jax.eval_shape(init, key, sample, variables)
    shardings = sharding.state_shardings(setup.mesh, shapes)
    like = jax.tree.map(lambda s, place: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place), shapes, shardings)
    constant_target = objective.constant_target
    start, state = checkpoint.restore(folder, without_target(like) if constant_target else like) or (0, None)
    if state is None or constant_target:
        new = jax.jit(init, out_shardings=shardings)(key, sample, variables)
        state = new if state is None else state._replace(target=new.target)
    return start, state, shapes


def read_batches(setup: Setup, phase: Phase, steps: int, epoch: int, skip: int) -> Iterator[dict]:
    """Yield the batches of an epoch on the devices, after the first `skip`."""
    return pipeline.training(
        setup.source,
        phase.rows,
        batch_size=phase.config.batch_size,
        steps=steps,
        seed=setup.config.seed,
        epoch=epoch,
        skip=skip,
        sharding=sharding.batch_sharding(setup.mesh),
        workers=setup.config.data.workers,
    )


def expected_first_loss(objective: Objective, c: ConfigDict) -> float | None:
    """Return the loss that theory expects of an untrained network on one part of a batch; None if unknown."""
    return objective.first_loss(c.batch_size // c.gradient_accumulation) if objective.first_loss else None
