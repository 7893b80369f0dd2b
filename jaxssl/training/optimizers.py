"""Optimizers as optax chains, with learning-rate warm-up, weight decay of kernels alone, and freezing."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

Tree = Any
OPTIMIZERS = ("sgd", "adam", "adamw", "lars")


def schedule(peak: float, steps: int, warmup_steps: int, decay: str) -> optax.Schedule:
    """Return the learning rate by step: linear from 0 to `peak`, then "cosine" to 0 at `steps`, or "constant"."""
    if decay == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0, peak, warmup_steps, max(steps, warmup_steps + 1))
    warmup = optax.linear_schedule(0.0, peak, warmup_steps)
    return optax.join_schedules([warmup, optax.constant_schedule(peak)], [warmup_steps])


def weights_only(params: Tree) -> Tree:
    """Return True for kernels and matrices, False for biases and the scales of norms, as LARS and BYOL do."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def freeze(name: str, until: int) -> optax.GradientTransformation:
    """Set the updates of `params[name]` to zero before step `until`. Put it last: weight decay moves them otherwise."""

    def update(updates: Tree, count: jax.Array, params: Tree = None) -> tuple[Tree, jax.Array]:
        held = jax.tree.map(lambda u: jnp.where(count < until, jnp.zeros_like(u), u), updates[name])
        return updates | {name: held}, count + 1

    return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)


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
      warmup_steps: steps of linear warm-up from 0.
      decay: "cosine" or "constant".
      weight_decay: for kernels and matrices only; added to the gradient for "sgd", "adam" and "lars", decoupled for
        "adamw".
      momentum: of "sgd" and "lars".
      frozen_steps: number of steps for which `params["encoder"]` does not change.
    """
    rate = schedule(learning_rate, steps, warmup_steps, decay)
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
    chain = chains[name]()
    if frozen_steps:
        chain.append(freeze("encoder", frozen_steps))
    return optax.chain(*chain)
