"""What a layout is made of: names and axes of flax and of PyTorch."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from flax import traverse_util

Tensors = dict[str, np.ndarray]
Path = tuple[str, ...]

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


class Naming(NamedTuple):
    """Names in which one library or paper publishes a family of networks.

    Attributes:
      title: what the naming is called.
      anchor: name of a tensor that each such network has.
      rules: (regular expression, replacement) from these names to those of the first naming of the family, applied one
        after the other.
    """

    title: str
    anchor: str
    rules: tuple[tuple[str, str], ...] = ()

    def rename(self, name: str) -> str:
        for pattern, replacement in self.rules:
            name = re.sub(pattern, replacement, name)
        return name


def name_variables(encoder: nn.Module, variables: Mapping, modules: Mapping[str, str]) -> dict[str, jax.Array]:
    """Return the variables by their names in PyTorch, and with its axes."""
    del encoder
    return {torch_name(path, modules): to_torch_axes(path, leaf) for path, leaf in flatten(variables).items()}


def keep_tensors(tensors: Tensors, encoder: nn.Module, size: int, changes: list[str]) -> Tensors:
    """Return the tensors as they are: the `convert` of a layout whose names suffice."""
    del encoder, size, changes
    return tensors


def add_batch_counts(encoder: nn.Module, tensors: Tensors, size: int) -> Tensors:
    """Add PyTorch's count of batches, 0, for each batch norm."""
    del encoder, size
    names = [name.replace("running_mean", "num_batches_tracked") for name in tensors if name.endswith("running_mean")]
    return {**tensors, **{name: np.zeros((), np.int64) for name in names}}


class Layout(NamedTuple):
    """How the weights of one class of encoders are published.

    Attributes:
      encoder: class of `jaxssl.models`.
      first_layer: name of the kernel that is adapted to the number of channels.
      namings: those in which such weights are published. The first is that of `to_torch`; all else refers to it.
      modules: names of the encoder's modules -> names in PyTorch, where they differ.
      left_out: starts of the names of tensors that are not part of the encoder.
      unsupported: (regular expression, what) of tensors that the encoder has no counterpart of.
      name_variables: (encoder, variables, modules) -> the variables with names and axes of PyTorch.
      convert: (tensors, encoder, size, changes) -> the tensors, fitted to the encoder and to images of `size` pixels;
        `changes` gets a sentence for each tensor that is changed.
      finish: (encoder, tensors, size) -> what `name_variables` returned as the state dict of PyTorch, in NumPy arrays.
      infer: tensors -> {"model", "stem", "options", "size"} that they fit; None if that is not known.
    """

    encoder: type[nn.Module]
    first_layer: str
    namings: tuple[Naming, ...]
    modules: Mapping[str, str] = {}
    left_out: tuple[str, ...] = ("head.", "fc.", "classifier.")
    unsupported: tuple[tuple[str, str], ...] = ()
    name_variables: Callable[..., dict[str, jax.Array]] = name_variables
    convert: Callable[..., Tensors] = keep_tensors
    finish: Callable[..., Tensors] = add_batch_counts
    infer: Callable[[Tensors], dict[str, Any]] | None = None


def torch_name(path: Path, modules: Mapping[str, str]) -> str:
    """Return the name of a variable in PyTorch, with `modules` renamed.

    >>> torch_name(("params", "layer1_0", "downsample_conv", "kernel"), {"downsample_conv": "downsample.0"})
    'layer1.0.downsample.0.weight'
    """
    *parents, leaf = path[1:]
    parents = [modules.get(module, re.sub(r"_(\d+)", r".\1", module)) for module in parents]
    return ".".join([*parents, LEAVES.get(leaf, leaf)])


def flatten(variables: Mapping) -> dict[Path, Any]:
    """Return {path: leaf} of nested dictionaries."""
    return traverse_util.flatten_dict(variables)  # pyright: ignore[reportReturnType]


def to_torch_axes(path: Path, leaf: jax.Array) -> jax.Array:
    """[kh, kw, C, D] -> [D, C, kh, kw] and [C, D] -> [D, C] for kernels; other variables stay."""
    if path[-1] != "kernel":
        return leaf
    return leaf.transpose(3, 2, 0, 1) if leaf.ndim == 4 else leaf.T


def from_torch_axes(path: Path, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Inverse of `to_torch_axes`, reshaped to `shape`."""
    if path[-1] == "kernel":
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    return np.ascontiguousarray(array).reshape(shape)


def adapt_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Adapt the first layer [D, C, kh, kw] to other channels: the mean over the C, times C / channels, for each.

    A grey image then gives the same features in any number of equal channels. C channels stay as they are.
    """
    if channels == kernel.shape[1]:
        return kernel
    return np.repeat(kernel.mean(1, keepdims=True) * (kernel.shape[1] / channels), channels, axis=1)
