"""The teacher of a distillation: a network of a finished run, or published weights."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxssl import files, models
from jaxssl.augment.views import Pixels, resize, standardize, to_unit
from jaxssl.errors import UserError
from jaxssl.inference import trained
from jaxssl.objectives.distill import Teacher
from jaxssl.results import workdir as results
from jaxssl.weights import hub
from jaxssl.weights.describe import list_networks
from jaxssl.weights.families import find_scaling
from jaxssl.weights.load import SUFFIXES, from_torch, read
from jaxssl.weights.provenance import name_weights, read_notes

Tree = Any
FIELD = "pretrain.options.teacher"


def load_teacher(options: Mapping[str, Any], size: int, pixels: Pixels | None = None) -> Teacher:
    """Load the network that `pretrain.options` name.

    It gets the student's images in the scaling of its own: that of its run; of a file, that in its metadata or of the
    family that its name is of (`jaxssl.weights.families`); otherwise the student's.

    Args:
      options: "teacher" is the workdir of a finished run, and "evaluation" one of its networks; or "teacher" is a file
        of weights, or one of the Hugging Face hub, and "evaluation" the prefix of one network in it. Model and options
        follow from the weights, as `jaxssl weights` prints them. "teacher_size" is the side in pixels to which its
        images are resized; 0: that of its run, or with published weights `size`.
      size: side of the student's images in pixels.
      pixels: scaling of the student's images; None where only shapes matter.

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
        if teacher.startswith(hub.PREFIX) or Path(teacher).suffix in SUFFIXES:
            return load_file(teacher, evaluation, options.get("teacher_size", 0), size, pixels)
        network = trained.load(teacher, evaluation)
        config = results.read(files.expand_user(teacher) / "config.json")
        side = options.get("teacher_size", 0) or config["config"]["data"]["image_size"]
        own = read_pixels(config["pixels"])
    except UserError as error:
        raise UserError(
            f"{FIELD}={teacher!r}, pretrain.options.evaluation={evaluation!r}: {error}", code=error.code, field=FIELD
        ) from error
    return Teacher(
        name=str(teacher),
        apply=make_apply(network.encoder, network.channels, side, pixels, own),
        variables=network.variables,
        channels=network.channels,
        head=network.head,
        classes=network.classes,
        supervised=network.supervised,
    )


def load_file(spec: str, prefix: str, side: int, size: int, pixels: Pixels | None) -> Teacher:
    """Load published weights as a teacher without a head; arguments as those of `load_teacher`."""
    file = hub.find_file(spec)
    tensors, notes = read(file), read_notes(file)
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
    side = side or int(notes.get("image_size", 0)) or size
    loaded = from_torch(tensors, encoder, network.channels, str(file), side, network.prefix)
    own = read_pixels(json.loads(notes["pixels"])) if "pixels" in notes else None
    if pixels and not own:
        own = find_scaling(name_weights(spec), pixels._replace(mean=(0.0,) * network.channels))
    apply = make_apply(encoder, network.channels, side, pixels, own)
    return Teacher(str(file), apply, loaded.variables, network.channels)


def read_pixels(stored: Mapping[str, Any]) -> Pixels:
    """Return the scaling as config.json and the metadata of exported files have it."""
    pixels = Pixels(**stored)
    return pixels._replace(mean=tuple(pixels.mean), std=tuple(pixels.std))


def make_apply(
    encoder: nn.Module, channels: int, size: int, pixels: Pixels | None, own: Pixels | None
) -> Callable[[Tree, jax.Array], jax.Array]:
    """Return the function (variables, images of the student) -> pooled features of an encoder in evaluation mode.

    Args:
      encoder: of the teacher.
      channels: of its images; grey images are repeated for three.
      size: side of its images in pixels.
      pixels: scaling of the student's images.
      own: scaling of the teacher's images; None for either: they are the same.
    """

    def apply(variables: Tree, image: jax.Array) -> jax.Array:
        if pixels and own:
            image = rescale(image, pixels, own)
        if image.shape[-1] == 1:
            image = jnp.repeat(image, channels, axis=-1)
        return encoder.apply(variables, resize(image, size), train=False)["pooled"]  # pyright: ignore

    return apply


def rescale(image: jax.Array, old: Pixels, new: Pixels) -> jax.Array:
    """Change standardized images from one scaling of the stored values to another."""
    if old == new:
        return image
    unit = image * jnp.asarray(old.std) + jnp.asarray(old.mean)
    if (old.low, old.high, old.asinh) != (new.low, new.high, new.asinh):
        linear = jnp.sinh(unit * jnp.arcsinh(old.asinh)) / old.asinh if old.asinh else unit
        unit = to_unit(linear * (old.high - old.low) + old.low, new)
    return standardize(unit, new)
