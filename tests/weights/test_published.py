"""Published layouts against the features of timm and transformers (tests/golden/make_published.py), and their names."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import models
from jaxssl.models import vit
from jaxssl.weights import layouts
from jaxssl.weights.describe import list_networks
from jaxssl.weights.huggingface import to_huggingface
from jaxssl.weights.layouts import vit as vit_layout
from jaxssl.weights.load import from_torch, select, to_torch
from tests.golden import make_published
from tests.golden.make_efficientnet import values
from tests.refusals import refuses

GOLDEN = Path(__file__).parents[1] / "golden"
SHAPES = json.loads((GOLDEN / "published.json").read_text())
STORED = dict(np.load(GOLDEN / "published.npz"))
CASES = [tuple(re.fullmatch(r"(.*)_(\d+)", key).groups()) for key in STORED if not key.startswith("patch")]


def make_encoder(name):
    options = make_published.MODELS[name][-1]
    model = "convnext_tiny" if "convnext" in name else name.removeprefix("hf_") if "resnet" in name else "vit_tiny"
    return models.find(model.replace("resnet", "resnet18") if model == "resnet" else model)(**options)


@pytest.mark.parametrize(("name", "size"), CASES)
def test_features_as_published(name, size):
    encoder, size = make_encoder(name), int(size)
    loaded = from_torch(make_published.state(SHAPES[name]), encoder, 3, "made", size)
    image = make_published.images(size)
    ours = jax.jit(lambda v: encoder.apply(v, image, train=False)["pooled"])(loaded.variables)
    theirs = STORED[f"{name}_{size}"]
    assert np.abs(theirs).max() > 0.01
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())
    native = make_published.MODELS[name][3]
    resampled = size != native and hasattr(encoder, "positions")
    assert any("resampled" in change for change in loaded.changes) == resampled


@pytest.mark.parametrize("size", [8, 20])
def test_patches_are_resized_as_timm_does(size):
    kernel = np.asarray(values("patch", (4, 3, 16, 16)), np.float32)
    np.testing.assert_allclose(vit_layout.resize_patches(kernel, size), STORED[f"patch_{size}"], atol=1e-4)


@pytest.mark.parametrize("name", [name for name in SHAPES if make_published.MODELS[name][0] == "timm"])
def test_to_pytorch_and_back(name):
    """Positions of the class token come back within that token."""
    encoder, native = make_encoder(name), make_published.MODELS[name][3]
    variables = from_torch(make_published.state(SHAPES[name]), encoder, 3, "made", native).variables
    tensors = to_torch(encoder, variables, native)
    assert {key: list(array.shape) for key, array in tensors.items() if key != "pos_embed"} == {
        key: shape for key, shape in SHAPES[name].items() if key != "pos_embed"
    }
    back = from_torch(tensors, encoder, 3, "back", native).variables
    jax.tree.map(np.testing.assert_array_equal, back, variables)


@pytest.mark.parametrize("name", SHAPES)
def test_the_options_are_read_off_the_tensors(name):
    encoder = make_encoder(name)
    layout = layouts.find(encoder)
    found = layout.infer(select(make_published.state(SHAPES[name]), layout, "made").tensors)
    unknown = {"heads", "pool", "activation", "layer_scale", "norm_epsilon"}  # Not all are told by tensors.
    for option, value in make_published.MODELS[name][-1].items():
        if option not in unknown:
            assert found["options"][option] == value, option
    assert models.options(found["model"]).keys() >= found["options"].keys()


def test_images_of_another_size_resample_the_positions_on_the_way():
    """An encoder with positions of one grid takes images of another."""
    encoder = make_encoder("augreg")
    state = make_published.state(SHAPES["augreg"])
    native, other = (from_torch(state, encoder, 3, "made", size).variables for size in (48, 80))
    image = make_published.images(80)
    a, b = (encoder.apply(variables, image, train=False)["pooled"] for variables in (native, other))
    np.testing.assert_allclose(a, b, atol=1e-5)


def torchvision_names(tensors):
    """The tensors of a plain ViT of timm as torchvision's `vit_b_16` calls them."""
    renamed = {}
    for name, tensor in tensors.items():
        for ours, theirs in (
            (r"^cls_token", "class_token"),
            (r"^patch_embed.proj", "conv_proj"),
            (r"^pos_embed", "encoder.pos_embedding"),
            (r"^blocks.(\d+)", r"encoder.layers.encoder_layer_\1"),
            (r"^norm\.", "encoder.ln."),
            (r"\.norm(\d)", r".ln_\1"),
            (r"attn.qkv.", "self_attention.in_proj_"),
            (r"attn.proj", "self_attention.out_proj"),
            (r"mlp.fc1", "mlp.0"),
            (r"mlp.fc2", "mlp.3"),
        ):
            name = re.sub(ours, theirs, name)
        renamed[name] = tensor
    return renamed | {"heads.head.weight": np.zeros((3, 32), np.float32)}


