"""Variables of the encoder: initial, inside a training state, and the features that it computes."""

import functools
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.augment import views
from jaxssl.data import pipeline
from jaxssl.run.setup import Setup
from jaxssl.training import distributed, sharding
from jaxssl.training.step import TrainState
from jaxssl.weights.merge import merge

Tree = Any
EVALUATION_BATCH = 256


def named_key(setup: Setup, name: str) -> jax.Array:
    """Return the PRNG key of this purpose, the same in each run with this seed."""
    return jax.random.fold_in(jax.random.key(setup.config.seed), zlib.crc32(name.encode()))


def init_encoder(setup: Setup) -> Tree:
    """Return the variables of the untrained encoder: the start of pretraining, and the arm "random"."""
    size = setup.config.data.image_size
    image = jnp.zeros((1, size, size, setup.source.channels))
    init = jax.jit(functools.partial(setup.encoder.init, train=False), out_shardings=sharding.replicated(setup.mesh))
    return init(named_key(setup, "encoder"), image)


def get_encoder(state: TrainState) -> Tree:
    """Return the variables of the encoder in a training state."""
    return {"params": state.params["encoder"], **state.model_state["encoder"]}


def with_encoder(state: TrainState, variables: Tree) -> TrainState:
    """Return the state with copies of these variables in each of its encoders, that of the target network too."""
    params = variables["params"]
    statistics = {k: v for k, v in variables.items() if k != "params"}

    def replace(tree: Tree, value: Tree) -> Tree:
        if "encoder" not in tree:
            return tree
        value = merge(tree["encoder"], value, "the initial encoder")
        return tree | {"encoder": jax.tree.map(jnp.copy, value)}

    model_state = replace(state.model_state, statistics)
    if "target" in model_state:
        model_state |= {"target": replace(model_state["target"], statistics)}
    return state._replace(
        params=replace(state.params, params), target=replace(state.target, params), model_state=model_state
    )


def feature_function(setup: Setup, kind: str) -> Callable[[Tree, dict], jax.Array]:
    """Return the jitted function (variables, batch) -> features [B, D] without augmentation.

    Args:
      setup: of the run.
      kind: "pooled" of the encoder; the "mean" over its tokens or map; "cls", its class token; or "cls+mean", both.
    """
    if kind == "pooled":
        return setup.encode

    @jax.jit
    def encode(variables: Tree, batch: dict) -> jax.Array:
        image = views.eval_transform(batch["image"], setup.pixels, setup.config.data.image_size)
        out: Any = setup.encoder.apply(variables, image, train=False)
        mean = out["tokens"].mean(1) if "tokens" in out else out["map"].mean((1, 2))
        parts = {"mean": mean, "cls": out.get("cls")}
        return jnp.concatenate([parts[part] for part in kind.split("+")], axis=-1)

    return encode


def compute_features(setup: Setup, variables: Tree, rows: np.ndarray) -> np.ndarray:
    """Return the pooled features [N, D] float32 of these images, without augmentation."""
    return map_batches(setup, rows, lambda batch: setup.encode(variables, batch))


def map_batches(
    setup: Setup, rows: np.ndarray, function: Callable[[dict], jax.Array], masks: bool = False
) -> np.ndarray:
    """Apply a jitted function of a batch, with or without masks, to all of these images.

    Returns:
      Its results [N, ...] in the order of the images.
    """
    size = -(-EVALUATION_BATCH // setup.mesh.size) * setup.mesh.size
    batches = pipeline.evaluation(
        setup.source,
        rows,
        batch_size=size,
        sharding=sharding.batch_sharding(setup.mesh),
        workers=setup.config.data.workers,
        masks=masks,
    )
    # The last batch is padded.
    return np.concatenate([distributed.gather(function(batch)) for batch in batches])[: len(rows)]
