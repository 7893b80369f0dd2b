"""Optimizers as optax chains, with learning-rate warm-up, weight decay of kernels alone, and freezing."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

Tree = Any
OPTIMIZERS = ("sgd", "adam", "adamw", "lars")


def schedule(peak: float, steps: int, warmup_steps: int, decay: str) -> optax.Schedule:
    """Return the learning rate by step: a linear warm-up to `peak`, then "cosine" to 0 at `steps`, or "constant".

    Step t of the warm-up has (t + 1) / (warmup_steps + 1) of the peak, so that no step is without effect.
    """
    first = peak / (warmup_steps + 1)
    if decay == "cosine":
        return optax.warmup_cosine_decay_schedule(first, peak, warmup_steps, max(steps, warmup_steps + 1))
    warmup = optax.linear_schedule(first, peak, warmup_steps)
    return optax.join_schedules([warmup, optax.constant_schedule(peak)], [warmup_steps])


def weights_only(params: Tree) -> Tree:
    """Return True for kernels and matrices, False for biases and the scales of norms, as LARS and BYOL do."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def start_at(step: int, tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return `tx` as it is from `step` on: before, updates are zero and its state, such as Adam's moments, is new.

    Otherwise a frozen network would collect moments of 0, by which Adam's first steps are three times as large.
    """

    def init(params: Tree) -> Tree:
        return jnp.zeros((), jnp.int32), tx.init(params)

    def update(updates: Tree, state: Tree, params: Tree = None) -> tuple[Tree, Tree]:
        count, inner = state
        new, changed = tx.update(updates, inner, params)
        started = count >= step
        held = jax.tree.map(lambda u: jnp.where(started, u, jnp.zeros_like(u)), new)
        return held, (count + 1, jax.tree.map(lambda n, o: jnp.where(started, n, o), changed, inner))

    return optax.GradientTransformation(init, update)


def with_own(name: str, own: optax.GradientTransformation, rest: optax.GradientTransformation) -> Any:
    """Return the optimizer that updates `params[name]` by `own` and everything else by `rest`."""

    def divide(tree: Tree) -> tuple[Tree, Tree]:
        return tree[name], {key: value for key, value in tree.items() if key != name}

    def init(params: Tree) -> Tree:
        return {"own": own.init(divide(params)[0]), "rest": rest.init(divide(params)[1])}

    def update(updates: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree]:
        (mine, others), (my_params, other_params) = divide(updates), divide(params)
        mine, my_state = own.update(mine, state["own"], my_params)
        changed: Tree = rest.update(others, state["rest"], other_params)
        return {name: mine, **changed[0]}, {"own": my_state, "rest": changed[1]}

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def make(
    name: str,
    *,
    learning_rate: float,
    steps: int,
    warmup_steps: int = 0,
    decay: str = "cosine",
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    frozen_steps: int = 0,
) -> optax.GradientTransformation:
    """Return an optimizer.

    Args:
      name: one of `OPTIMIZERS`.
      learning_rate: peak learning rate.
      steps: total number of steps.
      warmup_steps: steps of linear warm-up.
      decay: "cosine" or "constant".
      weight_decay: for kernels and matrices only; added to the gradient for "sgd", "adam" and "lars", decoupled for
        "adamw".
      momentum: of "sgd" and "lars".
      frozen_steps: number of steps for which `params["encoder"]` does not change; its moments begin after them.
    """
    rate = schedule(learning_rate, steps, warmup_steps, decay)
    options = {"weight_decay": weight_decay, "momentum": momentum}
    if not frozen_steps:
        return _chain(name, rate, **options)
    # Counts of the encoder's optimizer begin with its first step, and those of the schedule go on.
    encoder = _chain(name, lambda count: rate(count + frozen_steps), **options)
    return with_own("encoder", start_at(frozen_steps, encoder), _chain(name, rate, **options))


def _chain(name: str, rate: optax.Schedule, weight_decay: float, momentum: float) -> optax.GradientTransformation:
    coupled = optax.add_decayed_weights(weight_decay, weights_only)
    chains = {
        "sgd": lambda: [coupled, optax.sgd(rate, momentum)],
        "adam": lambda: [coupled, optax.adam(rate)],
        "adamw": lambda: [optax.adamw(rate, weight_decay=weight_decay, mask=weights_only)],
        # You et al., 2017 (arXiv:1708.03888), trust coefficient 0.001.
        "lars": lambda: [
            optax.lars(rate, weight_decay, weights_only, trust_ratio_mask=weights_only, momentum=momentum)
        ],
    }
    return optax.chain(*chains[name]())