def test_torchvision_names():
    encoder, state = make_encoder("augreg"), make_published.state(SHAPES["augreg"])
    expected = from_torch(state, encoder, 3, "made", 48)
    found = from_torch(torchvision_names(state), encoder, 3, "made", 48)
    jax.tree.map(np.testing.assert_array_equal, found.variables, expected.variables)
    assert found.naming == "torchvision" and found.left_out == ("heads.head.weight",)


CLIP_NAMES = {
    "OpenCLIP": (
        (r"^cls_token", "class_embedding"),
        (r"^pos_embed", "positional_embedding"),
        (r"^patch_embed.proj", "conv1"),
        (r"^norm_pre", "ln_pre"),
        (r"^norm\.", "ln_post."),
        (r"^blocks", "transformer.resblocks"),
        (r"\.norm(\d)", r".ln_\1"),
        (r"attn.qkv.", "attn.in_proj_"),
        (r"attn.proj", "attn.out_proj"),
        (r"mlp.fc1", "mlp.c_fc"),
        (r"mlp.fc2", "mlp.c_proj"),
    ),
    "CLIP, SigLIP in Hugging Face": (
        (r"^cls_token", "embeddings.class_embedding"),
        (r"^pos_embed", "embeddings.position_embedding.weight"),
        (r"^patch_embed.proj", "embeddings.patch_embedding"),
        (r"^norm_pre", "pre_layrnorm"),
        (r"^norm\.", "post_layernorm."),
        (r"^blocks", "encoder.layers"),
        (r"\.norm(\d)", r".layer_norm\1"),
        (r"attn.proj", "self_attn.out_proj"),
    ),
}


@pytest.mark.parametrize(
    ("naming", "prefix"), [("OpenCLIP", "visual."), ("CLIP, SigLIP in Hugging Face", "vision_model.")]
)
def test_other_names_of_clip(naming, prefix):
    """Of the whole model, whose text tower and projections are left out."""
    encoder, state = make_encoder("clip"), make_published.state(SHAPES["clip"])
    renamed = {"logit_scale": np.zeros(()), "text_model.a": np.zeros(2), "proj": np.zeros(2)}
    for name, tensor in state.items():
        for ours, theirs in CLIP_NAMES[naming]:
            name = re.sub(ours, theirs, name)
        tensor = tensor[0] if name.endswith(("positional_embedding", "position_embedding.weight")) else tensor
        tensor = tensor.reshape(-1) if name.endswith("class_embedding") else tensor
        if naming != "OpenCLIP" and "attn.qkv" in name:
            for part, array in zip("qkv", np.split(tensor, 3), strict=True):
                renamed[prefix + name.replace("attn.qkv", f"self_attn.{part}_proj")] = array
        else:
            renamed[prefix + name] = tensor
    found = from_torch(renamed, encoder, 3, "made", 48)
    expected = from_torch(state, encoder, 3, "made", 48)
    jax.tree.map(np.testing.assert_array_equal, found.variables, expected.variables)
    assert (found.naming, found.prefix) == (naming, prefix)
    assert set(found.left_out) == {"logit_scale", "text_model.a", "proj"}
    assert list_networks(renamed)[0].model["options"]["pre_norm"]


def test_weights_that_are_not_finite_are_refused():
    state = make_published.state(SHAPES["augreg"])
    state["norm.weight"] = np.full_like(state["norm.weight"], np.nan)
    with refuses("damaged", "init.weights", "norm.weight"):
        from_torch(state, make_encoder("augreg"), 3, "made", 48)


@pytest.mark.parametrize("tensor", ["blocks.0.attn.rel_pos_h", "blocks.1.attn.relative_position_bias_table"])
def test_transformers_with_relative_positions_are_refused(tensor):
    """SAM, MedSAM and BEiT: the message names what they have."""
    state = make_published.state(SHAPES["augreg"]) | {tensor: np.zeros((3, 2), np.float32)}
    with refuses("mismatch", "model.name", "relative positions", tensor):
        from_torch(state, make_encoder("augreg"), 3, "made", 48)
    assert "SAM" in list_networks(state)[0].problem


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"rope_embed.periods": (16,), "storage_tokens": (1, 4, 32)}, "rotary positions .RoPE.*rope_embed.periods"),
        ({"blocks.0.gamma_1": (32,), "reg_token": (1, 4, 32)}, "rotary positions .RoPE.*blocks.0.gamma_1"),
        ({"dist_token": (1, 1, 32)}, "a distillation token"),
    ],
)
def test_a_vit_with_other_parts_is_refused_by_their_name(tensors, says):
    """DINOv3 as its authors and timm publish it, and DeiT."""
    state = make_published.state(SHAPES["augreg"] | tensors)
    found = list_networks(state)[0]
    assert re.search(says, found.problem) and not found.model


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("embeddings.register_tokens", "layer.0.norm1.weight"), "RoPE.*ConvNeXts are read"),
        (("vision_encoder.layers.0.attn.rel_pos_h",), "relative positions, as SAM"),
        (("encoder.stages.0.layers.0.grn.weight",), "ConvNeXt V2"),
        (("features.denseblock1.norm.weight",), "jaxssl reads ResNets, ViTs"),
    ],
)
def test_a_file_without_a_known_network_says_what_it_has(names, says):
    assert re.search(says, layouts.explain_unknown(names))


