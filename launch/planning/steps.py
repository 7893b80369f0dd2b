"""The training steps that a config runs, as functions of shapes: no image is read and nothing is computed."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxssl import data
from jaxssl.augment import views
from jaxssl.config import schedule
from jaxssl.data.datasets import lenses
from jaxssl.errors import UserError
from jaxssl.models import precision
from jaxssl.objectives import Objective, with_online_probe
from jaxssl.run import prepare
from jaxssl.training import optimizers, sharding, step

Tree = Any
MakeStep = Callable[[int, Mesh], tuple[Callable, Tree, Tree]]


class Images(NamedTuple):
    """Number and kind of a dataset's images."""

    count: int
    channels: int
    classes: int
    dtype: str


class Phase(NamedTuple):
    """A training of the config.

    Attributes:
      name: "pretrain" or "transfer".
      c: its part of the config.
      seen: total number of images it processes, over all epochs and encoders.
      make_step: (batch size, mesh) -> the jitted step, the shapes of its state and of its batch.
    """

    name: str
    c: ConfigDict
    seen: int
    make_step: MakeStep


def known_images(d: ConfigDict, count: int, channels: int) -> Images:
    """Return number and kind of the images of `config.data`, without reading them.

    Args:
      d: the `data` part of a config.
      count: number of images; 0 to look it up.
      channels: of an image; 0 to look them up.

    Raises:
      UserError: the number of images is not known.
    """
    dataset = getattr(data.find_module(d.name), "DATASET", None)
    if dataset:
        known = Images(dataset.images, 3, len(dataset.classes), dataset.dtype)
    elif d.name == "lenses":
        default = inspect.signature(lenses.load).parameters["images_per_class"].default
        classes = len(lenses.CLASSES)
        known = Images(classes * d.options.get("images_per_class", default), 1, classes, "float32")
    else:
        known = Images(0, 3, 2, "uint8")
    if not (count or known.count):
        raise UserError(
            f"--images is missing: set it to the number of images of data.name={d.name!r}",
            code="missing",
            field="--images",
        )
    return known._replace(count=count or known.count, channels=channels or known.channels)


def phases(config: ConfigDict, known: Images) -> list[Phase]:
    """Return the pretraining and the fine-tuning of a config, as `jaxssl.run.experiment` does them on accelerators."""
    if config.model.dtype == "auto":
        config = config.copy_and_resolve_references()
        config.model.dtype = precision.choose(config.model.name, config.model.options, "tpu")
    d, encoder = config.data, prepare.make_encoder(config)
    rows = {"pretrain": int(known.count * (1 - d.validation - (1 / d.folds if d.folds else d.test)))}
    rows["transfer"] = int(rows["pretrain"] * d.label_fraction)
    if d.labels_per_class:
        rows["transfer"] = min(rows["transfer"], d.labels_per_class * known.classes)
    encoders = {"pretrain": 1, "transfer": 1 + bool(config.pretrain.epochs) + bool(config.init.weights)}
    result = []
    for name in schedule.trained_phases(config):
        c = config[name]
        per_epoch = schedule.steps_per_epoch(rows[name], c, name)
        steps = c.epochs * per_epoch
        if name == "pretrain":
            objective = prepare.make_objective(config, encoder, known.classes, steps)
            objective = with_online_probe(objective, known.classes)
        else:
            objective = prepare.make_classifier(config, encoder, known.classes)
        seen = steps * c.batch_size * encoders[name]
        result.append(Phase(name, c, seen, step_maker(config, c, objective, per_epoch, known)))
    return result


def step_maker(config: ConfigDict, c: ConfigDict, objective: Objective, per_epoch: int, known: Images) -> MakeStep:
    """Return `Phase.make_step` of an objective."""
    d = config.data
    side = d.stored_size or d.image_size
    # The values do not matter, except that low=0 with 8 bits skips a subtraction.
    low, each = 0.0 if known.dtype == "uint8" else 0.1, (0.5,) * known.channels
    pixels = views.Pixels(low, 255.0, each, each, d.asinh)
    view = views.make(pixels, size=d.image_size, views=objective.views, **c.augment)

    def batch_shapes(size: int, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
        kinds = {"image": ((side, side, known.channels), known.dtype), "label": ((), "int32")}
        where = sharding.batch_sharding(mesh)
        return {k: jax.ShapeDtypeStruct((size, *s), np.dtype(t), sharding=where) for k, (s, t) in kinds.items()}

    def make_step(batch_size: int, mesh: Mesh) -> tuple[Callable, Tree, Tree]:
        options = schedule.optimizer_options(c.optimizer, c.epochs, per_epoch, batch_size)
        tx = optimizers.make(**options, rates=objective.rates)

        def init(batch: dict) -> step.TrainState:
            return step.init_state(jax.random.key(config.seed), batch, objective, view, tx)

        shapes = jax.eval_shape(init, batch_shapes(mesh.size, mesh))
        places = sharding.state_shardings(mesh, shapes)
        state = jax.tree.map(lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes, places)
        jitted = step.jit_step(mesh, shapes, objective, view, tx, c.gradient_accumulation)
        return jitted, state, batch_shapes(batch_size, mesh)

    return make_step
