"""The precisions of `model.dtype`, and which of them "auto" is."""

from unittest import mock

import jax
import jax.numpy as jnp
import pytest

from jaxssl import models
from jaxssl.models import precision
from tests.refusals import refuses


@pytest.mark.parametrize(
    ("name", "width", "platform", "features", "expected"),
    [
        ("vit_small", 384, "cpu", {"avx512_bf16"}, "mixed"),
        ("vit_tiny", 192, "cpu", {"amx_bf16"}, "mixed"),
        ("resnet50", 64, "cpu", {"amx_bf16"}, "float32"),
        ("vit_tiny", 64, "cpu", {"amx_bf16"}, "float32"),
        ("vit_tiny", 192, "cpu", {"avx512f", "avx2"}, "float32"),
        ("efficientnet_lite0", 1.0, "cpu", {"amx_bf16"}, "float32"),
        ("resnet18", 16, "gpu", set(), "bfloat16"),
        ("autoencoder", None, "tpu", set(), "bfloat16"),
    ],
)
def test_auto_is_what_is_fastest(name, width, platform, features, expected):
    with mock.patch.object(precision, "cpu_features", lambda: features):
        assert precision.choose(name, {"width": width}, platform) == expected


def test_in_mixed_precision_outputs_are_float32_and_near_those_of_float32():
    image = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
    for name, options in (
        ("vit_tiny", {"width": 16, "depth": 1, "heads": 2, "patch": 8}),
        ("resnet18", {"width": 4, "stages": (1, 1)}),
    ):
        kinds = [models.make(name, precision.make_context(kind), options) for kind in ("float32", "mixed")]
        variables = jax.jit(lambda x, e=kinds[0]: e.init(jax.random.key(1), x, train=False))(image)
        exact, mixed = (
            jax.jit(lambda v, x, e=e: e.apply(v, x, train=False))(variables, image)["pooled"] for e in kinds
        )
        assert mixed.dtype == jnp.float32
        error = jnp.linalg.norm(mixed - exact) / jnp.linalg.norm(exact)
        assert 1e-5 < error < 0.02, name


def test_an_encoder_without_products_of_its_own_precision_is_refused():
    with refuses("mismatch", "model.dtype", "autoencoder"):
        models.make("autoencoder", precision.make_context("mixed"))
