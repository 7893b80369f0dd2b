"""One training phase: from its last checkpoint, or from the encoder that it is given, to its last epoch."""

import contextlib
import functools
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from jaxssl.augment import views
from jaxssl.config import schedule
from jaxssl.config.stored import config_to_json
from jaxssl.data import pipeline
from jaxssl.errors import UserError
from jaxssl.objectives import Objective, with_average
from jaxssl.run.encoders import named_key, with_encoder
from jaxssl.run.plan import count_other_steps, number_of
from jaxssl.run.setup import Setup
from jaxssl.training import checkpoint, distributed, loop, lora, memory, metrics, optimizers, sharding
from jaxssl.training.step import Augment, Step, Storage, TrainState, init_state, jit_step

Tree = Any
log = logging.getLogger(__name__)
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
      masks: whether batches hold masks.
      stop: epochs done, from 1 -> whether training ends there, before the last epoch; it follows from metrics.jsonl.
    """

    name: str
    config: ConfigDict
    rows: np.ndarray
    objective_at: Callable[[int], Objective]
    measure: Measure
    freeze_epochs: int = 0
    masks: bool = False
    stop: Callable[[int], bool] = lambda epoch: False


def adapted_objective(phase: Phase, epoch: int) -> Objective:
    """Return the objective of an epoch with what the config of the phase adds: the average of the weights, LoRA."""
    c, objective = phase.config, phase.objective_at(epoch)
    if c.get("ema"):
        objective = with_average(objective, c.ema)
    return lora.adapt(objective, lora_rank(phase), c.lora.alpha, tuple(c.lora.on))


def lora_rank(phase: Phase) -> int:
    """Return the rank of LoRA; 0 if the encoder is frozen in all epochs."""
    return phase.config.lora.rank if phase.freeze_epochs < phase.config.epochs else 0


def evaluated_state(phase: Phase, state: TrainState) -> TrainState:
    """Return a state with the weights that are evaluated and kept: averaged over the steps, with LoRA merged."""
    if phase.config.get("ema"):
        return state._replace(params=state.target)
    return state._replace(params=lora.merge(state.params, phase.config.lora.alpha))


def train_phase(setup: Setup, phase: Phase, variables: Tree) -> TrainState:
    """Train a phase and return its last state, see `evaluated_state`.

    It resumes from its last checkpoint, or else begins with these variables of the encoder.
    """
    c, objective = phase.config, adapted_objective(phase, 0)
    steps = schedule.steps_per_epoch(len(phase.rows), c, phase.name)
    tx = optimizers.make(
        **schedule.optimizer_options(c.optimizer, c.epochs, steps, c.batch_size),
        frozen_steps=phase.freeze_epochs * steps,
        lora=lora_rank(phase) > 0,
        rates=objective.rates,
    )
    view = views.make(setup.pixels, size=setup.config.data.image_size, views=objective.views, **c.augment)
    folder = setup.workdir / "checkpoints" / phase.name
    distributed.from_main(lambda: remove_without_rows(setup, phase, steps))
    c_storage = setup.config.checkpoints
    storage = Storage(c_storage.keep, not objective.constant_target, c_storage.optimizer_state)

    def finished(step: int) -> bool:
        return step == steps * c.epochs or (step % steps == 0 and phase.stop(step // steps))

    start, state, shapes = load_state(setup, phase, objective, view, tx, variables, folder, finished, storage)
    if "lora" in shapes.params and distributed.is_main():
        metrics.console.print(f"{phase.name}: {lora.describe(shapes.params)}")

    @functools.cache
    def jitted_step(frozen: bool) -> Step:
        objective = adapted_objective(phase, 0 if frozen else phase.freeze_epochs)
        return jit_step(setup.mesh, shapes, objective, view, tx, c.gradient_accumulation)

    writer = metrics.Writer(
        setup.workdir,
        phase.name,
        start,
        c.epochs,
        steps,
        c.batch_size,
        c.log_every,
        expected_first_loss(objective, c, untrained=setup.weights is None),
        config_to_json(setup.config),
        number_of(setup, phase.name),
        count_other_steps(setup, phase.name),
    )
    with memory_errors(setup, phase, lambda: jitted_step(False), shapes), writer:
        if start == 0:
            writer.row(0, 0, phase.measure(0, evaluated_state(phase, state)))
        for epoch, trained in loop.train_epochs(
            state,
            lambda epoch: jitted_step(epoch < phase.freeze_epochs),
            lambda epoch, skip: read_batches(setup, phase, steps, epoch, skip),
            finished=finished,
            steps_per_epoch=steps,
            writer=writer,
            checkpoints=folder,
            save_every=c.save_every,
            storage=storage,
        ):
            writer.row(epoch * steps, epoch, phase.measure(epoch, evaluated_state(phase, trained)))
            state = trained
    return evaluated_state(phase, state)


def load_state(
    setup: Setup,
    phase: Phase,
    objective: Objective,
    view: Augment,
    tx: optax.GradientTransformation,
    variables: Tree,
    folder: Path,
    finished: Callable[[int], bool],
    storage: Storage,
) -> tuple[int, TrainState, TrainState]:
    """Return the step at which to begin, the state there, restored or new, and its shapes.

    What checkpoints do not hold is that of a new state: a constant target, and the optimizer of a finished phase.
    """
    key = named_key(setup, phase.name.split("_")[0])
    sample = pipeline.gather(setup.source, phase.rows[: setup.mesh.size], phase.masks)

    def init(key: jax.Array, batch: dict, variables: Tree) -> TrainState:
        return with_encoder(init_state(key, batch, objective, view, tx), variables)

    shapes = jax.eval_shape(init, key, sample, variables)
    shardings = sharding.state_shardings(setup.mesh, shapes)
    like = jax.tree.map(lambda s, place: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place), shapes, shardings)
    restored = checkpoint.restore(folder, lambda step: storage.select(like, finished(step)))
    if restored and storage.select(like, finished(restored[0])) is like:
        return *restored, shapes
    new = jax.jit(init, out_shardings=shardings)(key, sample, variables)
    if restored is None:
        return 0, new, shapes
    start, state = restored
    if not storage.target:
        state = state._replace(target=new.target)
    if finished(start) and not storage.optimizer:
        state = state._replace(opt_state=new.opt_state)
    return start, state, shapes


@contextlib.contextmanager
def memory_errors(setup: Setup, phase: Phase, make_step: Callable[[], Any], shapes: TrainState) -> Iterator[None]:
    """Turn an error of too little memory in a phase into a UserError that names the largest batch that fits."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not memory.is_out_of_memory(error):
            raise
        c, part = phase.config, "pretrain" if phase.name == "pretrain" else "transfer"
        shardings = sharding.state_shardings(setup.mesh, shapes)
        state = jax.tree.map(lambda s, place: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place), shapes, shardings)
        sample = pipeline.gather(setup.source, phase.rows[:1], phase.masks)
        place = sharding.batch_sharding(setup.mesh)

        def count_bytes(size: int) -> int | None:
            batch = {k: jax.ShapeDtypeStruct((size, *v.shape[1:]), v.dtype, sharding=place) for k, v in sample.items()}
            try:
                return memory.count_step_bytes(make_step().lower(state, batch).compile())
            except jax.errors.JaxRuntimeError:  # Too little memory to compile it.
                return None

        unit = setup.mesh.size * c.gradient_accumulation
        largest = memory.largest_batch(count_bytes, c.batch_size, unit) if jax.process_count() == 1 else None
        fits = f"; {part}.batch_size={largest} would fit" if largest else ""
        raise UserError(
            f"{phase.name}: out of memory at {part}.batch_size={c.batch_size}{fits}: reduce it, increase "
            f"{part}.gradient_accumulation={c.gradient_accumulation}, which keeps the batch and saves memory, or set "
            "model.dtype=bfloat16",
            code="out-of-memory",
            field=f"{part}.batch_size",
        ) from error


