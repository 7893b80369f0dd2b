"""Optimizers as optax chains, with learning-rate warm-up, weight decay of kernels alone, layer decay, and freezing."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxssl.models.depth import layers_of

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


def decay_by_layer(decay: float) -> optax.GradientTransformation:
    """Multiply the updates of layer l of n by decay^(n + 1 - l), as BEiT, MAE and DINOv2 do in fine-tuning.

    Layers are those of `jaxssl.models.depth`: 0 is the stem, n + 1 the last norm and all other networks, such as heads.
    """

    def scale(updates: Tree, params: Tree) -> Tree:
        del params
        layers = layers_of(updates)
        last = max(jax.tree.leaves(layers))
        return jax.tree.map(lambda update, layer: update * decay ** (last - layer), updates, layers)

    return optax.stateless(scale)


def scale_networks(rates: tuple[tuple[str, float], ...]) -> optax.GradientTransformation:
    """Multiply the updates of `params[name]` by its factor in `rates`, (name, factor), if it has one."""

    def scale(updates: Tree, params: Tree) -> Tree:
        del params
        factors = dict(rates)
        return {name: optax.tree.scale(factors.get(name, 1.0), tree) for name, tree in updates.items()}

    return optax.stateless(scale)


def make(
    name: str,
    *,
    learning_rate: float,
    steps: int,
    warmup_steps: int = 0,
    decay: str = "cosine",
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    beta1: float = 0.9,
    beta2: float = 0.999,
    clip_norm: float = 0.0,
    layer_decay: float = 1.0,
    frozen_steps: int = 0,
    lora: bool = False,
    rates: tuple[tuple[str, float], ...] = (),
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
      beta1: decay of the first moment of "adam" and "adamw".
      beta2: decay of their second moment.
      clip_norm: largest global norm of the gradient, which is scaled down to it; 0 for any.
      layer_decay: see `decay_by_layer`; 1 for one rate.
      frozen_steps: number of steps for which the encoder does not change; its moments begin after them. If they are all
        steps, it has none.
      lora: whether `params["lora"]` is what changes of the encoder, and `params["encoder"]` never does.
      rates: see `scale_networks`.
    """
    rate = schedule(learning_rate, steps, warmup_steps, decay)
    options = {"weight_decay": weight_decay, "momentum": momentum, "beta1": beta1, "beta2": beta2}
    tx = _chain(name, rate, **options)
    if 0 < frozen_steps < steps:
        # Counts of the encoder's optimizer begin with its first step, and those of the schedule go on.
        encoder = _chain(name, lambda count: rate(count + frozen_steps), **options)
        tx = with_own("lora" if lora else "encoder", start_at(frozen_steps, encoder), tx)
    if lora or frozen_steps >= max(1, steps):
        tx = with_own("encoder", optax.set_to_zero(), tx)
    if clip_norm:
        tx = optax.chain(optax.clip_by_global_norm(clip_norm), tx)
    if rates:
        tx = optax.chain(tx, scale_networks(rates))
    return optax.chain(tx, decay_by_layer(layer_decay)) if layer_decay < 1 else tx


def _chain(
    name: str, rate: optax.Schedule, weight_decay: float, momentum: float, beta1: float = 0.9, beta2: float = 0.999
) -> optax.GradientTransformation:
    coupled = optax.add_decayed_weights(weight_decay, weights_only)
    chains = {
        "sgd": lambda: [coupled, optax.sgd(rate, momentum)],
        "adam": lambda: [coupled, optax.adam(rate, beta1, beta2)],
        "adamw": lambda: [optax.adamw(rate, beta1, beta2, weight_decay=weight_decay, mask=weights_only)],
        # You et al., 2017 (arXiv:1708.03888), trust coefficient 0.001.
        "lars": lambda: [
            optax.lars(rate, weight_decay, weights_only, trust_ratio_mask=weights_only, momentum=momentum)
        ],
    }
    return optax.chain(*chains[name]())
