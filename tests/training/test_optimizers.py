"""LARS by hand, schedules by closed form, and what must not move."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl import models
from jaxssl.models import depth, shapes
from jaxssl.training import optimizers

PARAMS = {"encoder": {"kernel": jnp.full((2, 3), 2.0), "bias": jnp.full(3, 2.0)}, "head": {"kernel": jnp.ones((3, 2))}}
GRADS = {
    "encoder": {"kernel": jnp.full((2, 3), 0.5), "bias": jnp.full(3, 0.5)},
    "head": {"kernel": jnp.full((3, 2), 3.0)},
}


def steps(tx, count, grads=GRADS):
    state, params = tx.init(PARAMS), PARAMS
    for _ in range(count):
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_lars_two_steps_by_hand():
    """You et al., equation 6: rate x 0.001 |w| / |g + wd w| x (g + wd w), with momentum; plain momentum for biases."""
    rate, decay, momentum = 0.1, 0.01, 0.9
    tx = optimizers.make("lars", learning_rate=rate, steps=10, decay="constant", weight_decay=decay, momentum=momentum)
    w, b, velocity_w, velocity_b = np.full((2, 3), 2.0), np.full(3, 2.0), 0.0, 0.0
    for _ in range(2):
        g = 0.5 + decay * w
        velocity_w = momentum * velocity_w + rate * 0.001 * np.linalg.norm(w) / np.linalg.norm(g) * g
        velocity_b = momentum * velocity_b + rate * np.full(3, 0.5)
        w, b = w - velocity_w, b - velocity_b
    # A schedule without warm-up starts at its peak.
    moved = steps(tx, 2)["encoder"]
    np.testing.assert_allclose(moved["kernel"], w, rtol=1e-6)
    np.testing.assert_allclose(moved["bias"], b, rtol=1e-6)


def test_schedule_warms_up_linearly_and_falls_along_a_cosine():
    rate = optimizers.schedule(2.0, steps=30, warmup_steps=10, decay="cosine")
    expected = [2 / 11, 12 / 11, 2.0, 1.0, 0.0]
    np.testing.assert_allclose([rate(s) for s in (0, 5, 10, 20, 30)], expected, atol=1e-6)
    both = [optimizers.schedule(2.0, 30, 10, decay) for decay in ("cosine", "constant")]
    np.testing.assert_allclose(*([of(s) for s in range(11)] for of in both), rtol=1e-6)
    constant = optimizers.schedule(2.0, steps=30, warmup_steps=0, decay="constant")
    np.testing.assert_allclose([constant(s) for s in (0, 29)], 2.0)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_decay_moves_kernels_but_no_bias(name):
    tx = optimizers.make(name, learning_rate=0.1, steps=10, weight_decay=0.1)
    still = jax.tree.map(jnp.zeros_like, GRADS)
    moved = steps(tx, 2, still)["encoder"]
    assert (moved["kernel"] < 2).all()
    np.testing.assert_array_equal(moved["bias"], 2)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_a_frozen_encoder_keeps_every_bit_under_decay_and_moves_afterwards(name):
    tx = optimizers.make(name, learning_rate=0.1, steps=10, weight_decay=0.1, frozen_steps=3)
    held, freed = steps(tx, 3), steps(tx, 4)
    jax.tree.map(np.testing.assert_array_equal, held["encoder"], PARAMS["encoder"])
    assert (held["head"]["kernel"] != 1).all()
    assert (freed["encoder"]["kernel"] != 2).all()


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_an_encoder_that_was_frozen_moves_as_a_new_one_does(name):
    """Its moments and their count begin when it is unfrozen, and the schedule goes on."""
    options = {"learning_rate": 0.1, "steps": 12, "decay": "cosine", "weight_decay": 0.1}
    frozen = optimizers.make(name, frozen_steps=4, **options)
    state, params = frozen.init(PARAMS), PARAMS
    for _ in range(6):
        updates, state = frozen.update(GRADS, state, params)
        params = optax.apply_updates(params, updates)
    rate = optimizers.schedule(0.1, 12, 0, "cosine")
    new = optimizers._chain(name, lambda count: rate(count + 4), 0.1, 0.9)
    state, expected = new.init(PARAMS["encoder"]), PARAMS["encoder"]
    for _ in range(2):
        updates, state = new.update(GRADS["encoder"], state, expected)
        expected = optax.apply_updates(expected, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params["encoder"], expected)
    head = steps(optimizers.make(name, **options), 6)["head"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params["head"], head)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_betas_and_clipping_by_hand(name):
    """Kingma and Ba, 2015, algorithm 1, on a gradient that is scaled down to norm 1."""
    rate, beta1, beta2 = 0.1, 0.8, 0.5
    options = {"learning_rate": rate, "steps": 10, "decay": "constant", "beta1": beta1, "beta2": beta2}
    tx = optimizers.make(name, clip_norm=1.0, **options)
    norm = np.sqrt(sum((np.asarray(g) ** 2).sum() for g in jax.tree.leaves(GRADS)))
    m = v = 0.0
    w = 2.0
    for t in (1, 2):
        g = 0.5 / norm
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        w -= rate * m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + 1e-8)
    np.testing.assert_allclose(steps(tx, 2)["encoder"]["kernel"], w, rtol=1e-5)


def mae_layer(name, depth):
    """github.com/facebookresearch/mae, util/lr_decay.py, in our names."""
    if name in ("cls_token", "pos_embed") or name.startswith("patch_embed"):
        return 0
    return int(name.split("_")[1]) + 1 if name.startswith("blocks") else depth + 1


def convnext_small_layer(stage, block):
    """github.com/facebookresearch/ConvNeXt, optim_factory.py, for depths (3, 3, 27, 3)."""
    return stage + 1 if stage in (0, 1) else 3 + block // 3 if stage == 2 else 12


def test_layers_are_those_of_mae_and_convnext():
    encoder = models.make("vit_tiny", {}, {"depth": 3, "width": 12, "positions": "learnt", "registers": 1})
    params = {"encoder": shapes.shapes_of(encoder, 32, 1)["params"], "head": {"linear": {"kernel": jnp.zeros((2, 2))}}}
    layers = depth.layers_of(params)
    assert layers["head"]["linear"]["kernel"] == 4
    assert layers["encoder"].pop("reg_token") == 0
    for name, tree in layers["encoder"].items():
        assert set(jax.tree.leaves(tree)) == {mae_layer(name, 3)}, name
    encoder = models.make("convnext_small", {}, {"widths": (4, 4, 4, 4)})
    layers = depth.layers_of({"encoder": shapes.shapes_of(encoder, 32, 1)["params"]})["encoder"]
    for stage, blocks in enumerate((3, 3, 27, 3)):
        tree = layers[f"stages_{stage}"]
        for block in range(blocks):
            assert tree[f"blocks_{block}"]["fc1"]["kernel"] == convnext_small_layer(stage, block)
        if stage:
            assert tree["downsample_conv"]["kernel"] == convnext_small_layer(stage, 0)
    assert (layers["stem_conv"]["kernel"], layers["norm_pool"]["scale"]) == (0, 13)


@pytest.mark.parametrize(
    ("name", "first", "blocks", "last"),
    [("resnet50", "conv1", 16, "layer4_2"), ("efficientnet_lite0", "conv_stem", 16, "conv_head")],
)
def test_blocks_of_convolutional_encoders_are_layers(name, first, blocks, last):
    encoder = models.make(name, {}, {})
    layers = depth.layers_of({"encoder": shapes.shapes_of(encoder, 32, 3)["params"]})["encoder"]
    assert set(jax.tree.leaves(layers[first])) == {0}
    assert set(jax.tree.leaves(layers[last])) == {blocks + (name != "resnet50")}
    assert set(jax.tree.leaves(layers)) == set(range(blocks + 1 + (name != "resnet50")))


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_layer_decay_multiplies_the_learning_rate_of_each_layer(name):
    """So that each layer moves as with an optimizer of its own with that rate, decoupled weight decay included."""
    params = {"encoder": {f"{k}": {"kernel": jnp.full((2, 2), 2.0)} for k in ("stem", "blocks_0", "blocks_1", "norm")}}
    grads = jax.tree.map(lambda p: jnp.full_like(p, 0.5), params)

    def move(tx):
        state, moved = tx.init(params), params
        for _ in range(2):
            updates, state = tx.update(grads, state, moved)
            moved = optax.apply_updates(moved, updates)
        return moved["encoder"]

    options = {"steps": 10, "decay": "constant", "weight_decay": 0.1}
    decayed = move(optimizers.make(name, learning_rate=0.1, layer_decay=0.5, **options))
    for layer, power in (("stem", 3), ("blocks_0", 2), ("blocks_1", 1), ("norm", 0)):
        alone = move(optimizers.make(name, learning_rate=0.1 * 0.5**power, **options))
        np.testing.assert_allclose(decayed[layer]["kernel"], alone[layer]["kernel"], rtol=1e-6)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_a_network_with_a_rate_of_its_own_moves_as_with_such_a_learning_rate(name):
    options = {"steps": 10, "decay": "constant", "weight_decay": 0.1}
    scaled = steps(optimizers.make(name, learning_rate=0.1, rates=(("head", 3.0),), **options), 3)
    for network, rate in (("encoder", 0.1), ("head", 0.1 * 3.0)):
        alone = steps(optimizers.make(name, learning_rate=rate, **options), 3)[network]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), scaled[network], alone)
