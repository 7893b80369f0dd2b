"""The teacher of a distillation: a network of a finished run."""

from collections.abc import Mapping
from typing import Any

import jax

from jaxssl.errors import UserError
from jaxssl.inference import trained
from jaxssl.objectives.distill import Teacher

Tree = Any


def load_teacher(options: Mapping[str, Any]) -> Teacher:
    """Load the network that `pretrain.options` name by "teacher" (a workdir) and "evaluation" (one of its networks).

    Raises:
      UserError: no teacher is named, or it cannot be loaded.
    """
    workdir, evaluation = options.get("teacher", ""), options.get("evaluation", "")
    name = f"pretrain.options.teacher={workdir!r}"
    if not workdir:
        raise UserError(
            f"{name} is empty: set it to the workdir of a finished run",
            code="missing",
            field="pretrain.options.teacher",
        )
    try:
        network = trained.load(workdir, evaluation)
    except UserError as error:
        raise UserError(
            f"{name}, pretrain.options.evaluation={evaluation!r}: {error}",
            code=error.code,
            field="pretrain.options.teacher",
        ) from error

    def apply(variables: Tree, image: jax.Array) -> jax.Array:
        return network.encoder.apply(variables, image, train=False)["pooled"]  # pyright: ignore

    return Teacher(
        name=str(workdir),
        apply=apply,
        variables=network.variables,
        channels=network.channels,
        head=network.head,
        classes=network.classes,
        supervised=network.supervised,
    )
