"""What a file of weights holds, and which encoder it fits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxssl import models
from jaxssl.errors import UserError
from jaxssl.files import hash_file
from jaxssl.weights import layouts
from jaxssl.weights.layouts.naming import Layout
from jaxssl.weights.load import check_supported, from_torch, read, select
from jaxssl.weights.provenance import count_groups, read_notes


class Network(NamedTuple):
    """One network in a file.

    Attributes:
      family: class of `jaxssl.models` that takes it.
      naming: of its tensors.
      prefix: of the names of its tensors.
      model: config values "name", "stem" and "options" (those that differ from the defaults); {} if it is incomplete.
      channels: of its images; 0 if it is incomplete.
      size: side in pixels of the images that its positions are for; None without positions.
      left_out: tensors that are not used, by the first part of their names.
      problem: why it does not fit the model after all; "" if it does.
    """

    family: str
    naming: str
    prefix: str
    model: dict[str, Any]
    channels: int
    size: int | None
    left_out: dict[str, int]
    problem: str


class Description(NamedTuple):
    """Content of a file of weights.

    Attributes:
      file: its path.
      sha256: its SHA-256.
      tensors: number of tensors.
      parameters: number of numbers in them.
      notes: metadata of the file.
      networks: those with a known layout.
      groups: tensors by the first part of their names.
      unknown: why there are no such networks.
    """

    file: Path
    sha256: str
    tensors: int
    parameters: int
    notes: dict[str, str]
    networks: tuple[Network, ...]
    groups: dict[str, int]
    unknown: str


def describe(file: Path) -> Description:
    """Describe a `.safetensors`, `.pth` or `.pt` file.

    Raises:
      UserError: it cannot be read.
    """
    tensors = read(file)
    return Description(
        file,
        hash_file(file),
        len(tensors),
        sum(tensor.size for tensor in tensors.values()),
        read_notes(file),
        tuple(list_networks(tensors)),
        count_groups(tensors),
        layouts.explain_unknown(tensors),
    )


def list_networks(tensors: Mapping[str, np.ndarray]) -> list[Network]:
    """Describe all networks among the tensors of a file."""
    return [
        describe_network(tensors, layout, prefix)
        for layout in layouts.available()
        if layout.infer
        for prefix, _ in layouts.find_prefixes(tensors, layout)
    ]


def describe_network(tensors: Mapping[str, np.ndarray], layout: Layout, prefix: str) -> Network:
    """Describe the network of one layout and prefix."""
    selected = select(tensors, layout, "the file", prefix)
    assert layout.infer
    family, title, left_out = layout.encoder.__name__, selected.naming.title, count_groups(selected.left_out)
    try:
        check_supported(selected, layout, "it")
        found = layout.infer(selected.tensors)
    except UserError as error:
        return Network(family, title, prefix, {}, 0, None, left_out, reason(error))
    except (KeyError, ValueError, IndexError) as error:
        return Network(family, title, prefix, {}, 0, None, left_out, f"tensors are missing, such as {error}")
    defaults = models.options(found["model"])
    options = {name: value for name, value in found["options"].items() if value != defaults[name]}
    kernel = selected.tensors.get(layout.first_layer)
    channels, size = kernel.shape[1] if kernel is not None else 3, found.get("size")
    problem = ""
    try:
        encoder = models.make(found["model"], {"stem": found["stem"]}, found["options"])
        from_torch(tensors, encoder, channels, "it", size or encoder.smallest_image, prefix)
    except UserError as error:
        problem = reason(error)
    model = {"name": found["model"], "stem": found["stem"], "options": options}
    return Network(family, title, prefix, model, channels, size, left_out, problem)


def reason(error: UserError) -> str:
    """Return why a network does not fit, without that it does not."""
    return str(error).removeprefix("it does not fit this encoder: ")
