"""One training step: augment, loss and gradient, optimizer update, target update, as a jitted pure function."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxssl.objectives import Objective
from jaxssl.training import memory, runtime, sharding

Tree = Any
Augment = Callable[[jax.Array, dict], dict]


class TrainState(NamedTuple):
    """Everything that is needed to resume. `key` never changes: step k draws from `fold_in(key, k)`."""

    step: jax.Array  # int32 scalar
    params: Tree
    model_state: Tree
    target: Tree
    opt_state: Tree
    key: jax.Array


Step = Callable[[TrainState, dict], tuple[TrainState, dict[str, jax.Array]]]


def init_state(
    key: jax.Array, batch: dict, objective: Objective, augment: Augment, tx: optax.GradientTransformation
) -> TrainState:
    """Return the state before the first step; trace it with `jax.eval_shape` to get the shapes alone."""
    init_key, augment_key, run_key = jax.random.split(key, 3)
    params, model_state, target = objective.init(init_key, augment(augment_key, batch))
    return TrainState(jnp.zeros((), jnp.int32), params, model_state, target, tx.init(params), run_key)


class Storage(NamedTuple):
    """What checkpoints of a phase hold.

    Attributes:
      keep: how many of them are kept while it runs.
      target: whether they hold the target network; a constant one can be made again.
      optimizer: whether the last one, of the finished phase, holds the state of the optimizer. If not, it is the only
        one that is kept then.
    """

    keep: int = 2
    target: bool = True
    optimizer: bool = False

    def select(self, state: TrainState, finished: bool) -> TrainState:
        """Return the part of a state that is stored."""
        if not self.target:
            state = state._replace(target={})
        return state._replace(opt_state={}) if finished and not self.optimizer else state

    def count(self, finished: bool) -> int:
        """Return how many checkpoints are kept."""
        return 1 if finished and not self.optimizer else self.keep


def train_step(
    state: TrainState,
    batch: dict,
    objective: Objective,
    augment: Augment,
    tx: optax.GradientTransformation,
    gradient_accumulation: int = 1,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Update the state with one batch.

    Args:
      state: before the step.
      batch: {"image" [B, H, W, C] as stored, "label" [B] int32}.
      objective: gives the loss.
      augment: (key, batch) -> batch with "views".
      tx: the optimizer.
      gradient_accumulation: number of parts into which the batch is split, whose gradients are averaged. It saves
        memory; batch statistics and negatives are then those of a part.

    Returns:
      The state after the step, and scalar metrics, among them "loss" and "gradient_norm".
    """

    def gradients(model_state: Tree, batch: dict, key: jax.Array) -> tuple[Tree, Tree, dict]:
        augment_key, loss_key = jax.random.split(key)
        batch = augment(augment_key, batch)
        value_and_grad = jax.value_and_grad(objective.loss, has_aux=True)
        (loss, (model_state, metrics)), grads = value_and_grad(state.params, model_state, state.target, batch, loss_key)
        return grads, model_state, {k: v for k, v in ({"loss": loss} | metrics).items() if v.ndim == 0}

    key = jax.random.fold_in(state.key, state.step)
    if gradient_accumulation == 1:
        grads, model_state, metrics = gradients(state.model_state, batch, key)
    else:
        grads, model_state, metrics = _accumulate(gradients, state.model_state, batch, key, gradient_accumulation)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    target = objective.advance(state.target, params, state.step)
    metrics |= {"gradient_norm": optax.tree.norm(grads)}
    return TrainState(state.step + 1, params, model_state, target, opt_state, state.key), metrics


def _accumulate(
    gradients: Callable[[Tree, dict, jax.Array], tuple[Tree, Tree, dict]],
    model_state: Tree,
    batch: dict,
    key: jax.Array,
    parts: int,
) -> tuple[Tree, Tree, dict]:
    """Call `gradients` on the parts of a batch in turn; gradients and metrics are averaged, the state is carried on."""
    split = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)

    def add(carry: tuple, part: tuple) -> tuple[tuple, None]:
        model_state, total = carry
        grads, model_state, metrics = gradients(model_state, *part)
        return (model_state, jax.tree.map(lambda a, b: a + b / parts, total, (grads, metrics))), None

    shapes = jax.eval_shape(gradients, model_state, jax.tree.map(lambda x: x[0], split), key)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (shapes[0], shapes[2]))
    (model_state, (grads, metrics)), _ = jax.lax.scan(add, (model_state, zeros), (split, jax.random.split(key, parts)))
    return grads, model_state, metrics


def jit_step(
    mesh: Mesh,
    shapes: TrainState,
    objective: Objective,
    augment: Augment,
    tx: optax.GradientTransformation,
    gradient_accumulation: int = 1,
) -> Step:
    """Return `train_step` as a jitted function of (state, batch) for this mesh. It donates the state."""

    def step(state: TrainState, batch: dict) -> tuple[TrainState, dict]:
        return train_step(state, batch, objective, augment, tx, gradient_accumulation)

    shardings = sharding.state_shardings(mesh, shapes), sharding.replicated(mesh)
    return jax.jit(step, donate_argnums=0, out_shardings=shardings)


def compile_ahead(step: Any, state: TrainState, batch: dict) -> int | None:
    """Compile a jitted step and return the bytes that it needs on each device; None if unknown.

    The compiler's memory goes back to the system before the first step allocates its own.
    """
    runtime.trim_heap()
    needed = memory.count_step_bytes(step.lower(state, batch).compile())
    runtime.trim_heap()
    return needed
