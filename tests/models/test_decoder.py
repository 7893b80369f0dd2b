"""Feature maps of all encoders, and decoders of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import models
from jaxssl.models.decoder import LinearDecoder, UNetDecoder, apply_maps, resize

SMALL = {
    "resnet18": ({"width": 4, "stages": (1, 1)}, [2, 4, 8]),
    "efficientnet_lite0": ({"width": 0.25, "depth": 0.3}, [2, 4, 8, 16, 32]),
    "convnext_tiny": ({"depths": (1, 1), "widths": (4, 8)}, [4, 8]),
    "vit_tiny": ({"width": 8, "depth": 4, "heads": 2, "patch": 8}, [8, 8, 8, 8]),
    "autoencoder": ({"widths": (4, 8, 8)}, [1, 2, 4]),
    "conv_attention": ({"widths": (4, 8), "heads": 2}, [1, 2, 4]),
}
IMAGE = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))


def make(name):
    return models.make(name, {"stem": "imagenet", "dtype": jnp.float32}, SMALL[name][0])


@pytest.mark.parametrize("name", SMALL)
def test_maps_of_several_strides(name):
    encoder = make(name)

    def run(key):
        variables = encoder.init(key, IMAGE, train=False)
        state = {k: v for k, v in variables.items() if k != "params"}
        return state, *apply_maps(encoder, variables["params"], state, IMAGE, train=True)

    before, maps, after = jax.eval_shape(run, jax.random.key(1))
    assert [32 // x.shape[1] for x in maps] == SMALL[name][1] and all(x.shape[1] == x.shape[2] for x in maps)
    assert "intermediates" not in before and before == after


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SMALL if name != "vit_tiny"])
def test_the_last_map_is_that_of_the_encoder(name):
    encoder = make(name)
    variables = jax.jit(lambda key: encoder.init(key, IMAGE, train=False))(jax.random.key(1))
    params, state = variables["params"], {k: v for k, v in variables.items() if k != "params"}
    maps, kept = jax.jit(lambda p, s: apply_maps(encoder, p, s, IMAGE, train=False))(params, state)
    out = jax.jit(lambda variables: encoder.apply(variables, IMAGE, train=False))(variables)
    assert jax.tree.all(jax.tree.map(np.array_equal, kept, state))
    np.testing.assert_allclose(maps[-1], out["map"], rtol=1e-5, atol=1e-5)


def test_an_encoder_without_maps_has_its_last_one():
    class Plain:
        def apply(self, variables, image, *, train, mutable):
            return {"tokens": jnp.ones((2, 9, 4))}, {}

    (only,), _ = apply_maps(Plain(), {}, {}, IMAGE, train=False)
    assert only.shape == (2, 3, 3, 4)


def test_the_linear_decoder_classifies_interpolated_features():
    keys = jax.random.split(jax.random.key(0), 4)
    maps = [jax.random.normal(keys[0], (2, 16, 16, 3)), jax.random.normal(keys[1], (2, 4, 4, 5))]
    decoder = LinearDecoder(2)
    variables = decoder.init(keys[2], maps, (16, 16), train=False)
    assert not decoder.apply(variables, maps, (16, 16), train=False).any()  # Uniform at first.
    params = jax.tree.map(lambda x: jax.random.normal(keys[3], x.shape), variables["params"])
    params = params | {f"bn{i}": variables["params"][f"bn{i}"] for i in (0, 1)}
    got = decoder.apply(variables | {"params": params}, maps, (16, 16), train=False)
    # New statistics are mean 0 and variance 1.
    columns = jnp.concatenate([resize(x, (16, 16)) for x in maps], -1) / np.sqrt(1 + 1e-5)
    kernel = jnp.concatenate([params[f"linear{i}"]["kernel"] for i in (0, 1)])
    np.testing.assert_allclose(got, columns @ kernel + params["bias"], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_unet_uses_every_map():
    maps = [jnp.ones((1, side, side, width)) * jax.random.normal(jax.random.key(side), (1, side, side, width))
            for side, width in ((8, 4), (4, 8), (2, 16))]  # fmt: skip
    decoder = UNetDecoder(3)
    variables = decoder.init(jax.random.key(0), maps, (32, 32), train=False)
    params = variables["params"] | {"linear": jax.tree.map(jnp.ones_like, variables["params"]["linear"])}

    def total(maps):
        logits = decoder.apply(variables | {"params": params}, maps, (32, 32), train=False)
        assert logits.shape == (1, 32, 32, 3)
        return (logits**2).sum()

    assert all(np.abs(gradient).max() > 0 for gradient in jax.grad(total)(maps))
