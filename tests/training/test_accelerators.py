"""Programs for accelerators, read on a machine without one: lowered for CUDA and TPU; compiled for GPUs (slow)."""

import importlib.util
import math
import os
import re
from functools import cache

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache
from planning import chips, compiler, hlo

from jaxssl import models, objectives
from jaxssl.augment import views
from jaxssl.models import decoder
from jaxssl.models.precision import make_context
from jaxssl.objectives import segmentation
from jaxssl.objectives.distill import Teacher
from jaxssl.training import lora, optimizers, sharding
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
PROJECTED = {"hidden": 16, "projection": 8}
OBJECTIVES = {
    "byol": PROJECTED,
    "distill": {},
    "dense": {**PROJECTED, "dense": 0.5},
    "inpaint": {"decoder_width": 4},
    "lora": {},
    "mae": {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2},
    "mutual": {},
    "ntxent": PROJECTED,
    "pairs": {**PROJECTED, "pairs_from": "labels"},
    "rotation": {},
    "supervised": {},
    "segment": {},
    "segment_linear": {},
}
NAMES = {"dense": "ntxent", "lora": "supervised"}
NEEDS = {"mae": ("vit_tiny",), "lora": ("vit_tiny",), "dense": ("resnet18", "resnet50", "convnext_tiny")}
SIDE, BATCH = 32, 8
# What XLA has for random numbers and for placing arrays; nothing of ours.
CUSTOM_CALLS = {"cu_threefry2x32_ffi", "Sharding"}


def make(objective, encoder, precision):
    """Return an objective on an encoder, and the shapes of what its loss takes."""
    encoder = models.make(encoder, {"stem": "imagenet", **make_context(precision)}, ENCODERS[encoder])
    key, image = jax.eval_shape(jax.random.key, 0), jax.ShapeDtypeStruct((BATCH, SIDE, SIDE, 1), "float32")
    if objective.startswith("segment"):
        made = segmentation.make(encoder, decoder.make(objective, 3, encoder.dtype))
    else:
        context = {"classes": 3, "steps": 10}
        if objective == "distill":
            variables = jax.eval_shape(lambda key, x: encoder.init(key, x, train=False), key, image)
            zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), variables)
            context["teacher"] = Teacher("t", lambda v, x: encoder.apply(v, x, train=False)["pooled"], zeros, 1)
        made = objectives.make(NAMES.get(objective, objective), encoder, context, OBJECTIVES[objective])
    if objective == "lora":
        made = lora.adapt(made, 2, 2.0, ("q", "v"))
    batch = {"views": (image,) * made.views, "label": jax.ShapeDtypeStruct((BATCH,), "int32")}
    batch["masks"] = (jax.ShapeDtypeStruct(image.shape[:3], "uint8"),) * made.views
    return made, (*jax.eval_shape(made.init, key, batch), batch, key)


def make_step(objective, encoder, precision, mesh):
    """Return the whole training step, the shapes of its state, a batch and the number of convolutions."""
    made, shapes = make(objective, encoder, precision)
    view = views.make(tiny.PIXELS, size=SIDE, views=made.views, crop_area=(0.5, 1.0), rotate90=True, noise=0.1)
    tx, batch = optimizers.make("adamw", learning_rate=0.1, steps=10), tiny.batch(BATCH, side=SIDE)
    if objective.startswith("segment"):
        batch["mask"] = batch["image"][..., 0]
    state = jax.eval_shape(lambda key: steps.init_state(key, batch, made, view, tx), jax.random.key(0))
    return steps.jit_step(mesh, state, made, view, tx), state, batch, count_convolutions(objective, *shapes[:3])


def count_convolutions(objective, params, model_state, target):
    """Return how many a training step has: one of each kernel forward, one for the gradient of each kernel, and one for
    that of each input but the image."""

    def kernels(tree):
        return sum(leaf.ndim == 4 for leaf in jax.tree.leaves(tree))

    of_images = sum(name.endswith("encoder") for name in params)
    constant = kernels(target) if objective in ("byol", "distill") else 0
    return max(0, 3 * kernels(params) - of_images) + constant


def lines_as_often_as_run(text, operation):
    """Return the lines with an operation of a lowered program, as often as its functions are called."""
    functions = dict(re.findall(r"func\.func \w+ @(\w+)\((.*?)(?=\n  func\.func |\Z)", text, re.DOTALL))

    @cache
    def within(name):
        lines = []
        for line in functions[name].splitlines():
            called = re.search(r"\bcall @(\w+)\(", line)
            lines += within(called[1]) if called else [line] * (operation in line)
        return lines

    return within("main")


def check(text, precision, convolutions):
    """No custom call of ours, no callback, no float64; convolutions as many as there must be, in the right type."""
    calls = set(re.findall(r"custom_call @(\w+)", text))
    assert calls <= CUSTOM_CALLS, calls
    assert "callback" not in text and "f64" not in text
    lines = lines_as_often_as_run(text, "stablehlo.convolution")
    assert len(lines) == convolutions
    if precision == "bfloat16":
        assert all(line.rsplit(" : ", 1)[1].count("bf16") == 3 for line in lines), "a convolution in float32"
        assert "bf16" in text
    else:
        assert "bf16" not in text