def test_relatives_of_resnets_are_refused_by_what_they_have():
    """ResNeXt, wide ResNet and ResNet-D, which share the names of torchvision's ResNets."""
    state = {key: np.ones(shape, np.float32) for key, shape in {"conv1.weight": (4, 3, 7, 7)}.items()}
    for shape, says in (((4, 2, 3, 3), "ResNeXts"), ((8, 8, 3, 3), "wide ResNets")):
        block = {"layer1.0.conv1.weight": np.ones((4, 4, 1, 1), "f4"), "layer1.0.conv2.weight": np.ones(shape, "f4")}
        assert says in list_networks(state | block)[0].problem
    deep = {"conv1.0.weight": np.ones((4, 3, 3, 3), "f4"), "layer1.0.conv1.weight": np.ones((4, 4, 3, 3), "f4")}
    assert "ResNet-D" in list_networks(deep)[0].problem


def test_older_names_of_hugging_face():
    """As in the files of RAD-DINO and of DINOv2, which later versions rename."""
    long = {"q": "query", "k": "key", "v": "value"}
    for name in ("hf_vit", "hf_dinov2", "hf_dinov2_registers"):
        encoder, state = make_encoder(name), make_published.state(SHAPES[name])
        renamed = {}
        for key, tensor in state.items():
            key = re.sub(r"attention\.([qkv])_proj", lambda m: f"attention.attention.{long[m[1]]}", key)
            key = key.replace("attention.o_proj", "attention.output.dense")
            if name == "hf_vit":
                key = re.sub(r"^layers\.", "encoder.layer.", key)
                key = key.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")
            renamed[key.replace("mlp.down_proj", "mlp.weights_out")] = tensor
        for kind in ("weight", "bias"):
            for i in range(2) if name == "hf_dinov2_registers" else ():
                parts = [renamed.pop(f"encoder.layer.{i}.mlp.{part}_proj.{kind}") for part in ("gate", "up")]
                renamed[f"encoder.layer.{i}.mlp.weights_in.{kind}"] = np.concatenate(parts)
        size = make_published.MODELS[name][3]
        expected, found = (from_torch(s, encoder, 3, "made", size).variables for s in (state, renamed))
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_dinov2_as_its_authors_name_it():
    encoder, state = make_encoder("dinov2_registers"), make_published.state(SHAPES["dinov2_registers"])
    renamed = {re.sub(r"^blocks\.", "blocks.0.", key): tensor for key, tensor in state.items()}
    renamed["register_tokens"] = renamed.pop("reg_token")
    renamed["mask_token"] = np.zeros((1, 32), np.float32)
    zero = np.zeros((1, 1, 32), np.float32)  # The class token has a position, the registers have none.
    renamed["pos_embed"] = np.concatenate([zero + 1, renamed["pos_embed"]], axis=1)
    found = from_torch(renamed, encoder, 3, "made", 56)
    expected = from_torch(state, encoder, 3, "made", 56).variables
    np.testing.assert_allclose(found.variables["params"]["cls_token"], expected["params"]["cls_token"] + 1)
    np.testing.assert_array_equal(found.variables["params"]["reg_token"], expected["params"]["reg_token"])
    assert found.left_out == ("mask_token",)


