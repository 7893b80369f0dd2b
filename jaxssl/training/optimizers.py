"""Optimizers as optax chains: warm-up and cosine, decay and adaptation that skip biases and norms, freezing last."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

Tree = Any
OPTIMIZERS = ("sgd", "adam", "adamw", "lars")


def schedule(peak: float, steps: int, warmup_steps: int, decay: str) -> optax.Schedule:
    """Learning rate by step: linear from 0 to `peak`, then "cosine" to 0 at `steps`, or "constant"."""
    if decay == "constant":
        after = optax.constant_schedule(peak)
    else:
        after = optax.cosine_decay_schedule(peak, max(1, steps - warmup_steps))
    return optax.join_schedules([optax.linear_schedule(0.0, peak, max(1, warmup_steps)), after], [warmup_steps])


def weights_only(params: Tree) -> Tree:
    """True for matrices and kernels, False for biases and the scales of norms, as LARS and BYOL have it."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def freeze(name: str, until: int) -> optax.GradientTransformation:
    """No update at all for `params[name]` before step `until`; last in a chain, or decay would still move it."""

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
    """One of `OPTIMIZERS`.

    Weight decay is added to the gradient for "sgd", "adam" and "lars" and kept apart from it for "adamw".

    Args:
      name: of the optimizer.
      learning_rate: its highest value.
      steps: of the whole training.
      warmup_steps: of linear growth from 0.
      decay: "cosine" or "constant".
      weight_decay: for matrices and kernels alone.
      momentum: of "sgd" and "lars".
      frozen_steps: how long `params["encoder"]` stays as it is.
    """
    rate = schedule(learning_rate, steps, warmup_steps, decay)
    coupled = optax.add_decayed_weights(weight_decay, weights_only)
    if name == "sgd":
        chain = [coupled, optax.sgd(rate, momentum)]
    elif name == "adam":
        chain = [coupled, optax.adam(rate)]
    elif name == "adamw":
        chain = [optax.adamw(rate, weight_decay=weight_decay, mask=weights_only)]
    elif name == "lars":
        # You et al., 2017 (arXiv:1708.03888), trust coefficient 0.001.
        chain = [optax.lars(rate, weight_decay, weights_only, trust_ratio_mask=weights_only, momentum=momentum)]
    else:
        raise KeyError(name)
    if frozen_steps:
        chain.append(freeze("encoder", frozen_steps))
    return optax.chain(*chain)
