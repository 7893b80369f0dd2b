"""The one training loop: pretraining, fine-tuning and training from scratch are this with another objective."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxssl.errors import PreemptedError
from jaxssl.objectives import Objective
from jaxssl.training import checkpoint, distributed, runtime, sharding
from jaxssl.training.metrics import Writer

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # Slurm and the clouds send these before they take a machine away.
TOGETHER = 1.0  # Seconds in which two signals are one: Slurm sends SIGTERM twice where it preempts without grace.

Tree = Any
Augment = Callable[[jax.Array, dict], dict]


class TrainState(NamedTuple):
    """All that a run needs to go on; `key` never changes, step k draws from `fold_in(key, k)`."""

    step: jax.Array
    params: Tree
    model_state: Tree
    target: Tree
    opt_state: Tree
    key: jax.Array


def init_state(
    key: jax.Array, batch: dict, objective: Objective, augment: Augment, tx: optax.GradientTransformation
) -> TrainState:
    """A fresh state; trace it with `jax.eval_shape` to learn its shapes."""
    init_key, augment_key, run_key = jax.random.split(key, 3)
    params, model_state, target = objective.init(init_key, augment(augment_key, batch))
    return TrainState(jnp.zeros((), jnp.int32), params, model_state, target, tx.init(params), run_key)


def without_target(state: TrainState) -> TrainState:
    return state._replace(target={})


def train_step(
    state: TrainState,
    batch: dict,
    objective: Objective,
    augment: Augment,
    tx: optax.GradientTransformation,
    parts: int = 1,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update, and its metrics: scalars, among them "loss" and "gradient_norm".

    With `parts` > 1 the batch passes in so many parts, one after the other, whose gradients are averaged: less memory;
    batch statistics, and negatives where there are any, are those of a part.
    """

    def gradients(model_state: Tree, batch: dict, key: jax.Array) -> tuple[Tree, Tree, dict]:
        augment_key, loss_key = jax.random.split(key)
        batch = augment(augment_key, batch)
        value_and_grad = jax.value_and_grad(objective.loss, has_aux=True)
        (loss, (model_state, metrics)), grads = value_and_grad(state.params, model_state, state.target, batch, loss_key)
        return grads, model_state, {k: v for k, v in ({"loss": loss} | metrics).items() if v.ndim == 0}

    key = jax.random.fold_in(state.key, state.step)
    if parts == 1:
        grads, model_state, metrics = gradients(state.model_state, batch, key)
    else:
        split = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)

        def accumulate(carry: tuple, part: tuple) -> tuple[tuple, None]:
            model_state, total = carry
            grads, model_state, metrics = gradients(model_state, *part)
            return (model_state, jax.tree.map(lambda a, b: a + b / parts, total, (grads, metrics))), None

        shapes = jax.eval_shape(gradients, state.model_state, jax.tree.map(lambda x: x[0], split), key)
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (shapes[0], shapes[2]))
        carry = state.model_state, zeros
        (model_state, (grads, metrics)), _ = jax.lax.scan(accumulate, carry, (split, jax.random.split(key, parts)))
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    target = objective.advance(state.target, params, state.step)
    metrics |= {"gradient_norm": optax.tree.norm(grads)}
    return TrainState(state.step + 1, params, model_state, target, opt_state, state.key), metrics


def jit_step(mesh: Mesh, shapes: TrainState, *args: Any) -> Callable[[TrainState, dict], tuple[TrainState, dict]]:
    """`train_step` of these further arguments, compiled for the mesh; the state that goes in is used up."""

    def step(state: TrainState, batch: dict) -> tuple[TrainState, dict]:
        return train_step(state, batch, *args)

    return jax.jit(step, donate_argnums=0, out_shardings=(sharding.of_state(mesh, shapes), sharding.replicated(mesh)))


def compile_ahead(step: Callable[[TrainState, dict], tuple], state: TrainState, batch: dict) -> None:
    """Compiles a jitted step, so that what the compiler took is given back before the step takes its own memory."""
    runtime.trim_heap()
    step.lower(state, batch).compile()
    runtime.trim_heap()


def epochs(
    state: TrainState,
    step_of: Callable[[int], Callable[[TrainState, dict], tuple[TrainState, dict]]],
    batches: Callable[[int, int], Iterator[dict]],
    *,
    epochs: int,
    steps_per_epoch: int,
    writer: Writer,
    checkpoints: Path,
    save_every: int = 0,
    keep_target: bool = True,
) -> Iterator[tuple[int, TrainState]]:
    """Trains from wherever `state` is; yields (epochs done, state) after each epoch, and saves it after the yield.

    The metrics of a step are fetched once the next one is under way, so the device never waits for the host, and all
    are known to be finite before anything is saved.

    Args:
      state: fresh or restored, also in the middle of an epoch.
      step_of: epoch -> its compiled step.
      batches: (epoch, batches to skip) -> the device's batches of that epoch; the same each time.
      epochs: in all.
      steps_per_epoch: batches in one.
      writer: takes the metrics; raises `TrainingFailedError` where they are not finite.
      checkpoints: folder for the states.
      save_every: steps between two checkpoints within an epoch; 0 for none.
      keep_target: whether checkpoints hold the target.

    Raises:
      PreemptedError: after SIGTERM or SIGUSR1, once the state is saved.
    """

    def save() -> None:
        checkpoint.save(checkpoints, step, state if keep_target else without_target(state))

    step, compiled = int(state.step), None
    writer.resume()
    with Preemption() as preemption:
        while step < epochs * steps_per_epoch:
            epoch = step // steps_per_epoch
            train = step_of(epoch)
            for batch in batches(epoch, step % steps_per_epoch):
                if train is not compiled:
                    compile_ahead(train, state, batch)
                    compiled = train
                state, metrics = train(state, batch)
                step += 1
                writer.step(step, metrics)
                ended = step % steps_per_epoch == 0
                preempted = preemption.agreed()
                if not ended and (preempted or (save_every and step % save_every == 0)):
                    writer.flush()
                    save()
                    if preempted:
                        raise PreemptedError(f"saved at step {step}; the same command goes on from there")
            writer.flush()
            yield epoch + 1, state
            save()
            writer.resume()
            if preemption.agreed():
                raise PreemptedError(f"saved after epoch {epoch + 1}; the same command goes on from there")


class Preemption:
    """While it is entered, SIGTERM and SIGUSR1 are noted instead of ending the process; a later one ends it."""

    def __enter__(self) -> "Preemption":
        self.seen, self.asked, self.since = False, None, 0.0
        self.before = {s: signal.signal(s, self.note) for s in SIGNALS}
        return self

    def agreed(self) -> bool:
        """Whether a signal came, to any process; asked by all of them after the same steps, it says the same to all.

        With several of them it tells what was known when it was asked before: none waits for the devices because of it.
        """
        if jax.process_count() == 1:
            return self.seen
        before, self.asked = self.asked, distributed.any_of_all(self.seen)
        return before is not None and bool(before)

    def note(self, number: int, frame: Any) -> None:
        if not self.seen:
            self.seen, self.since = True, time.monotonic()
        elif time.monotonic() - self.since > TOGETHER:
            # An exception could wait for a lock of whatever it interrupts; every file is whole at any moment.
            distributed.end(PreemptedError.exit_code)
            os._exit(PreemptedError.exit_code)

    def __exit__(self, *error: Any) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if self.seen and error[0] is None:
            # It came after the last question, and is for whoever answers signals now.
            signal.raise_signal(signal.SIGTERM)
