"""The pretrained weights that a run starts from (`init.*`): loaded, named and described."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import linen as nn
from ml_collections import ConfigDict

from jaxssl import files
from jaxssl.errors import UserError
from jaxssl.files import hash_file
from jaxssl.inference import trained
from jaxssl.models.shapes import shapes_of
from jaxssl.results import workdir as results
from jaxssl.run.leakage import find_workdir
from jaxssl.training import checkpoint
from jaxssl.weights import layouts
from jaxssl.weights.load import Loaded, find_file, from_torch, load, to_torch
from jaxssl.weights.merge import describe_difference, merge
from jaxssl.weights.provenance import PACKAGED, count_groups, name_weights, read_notes

Tree = Any
log = logging.getLogger(__name__)


class Initial(NamedTuple):
    """Pretrained weights.

    Attributes:
      variables: of the encoder.
      description: "init" of results.json.
    """

    variables: Tree
    description: dict[str, Any]


def load_initial(config: ConfigDict, encoder: nn.Module, channels: int) -> Initial | None:
    """Load the weights of `init.weights`; None for random ones.

    Raises:
      UserError: they cannot be read, or do not fit the encoder.
    """
    spec, size = config.init.weights, config.data.image_size
    if not spec:
        return None
    name = name_weights(spec, config.init.name)
    if spec != PACKAGED and files.expand_user(spec).is_dir():
        folder = files.expand_user(spec)
        load_folder = load_run if (folder / "config.json").exists() else load_orbax
        return load_folder(folder, name, encoder, channels, size)
    loaded = load(spec, encoder, channels, size, config.init.prefix)
    file = find_file(spec, encoder)
    description = {
        "name": name,
        "weights": spec,
        "sha256": hash_file(file),
        "license": read_notes(file).get("license"),
        "naming": loaded.naming,
        "prefix": loaded.prefix,
        "left_out": count_groups(loaded.left_out),
        "changes": log_changes(f"init.weights={spec!r}", loaded),
        "training_images_known": "known" in read_notes(file),
    }
    return Initial(loaded.variables, description)


def load_run(workdir: Path, name: str, encoder: nn.Module, channels: int, size: int) -> Initial:
    """Load the pretrained encoder of a finished run.

    One for other channels, positions or patches is adapted as that of a file is.

    Raises:
      UserError: there is no finished run, or its encoder is another one.
    """
    where = f"init.weights={str(workdir)!r}"
    try:
        network = trained.load(workdir)
        own_size = results.read(workdir / "config.json")["config"]["data"]["image_size"]
    except UserError as error:
        raise UserError(f"{where}: {error}", code=error.code, field="init.weights") from error
    description, expected = describe_folder(workdir, name, "jaxssl", {}), shapes_of(encoder, size, channels)
    same_family = type(network.encoder) is type(encoder) and isinstance(encoder, layouts.encoders())
    # Another size changes no shape where positions are computed.
    if same_family and (own_size != size or describe_difference(expected, network.variables)):
        tensors = to_torch(network.encoder, network.variables, own_size)
        loaded = from_torch(tensors, encoder, channels, where, size)
        return Initial(loaded.variables, description | {"changes": log_changes(where, loaded)})
    return Initial(merge(expected, network.variables, where), description)


def log_changes(where: str, loaded: Loaded) -> list[str]:
    """Log and return what was changed to fit weights to the encoder."""
    for change in loaded.changes:
        log.warning("%s: %s", where, change)
    return list(loaded.changes)


def load_orbax(folder: Path, name: str, encoder: nn.Module, channels: int, size: int) -> Initial:
    """Load an orbax checkpoint: variables of the encoder ("params" and, if it has any, "batch_stats"), or a TrainState.

    `folder` is the checkpoint, or holds those of several steps as runs of jaxssl write them.

    Raises:
      UserError: it is no checkpoint, or its encoder is another one.
    """
    where = f"init.weights={str(folder)!r}"
    try:
        tree = checkpoint.read_tree(checkpoint.find_newest(folder) or folder.absolute())
        nested = "encoder" in tree["params"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{where} is neither the workdir of a run nor an orbax checkpoint with 'params': check the path",
            code="unreadable",
            field="init.weights",
        ) from error
    variables, left_out = tree, {}
    if nested:
        variables = {"params": tree["params"]["encoder"], **tree.get("model_state", {}).get("encoder", {})}
        left_out = {key: len(jax.tree.leaves(value)) for key, value in tree["params"].items() if key != "encoder"}
    variables = merge(shapes_of(encoder, size, channels), variables, where)
    return Initial(variables, describe_folder(folder, name, "orbax", left_out))


def describe_folder(folder: Path, name: str, naming: str, left_out: dict[str, int]) -> dict[str, Any]:
    """Return "init" of results.json for weights from a folder."""
    return {
        "name": name,
        "weights": str(folder),
        "sha256": None,
        "license": None,
        "naming": naming,
        "prefix": "",
        "left_out": left_out,
        "changes": [],
        "training_images_known": find_workdir(folder) is not None,
    }