def test_every_objective_and_every_family_of_encoders_is_lowered():
    assert {NAMES.get(name, name) for name in OBJECTIVES if "segment" not in name} == {*objectives.available()}
    families = models.available()
    assert {families[name] for name in ENCODERS} == {*families.values()}


@pytest.mark.parametrize(
    ("objective", "encoder", "precision"),
    [
        ("byol", "resnet18", "bfloat16"),
        ("dense", "resnet18", "bfloat16"),
        ("distill", "convnext_tiny", "bfloat16"),
        ("inpaint", "autoencoder", "bfloat16"),
        ("lora", "vit_tiny", "bfloat16"),
        ("mae", "vit_tiny", "bfloat16"),
        ("mutual", "convnext_tiny", "float32"),
        ("ntxent", "resnet50", "bfloat16"),
        ("pairs", "resnet18", "bfloat16"),
        ("rotation", "conv_attention", "bfloat16"),
        ("segment", "resnet18", "bfloat16"),
        ("supervised", "convnext_tiny", "bfloat16"),
    ],
)
def test_a_gradient_is_native_on_accelerators(objective, encoder, precision):
    made, shapes = make(objective, encoder, precision)
    traced = jax.jit(jax.grad(made.loss, has_aux=True)).trace(*shapes)
    for platform in ("cuda", "tpu"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        check(text, precision, count_convolutions(objective, *shapes[:3]))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_step_is_native_on_accelerators(objective, encoder, precision):
    if encoder not in NEEDS.get(objective, ENCODERS) or (objective == "inpaint" and encoder == "vit_tiny"):
        pytest.skip("the objective does not take the encoder")
    step, state, batch, convolutions = make_step(objective, encoder, precision, sharding.make_mesh(1, 1))
    traced = step.trace(state, batch)
    for platform in ("cuda", "tpu"):
        check(traced.lower(lowering_platforms=(platform,)).as_text(), precision, convolutions)


# Compiled for GPUs, by the compiler that launch/plan.py uses.

# With a GPU in view, the plugin wants NVIDIA's libraries before it is of any use.
needs_cuda = pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda13_plugin") is None or os.environ.get("JAX_PLATFORMS") != "cpu",
    reason="jax-cuda13-plugin is not installed, or JAX_PLATFORMS is not cpu",
)


@pytest.fixture
def no_cache():
    """Without the compilation cache: a program for a device that is not here can be stored and not read."""
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()


@needs_cuda
@pytest.mark.slow
@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize(("topology", "fsdp"), [("a100:1", 1), ("h100:8", 2)])
@pytest.mark.parametrize(
    ("objective", "encoder", "precision"),
    [
        ("ntxent", "resnet18", "bfloat16"),
        ("byol", "resnet18", "float32"),
        ("mae", "vit_tiny", "bfloat16"),
        ("supervised", "convnext_tiny", "bfloat16"),
    ],
)
def test_a_step_compiles_for_gpus(objective, encoder, precision, topology, fsdp, monkeypatch):
    """Convolutions are cuDNN's, no other custom call is ours, the state is donated, and FSDP exchanges parts."""
    monkeypatch.setattr(sharding, "MIN_SHARDED_SIZE", 64)
    place = chips.parse_topology(topology)
    mesh = sharding.make_mesh(-1, fsdp, compiler.gpu_devices(place))
    step, state, batch, convolutions = make_step(objective, encoder, precision, mesh)

    def placed(tree, shardings):
        return jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), tree, shardings)

    shardings = sharding.state_shardings(mesh, state)
    state = placed(state, shardings)
    batch = placed(batch, {name: sharding.batch_sharding(mesh) for name in batch})
    compiled = step.lower(state, batch).compile(compiler.UNTUNED)
    text, memory = compiled.as_text(), compiled.memory_analysis()
    targets = re.findall(r'custom_call_target="([^"]+)"', text)
    assert {name.split("$")[0] for name in targets} <= {"__cudnn", "__cublas", "cu_threefry2x32_ffi"}, {*targets}
    assert sum(name.startswith("__cudnn$conv") for name in targets) == convolutions
    parts = ((s.shard_shape(a.shape), a.dtype) for a, s in zip(*map(jax.tree.leaves, (state, shardings)), strict=True))
    own = sum(math.prod(shape) * dtype.itemsize for shape, dtype in parts if dtype != state.key.dtype)
    assert memory.alias_size_in_bytes >= 0.99 * own
    kinds = {c.kind for c in hlo.collectives(text)}
    assert kinds == set() if place.chips == 1 else {"all-gather", "reduce-scatter", "all-reduce"} <= kinds
