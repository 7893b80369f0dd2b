"""Programs for accelerators, read on a machine without one: steps lowered for CUDA and TPU, but not compiled."""

import re
from unittest import mock

import jax
import pytest

from jaxssl import models, objectives
from jaxssl.augment import views
from jaxssl.models import efficientnet, resnet
from jaxssl.models.cpu_conv import max_pool
from jaxssl.models.precision import make_context
from jaxssl.training import optimizers, sharding
from jaxssl.training import step as steps
from tests import tiny

ENCODERS = {
    "resnet18": {"stages": (1, 1), "width": 8},
    "resnet50": {"stages": (1, 1), "width": 8},
    "efficientnet_lite0": {},
    "convnext_tiny": {"depths": (1, 1), "widths": (8, 16)},
    "conv_attention": {"widths": (8, 16), "heads": 2},
    "autoencoder": {"widths": (8, 16)},
    "vit_tiny": {"width": 16, "depth": 1, "heads": 2, "patch": 8},
}
OBJECTIVES = {
    "byol": {"hidden": 16, "projection": 8},
    "ntxent": {"hidden": 16, "projection": 8},
    "mae": {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2},
    "supervised": {},
    "rotation": {},
    "inpaint": {"decoder_width": 4},
    "pairs": {"hidden": 16, "projection": 8, "pairs_from": "labels"},
}
# What XLA has for random numbers and for placing arrays; nothing of ours.
CUSTOM_CALLS = {"cu_threefry2x32_ffi", "Sharding"}


def lower(objective, encoder, precision, platform):
    """Returns the program of a training step as text."""
    encoder = models.make(encoder, {"stem": "imagenet", **make_context(precision)}, ENCODERS[encoder])
    made = objectives.make(objective, encoder, {"classes": 3, "steps": 10}, OBJECTIVES[objective])
    view = views.make(tiny.PIXELS, size=32, views=made.views, crop_area=(0.5, 1.0), rotate90=True, noise=0.1)
    tx, batch = optimizers.make("adamw", learning_rate=0.1, steps=10), tiny.batch(8, side=32)
    shapes = jax.eval_shape(lambda key: steps.init_state(key, batch, made, view, tx), jax.random.key(0))
    step = steps.jit_step(sharding.make_mesh(1, 1), shapes, made, view, tx)
    return step.trace(shapes, batch).lower(lowering_platforms=(platform,)).as_text()


def check(text, precision):
    calls = set(re.findall(r"custom_call @(\w+)", text))
    assert calls <= CUSTOM_CALLS, calls
    assert "callback" not in text and "f64" not in text
    lines = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    if precision == "bfloat16":
        assert all(line.rsplit(" : ", 1)[1].count("bf16") == 3 for line in lines), "a convolution in float32"
        assert any("bf16" in line for line in lines + products)
    else:
        assert "bf16" not in text
    return len(lines)


def lower_natively(*args):
    """As `lower`, of an encoder with XLA's own convolution and pooling."""
    convolution = jax.lax.conv_general_dilated
    with (
        mock.patch.multiple(resnet, conv_general_dilated=convolution, max_pool=max_pool.native_max_pool),
        mock.patch.object(efficientnet, "conv_general_dilated", convolution),
    ):
        return lower(*args)


@pytest.mark.parametrize(
    ("objective", "encoder", "precision", "platform"),
    [("byol", "resnet18", "bfloat16", "cuda"), ("mae", "vit_tiny", "bfloat16", "tpu")],
)
def test_a_step_is_what_it_is_natively(objective, encoder, precision, platform):
    found, native = (make(objective, encoder, precision, platform) for make in (lower, lower_natively))
    assert check(found, precision) == check(native, precision)


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_step_is_what_it_is_natively(objective, encoder, precision, platform):
    if (objective == "mae") != (encoder == "vit_tiny") and objective in ("mae", "inpaint"):
        pytest.skip("the objective does not take the encoder")
    test_a_step_is_what_it_is_natively(objective, encoder, precision, platform)