def test_convnext_as_its_authors_name_it():
    encoder, state = make_encoder("convnext"), make_published.state(SHAPES["convnext"])
    renamed = {}
    for key, tensor in state.items():
        key = re.sub(r"^stem\.", "downsample_layers.0.", key)
        key = re.sub(r"^stages\.(\d)\.downsample", r"downsample_layers.\1", key)
        key = re.sub(r"\.blocks\.(\d)", r".\1", key).replace("conv_dw", "dwconv").replace("head.norm", "norm")
        renamed[re.sub(r"mlp\.fc(\d)", r"pwconv\1", key)] = tensor
    expected, found = (from_torch(s, encoder, 3, "made", 64) for s in (state, renamed))
    jax.tree.map(np.testing.assert_array_equal, found.variables, expected.variables)
    assert found.naming == "ConvNeXt and DINOv3"


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "teacher.backbone.", "model.encoder."])
def test_a_prefix_is_found_and_what_is_beside_it_is_named(prefix):
    encoder, state = make_encoder("augreg"), make_published.state(SHAPES["augreg"])
    wrapped = {prefix + key: tensor for key, tensor in state.items()} | {"projector.0.weight": np.zeros((2, 2), "f4")}
    found = from_torch(wrapped, encoder, 3, "made", 48)
    assert (found.prefix, found.left_out) == (prefix, ("projector.0.weight",))


def test_of_two_networks_the_user_chooses():
    encoder, state = make_encoder("augreg"), make_published.state(SHAPES["augreg"])
    two = {
        f"{side}.backbone.{key}": tensor + (side == "teacher")
        for side in ("student", "teacher")
        for key, tensor in state.items()
    }
    with refuses("conflict", "init.prefix", "'student.backbone.', 'teacher.backbone.'"):
        from_torch(two, encoder, 3, "made", 48)
    with refuses("unknown-name", "init.prefix", "'teacher.'"):
        from_torch(two, encoder, 3, "made", 48, "teacher.")
    found = from_torch(two, encoder, 3, "made", 48, "teacher.backbone.").variables["params"]["blocks_0"]["fc1"]["bias"]
    np.testing.assert_array_equal(found, state["blocks.0.mlp.fc1.bias"] + 1)


def test_lightly_numbers_the_modules_of_a_resnet():
    encoder = models.find("resnet18")(width=4, stages=(1, 1))
    variables = encoder.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    tensors = to_torch(encoder, variables, 32)
    numbered = {}
    for key, tensor in tensors.items():
        key = re.sub(r"^layer(\d)", lambda m: str(int(m[1]) + 3), key)
        numbered["backbone." + re.sub(r"^bn1", "1", re.sub(r"^conv1", "0", key))] = tensor
    found = from_torch(numbered, encoder, 3, "made", 32)
    jax.tree.map(np.testing.assert_array_equal, found.variables, variables)
    assert found.naming == "torch.nn.Sequential" and not found.left_out


def test_computed_positions_are_learnt_ones_to_an_encoder_that_learns():
    """MAE's weights at another size: the resampled table, and not the table of that size."""
    computed = vit.vit_tiny(width=32, depth=1, heads=2)
    variables = computed.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), train=False)
    tensors = to_torch(computed, variables, 64)
    learns = vit.vit_tiny(width=32, depth=1, heads=2, positions="learnt")
    found = from_torch(tensors, learns, 3, "made", 64)
    np.testing.assert_allclose(
        found.variables["params"]["pos_embed"].reshape(16, 32), vit.sincos_positions(4, 4, 32), atol=1e-6
    )
    assert not from_torch(tensors, computed, 3, "made", 64).changes
    with refuses("mismatch", "model.options.positions", "4x4 patches", "2x2", "'learnt', which resamples"):
        from_torch(tensors, computed, 3, "made", 32)


@pytest.mark.parametrize("name", ["hf_vit", "hf_dinov2", "hf_dinov2_registers"])
def test_to_hugging_face_and_back(name):
    """Names and shapes of transformers' own models, but for the pooler, which an encoder does not have."""
    encoder, native = make_encoder(name), make_published.MODELS[name][3]
    variables = from_torch(make_published.state(SHAPES[name]), encoder, 3, "made", native).variables
    code, tensors = to_huggingface(encoder, variables, native)
    expected = {key: shape for key, shape in SHAPES[name].items() if not key.startswith("pooler.")}
    assert {key: list(array.shape) for key, array in tensors.items()} == expected
    back = from_torch(tensors, encoder, 3, "back", native).variables
    jax.tree.map(np.testing.assert_array_equal, back, variables)
    assert f"image_size={native}" in code and "num_attention_heads=2" in code


def test_what_hugging_face_has_no_model_for_is_refused():
    for options in (
        {"qk_norm": True},
        {"pool": "fc_norm"},
        {"registers": 4},
        {"activation": "swiglu", "layer_scale": 1.0},
    ):
        encoder = models.make("vit_tiny", {}, {"width": 32, "heads": 2, "mlp_width": 85} | options)
        with refuses("unsupported", "--naming", "--naming=timm"):
            to_huggingface(encoder, {}, 32)
    with refuses("unsupported", "--naming", "ViTs"):
        to_huggingface(models.make("resnet18", {}, {}), {}, 32)
