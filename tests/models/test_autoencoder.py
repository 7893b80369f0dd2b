"""The convolutional autoencoder: its shapes, its layers against NumPy, its decoder at any ratio."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxssl import models
from jaxssl.models import autoencoder


def image(height=12, width=12, channels=3, seed=0):
    return np.random.default_rng(seed).normal(size=(2, height, width, channels)).astype(np.float32)


def convolve(p, x):
    kernel, padded = np.asarray(p["kernel"], np.float64), np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    taps = (padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3))
    return sum(taps) + np.asarray(p["bias"], np.float64)


def pool(x):
    height, width = x.shape[1:3]
    rows = [np.max(x[:, i : i + 2], axis=1) for i in range(0, height, 2)]
    return np.stack([np.stack([row[:, j : j + 2].max(1) for j in range(0, width, 2)], 1) for row in rows], 1)


def twice(params, name, x):
    for j in (1, 2):
        x = np.maximum(convolve(params[f"{name}_conv{j}"], x), 0)
    return x


def test_as_the_seed_described_it():
    """32-32-pool-64-64-pool-128-128-pool-128-128 on 96 px, and the mirror of it up to the image."""
    encoder = models.make("autoencoder", {"stem": "imagenet", "dtype": jnp.dtype("float32")})

    def run(key):
        x = jnp.zeros((2, 96, 96, 3))
        out, variables = encoder.init_with_output(key, x, train=False)
        picture, of_decoder = autoencoder.Decoder().init_with_output(key, out["map"], (96, 96, 3))
        return out, variables, picture, of_decoder

    out, variables, picture, of_decoder = jax.eval_shape(run, jax.random.key(0))
    assert out["map"].shape == (2, 12, 12, 128) and out["pooled"].shape == (2, 128)
    assert set(variables) == {"params"} and picture.shape == (2, 96, 96, 3)
    widths = [variables["params"][f"stage{i}_conv{j}"]["kernel"].shape[2:] for i in (1, 2, 3, 4) for j in (1, 2)]
    assert widths == [(3, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 128), (128, 128)]
    widths = [of_decoder["params"][f"stage{i}_conv{j}"]["kernel"].shape[2:] for i in (3, 2, 1) for j in (1, 2)]
    assert widths == [(128, 128), (128, 128), (128, 64), (64, 64), (64, 32), (32, 32)]
    assert encoder.smallest_image == 8


def test_encoder_against_plain_layers():
    encoder = autoencoder.autoencoder(widths=(2, 3, 4))
    x = image(12, 10)  # The last pool has a row of its own at the border.
    out, variables = jax.jit(lambda x: encoder.init_with_output(jax.random.key(0), x, train=True))(x)
    for i in (1, 2, 3):
        if i > 1:
            x = pool(x)
        x = twice(variables["params"], f"stage{i}", x)
    assert x.shape == (2, 3, 3, 4)
    np.testing.assert_allclose(out["map"], x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out["pooled"], x.mean((1, 2)), rtol=1e-4, atol=1e-5)


def test_pool_has_the_gradient_of_flax():
    x, weight = jnp.abs(image(7, 6)), image(4, 3, seed=1)
    ours = jax.grad(lambda x: (autoencoder.max_pool(x) * weight).sum())(x)
    flax = jax.grad(lambda x: (nn.max_pool(x, (2, 2), (2, 2), "SAME") * weight).sum())(x)
    np.testing.assert_array_equal(ours, flax)


def test_decoder_against_plain_layers():
    decoder = autoencoder.Decoder(width=2)
    x = image(2, 3, channels=4)
    first, variables = jax.jit(lambda x: decoder.init_with_output(jax.random.key(0), x, (7, 12, 3)))(x)
    np.testing.assert_array_equal(first, 0)
    params = variables["params"]
    params["image"]["kernel"] += jax.random.normal(jax.random.key(1), params["image"]["kernel"].shape)
    made = jax.jit(lambda x: decoder.apply({"params": params}, x, (7, 12, 3)))(x)
    x = twice(params, "stage2", np.repeat(np.repeat(x, 2, 1), 2, 2))
    x = twice(params, "stage1", np.repeat(np.repeat(x, 2, 1), 2, 2)[:, :7])
    np.testing.assert_allclose(made, convolve(params["image"], x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (5, 4), (16, 16), (18, 18)])
def test_decoder_reaches_the_image_from_any_map(size):
    shape = jax.eval_shape(
        lambda: autoencoder.Decoder().init_with_output(jax.random.key(0), jnp.zeros((2, *size, 4)), (17, 16, 1))[0]
    )
    assert shape.shape == (2, 17, 16, 1)


def test_bfloat16_computes_near_and_gives_float32():
    exact, coarse = (autoencoder.autoencoder(widths=(4, 4), dtype=jnp.dtype(d)) for d in ("float32", "bfloat16"))
    variables = exact.init(jax.random.key(0), image(), train=False)
    a, b = (e.apply(variables, image(), train=False)["map"] for e in (exact, coarse))
    assert b.dtype == jnp.float32
    assert 0 < np.abs(a - b).max() < 0.05 * np.abs(a).max()
