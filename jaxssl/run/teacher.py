"""The teacher of a distillation: a network of a finished run, or published weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from flax import linen as nn

from jaxssl import models
from jaxssl.errors import UserError
from jaxssl.inference import trained
from jaxssl.objectives.distill import Teacher
from jaxssl.weights.describe import list_networks
from jaxssl.weights.load import SUFFIXES, from_torch, read

Tree = Any
FIELD = "pretrain.options.teacher"


def load_teacher(options: Mapping[str, Any], size: int) -> Teacher:
    """Load the network that `pretrain.options` name.

    Args:
      options: "teacher" is the workdir of a finished run, and "evaluation" one of its networks; or "teacher" is a file
        of weights, and "evaluation" the prefix of one network in it. Model and options follow from the weights, as
        `jaxssl weights` prints them.
      size: side of the images in pixels.

    Raises:
      UserError: no teacher is named, or it cannot be loaded.
    """
    teacher, evaluation = options.get("teacher", ""), options.get("evaluation", "")
    if not teacher:
        raise UserError(
            f"{FIELD}='' names no teacher: set it to the workdir of a finished run, or to a file of weights",
            code="missing",
            field=FIELD,
        )
    try:
        if Path(teacher).suffix in SUFFIXES:
            return load_file(Path(teacher).expanduser(), evaluation, size)
        network = trained.load(teacher, evaluation)
    except UserError as error:
        raise UserError(
            f"{FIELD}={teacher!r}, pretrain.options.evaluation={evaluation!r}: {error}", code=error.code, field=FIELD
        ) from error
    return Teacher(
        name=str(teacher),
        apply=make_apply(network.encoder),
        variables=network.variables,
        channels=network.channels,
        head=network.head,
        classes=network.classes,
        supervised=network.supervised,
    )


def load_file(file: Path, prefix: str, size: int) -> Teacher:
    """Load published weights as a teacher without a head."""
    tensors = read(file)
    networks = [network for network in list_networks(tensors) if prefix in ("", network.prefix)]
    if len(networks) != 1:
        prefixes = ", ".join(repr(network.prefix) for network in list_networks(tensors)) or "none"
        raise UserError(
            f"{file} has {len(networks)} networks with the prefix {prefix!r}: set pretrain.options.evaluation to the "
            f"prefix of one ({prefixes})",
            code="mismatch",
            field="pretrain.options.evaluation",
        )
    (network,) = networks
    if network.problem:
        raise UserError(f"{file}: {network.problem}", code="mismatch", field=FIELD)
    encoder = models.make(network.model["name"], {"stem": network.model["stem"]}, network.model["options"])
    loaded = from_torch(tensors, encoder, network.channels, str(file), size, network.prefix)
    return Teacher(str(file), make_apply(encoder), loaded.variables, network.channels)


def make_apply(encoder: nn.Module) -> Any:
    """Return the function (variables, images) -> pooled features of an encoder in evaluation mode."""

    def apply(variables: Tree, image: jax.Array) -> jax.Array:
        return encoder.apply(variables, image, train=False)["pooled"]  # pyright: ignore

    return apply
