"""LoRA: low-rank updates of dense layers on a frozen encoder (Hu et al., 2022, arXiv:2106.09685).

A kernel W [C, D] becomes W + alpha / rank * A B, with A [C, rank] random and B [rank, D] 0 at first (section 4.1). The
sum is made anew in each step, so that encoders and objectives need not know of it; it is what is evaluated and stored.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from jaxssl.models.shapes import count_parameters
from jaxssl.objectives import LossAndAux, Objective

Tree = Any

PRODUCTS = ("q", "k", "v", "proj", "fc1", "fc2")
"""Dense layers of a transformer block: queries, keys and values (thirds of the layer "qkv"), and by their names."""


def adapt(objective: Objective, rank: int, alpha: float, products: tuple[str, ...]) -> Objective:
    """Return an objective with params "lora", {product: {"a", "b"}}, and without gradient to "encoder".

    Args:
      objective: to be adapted; its target is that of the merged parameters.
      rank: of the updates; 0 returns `objective`.
      alpha: alpha / rank is the factor of the updates.
      products: of `PRODUCTS`.
    """
    if not rank:
        return objective

    def init(key: jax.Array, batch: dict) -> tuple[Tree, Tree, Tree]:
        params, model_state, target = objective.init(key, batch)
        lora = init_updates(jax.random.fold_in(key, 1), params["encoder"], rank, products)
        return params | {"lora": lora}, model_state, target

    def loss(params: Tree, model_state: Tree, target: Tree, batch: dict, key: jax.Array) -> LossAndAux:
        frozen = params | {"encoder": jax.lax.stop_gradient(params["encoder"])}
        return objective.loss(merge(frozen, alpha), model_state, target, batch, key)

    def advance(target: Tree, params: Tree, step: jax.Array) -> Tree:
        return objective.advance(target, merge(params, alpha), step)

    return objective._replace(init=init, loss=loss, advance=advance)


def init_updates(key: jax.Array, params: Tree, rank: int, products: tuple[str, ...]) -> dict[str, dict[str, jax.Array]]:
    """Return A, as PyTorch draws dense layers, and B = 0 of each chosen product of an encoder, by <layer>/<product>."""
    kernels, updates = find_kernels(params, products), {}
    for (name, (rows, columns)), own in zip(kernels.items(), jax.random.split(key, len(kernels)), strict=True):
        bound = rows**-0.5
        updates[name] = {
            "a": jax.random.uniform(own, (rows, rank), minval=-bound, maxval=bound),
            "b": jnp.zeros((rank, columns)),
        }
    return updates


def find_kernels(params: Tree, products: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """Return {"<layer>/<product>": shape} of the chosen products of an encoder, sorted; {} if it has none of them."""
    found = {}
    for path, leaf in flatten(params).items():
        layer, _, kind = path.rpartition("/")
        if kind != "kernel" or leaf.ndim != 2:
            continue
        name, (rows, columns) = layer.rpartition("/")[2], leaf.shape
        if name == "qkv":
            found |= {f"{layer}/{part}": (rows, columns // 3) for part in "qkv" if part in products}
        elif name in products:
            found[f"{layer}/{name}"] = (rows, columns)
    return dict(sorted(found.items()))


def flatten(params: Tree) -> dict[str, Any]:
    """Return {"<module>/<module>/<leaf>": leaf}."""
    return dict(traverse_util.flatten_dict(params, sep="/"))


def merge(params: Mapping[str, Any], alpha: float) -> Tree:
    """Return the parameters of a network without "lora", whose updates are added to the kernels of its encoder."""
    if "lora" not in params:
        return params
    kernels = flatten(params["encoder"])
    for name, update in params["lora"].items():
        layer, _, product = name.rpartition("/")
        path, change = f"{layer}/kernel", alpha / update["a"].shape[1] * (update["a"] @ update["b"])
        if layer.rpartition("/")[2] == "qkv":
            zeros = jnp.zeros_like(change)
            change = jnp.concatenate([change if product == part else zeros for part in "qkv"], axis=1)
        kernels[path] = kernels[path] + change
    merged = traverse_util.unflatten_dict(kernels, sep="/")
    return {name: tree for name, tree in params.items() if name != "lora"} | {"encoder": merged}


def describe(params: Mapping[str, Any]) -> str:
    """Return "LoRA of 12 layers: 36,864 of 5,500,000 parameters (0.7 %) are trained"."""
    every, encoder, updates = (count_parameters(tree) for tree in (params, params["encoder"], params["lora"]))
    trained = every - encoder
    return (
        f"LoRA of {len(params['lora'])} products: {trained:,} of {every - updates:,} parameters "
        f"({100 * trained / (every - updates):.2g} %) are trained"
    )
