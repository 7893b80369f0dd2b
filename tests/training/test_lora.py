"""LoRA against x W + alpha / rank (x A) B, computed layer by layer; what it freezes; what it trains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxssl import models
from jaxssl.objectives import supervised
from jaxssl.training import lora, optimizers
from jaxssl.training.step import init_state, train_step
from tests import tiny

ALPHA = 6.0
EVERY = lora.PRODUCTS
OPTIONS = {"width": 12, "depth": 2, "heads": 3, "patch": 2, "mlp_width": 20}


@pytest.fixture(scope="module")
def encoder():
    return models.make("vit_tiny", {}, OPTIONS)


@pytest.fixture(scope="module")
def image():
    return jax.random.normal(jax.random.key(1), (3, 4, 4, 1))


@pytest.fixture(scope="module")
def params(encoder, image):
    return {"encoder": jax.jit(lambda: encoder.init(jax.random.key(0), image, train=False)["params"])()}


def apply(encoder, params, image):
    return encoder.apply({"params": params}, image, train=False)["pooled"]


def layer_by_layer(encoder, params, updates, image, alpha):
    """The output where each dense layer adds its own updates, without any merged kernel."""

    def add(call, args, kw, context):
        y = call(*args, **kw)
        if isinstance(context.module, nn.Dense) and context.method_name == "__call__":
            layer, third = "/".join(context.module.path), y.shape[-1] // 3
            for name, update in updates.items():
                at, _, product = name.rpartition("/")
                if layer not in (name, at):
                    continue
                change = alpha / update["a"].shape[1] * ((args[0] @ update["a"]) @ update["b"])
                start = "qkv".index(product) * third if layer.endswith("qkv") else 0
                y = y.at[..., start : start + change.shape[-1]].add(change)
        return y

    with nn.intercept_methods(add):
        return apply(encoder, params, image)


@pytest.mark.parametrize("products", [("q", "v"), EVERY])
def test_updates_are_those_of_the_paper(encoder, params, image, products):
    updates = lora.init_updates(jax.random.key(2), params["encoder"], 2, products)
    assert len(updates) == 2 * len(products)
    merged = lora.merge(params | {"lora": updates}, ALPHA)["encoder"]
    np.testing.assert_array_equal(apply(encoder, merged, image), apply(encoder, params["encoder"], image))  # B = 0.
    updates = jax.tree.map(lambda x: jax.random.normal(jax.random.key(x.size), x.shape), updates)
    merged = apply(encoder, lora.merge(params | {"lora": updates}, ALPHA)["encoder"], image)
    expected = layer_by_layer(encoder, params["encoder"], updates, image, ALPHA)
    np.testing.assert_allclose(merged, expected, atol=1e-5)
    assert np.abs(merged - apply(encoder, params["encoder"], image)).max() > 0.1


def test_only_updates_and_head_are_trained(encoder):
    objective = lora.adapt(supervised.make(encoder, classes=3), 2, ALPHA, ("q", "v"))
    tx = optimizers.make(
        "adamw", learning_rate=0.01, steps=9, weight_decay=0.1, layer_decay=0.5, clip_norm=1, lora=True
    )

    def augment(key, batch):
        return batch | {"views": (batch["image"] / 255.0,)}

    batch = tiny.batch()
    before = jax.jit(lambda: init_state(jax.random.key(0), batch, objective, augment, tx))()
    moments = [leaf for leaf in jax.tree.leaves(before.opt_state) if leaf.ndim]
    assert sum(leaf.size for leaf in moments) == 2 * sum(
        leaf.size for name in ("lora", "head") for leaf in jax.tree.leaves(before.params[name])
    )
    step, state = jax.jit(lambda state: train_step(state, batch, objective, augment, tx)), before
    losses = []
    for _ in range(4):
        state, metrics = step(state)
        losses.append(metrics["loss"])
    jax.tree.map(np.testing.assert_array_equal, state.params["encoder"], before.params["encoder"])
    assert all((update["b"] != 0).any() for update in state.params["lora"].values())
    assert losses[-1] < losses[0]


def test_an_average_is_that_of_the_merged_weights(encoder, params):
    updates = lora.init_updates(jax.random.key(2), params["encoder"], 1, ("fc1",))
    updates = jax.tree.map(jnp.ones_like, updates)
    inner = supervised.make(encoder, classes=3)._replace(advance=lambda target, params, step: params)
    seen = lora.adapt(inner, 1, ALPHA, ("fc1",)).advance({}, params | {"lora": updates}, 0)
    old, new = (tree["encoder"]["blocks_1"]["fc1"]["kernel"] for tree in (params, seen))
    np.testing.assert_allclose(new - old, ALPHA, rtol=1e-5)