def remove_without_rows(setup: Setup, phase: Phase, steps_per_epoch: int) -> None:
    """Delete the checkpoints of a phase if metrics.jsonl lacks rows of it: it is trained again, with the same result.

    Which epoch is best on validation, and how long training took, is known from these rows alone.
    """
    folder = setup.workdir / "checkpoints" / phase.name
    newest = next(iter(checkpoint.list_steps(folder)), 0)
    if newest and not metrics.is_complete(setup.workdir, phase.name, newest, steps_per_epoch, phase.config.log_every):
        log.warning("metrics.jsonl lacks rows of %s: it is trained again from its start", phase.name)
        for path in (folder, folder.with_name(f"{phase.name}_best")):
            shutil.rmtree(path, ignore_errors=True)


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
        masks=phase.masks,
        balanced=phase.config.get("sampling") == "balanced",
    )


def expected_first_loss(objective: Objective, c: ConfigDict, untrained: bool = True) -> float | None:
    """Return the loss that theory expects of an untrained network on one part of a batch; None if unknown.

    Unknown, too, where the partner of a view is to be found among others, and two views are nearly the same image or
    the weights are trained already: it is found then from the start.
    """
    contrastive = objective.min_images > 1
    if objective.first_loss is None or (contrastive and not (untrained and views.change_content(c.augment))):
        return None
    return objective.first_loss(c.batch_size // c.gradient_accumulation)
