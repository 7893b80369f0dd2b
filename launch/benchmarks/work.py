"""What `launch/bench.py` times: the training step of a method on random images."""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxssl import models, objectives
from jaxssl.augment import views
from jaxssl.config import fields, presets
from jaxssl.data import pipeline, records, source
from jaxssl.models.precision import make_context
from jaxssl.training import optimizers, sharding, step

METHODS = ("simclr", "byol", "mae", "supervised", "features")
CLASSES = 10


class Work(NamedTuple):
    """A training, in parts that can be timed. For "features" the state is the encoder's variables, else a `TrainState`.

    Attributes:
      state: of the training.
      view: (key, batch) -> batch with views.
      step: (state, batch) -> new state, metrics.
      step_only: the same for a batch that has its views.
      loss: (state, batch with views) -> loss.
      gradient: (state, batch with views) -> gradient.
      images: the dataset.
      batch: images per step.
      mesh: the devices.
    """

    state: Any
    view: Callable
    step: Callable
    step_only: Callable
    loss: Callable
    gradient: Callable
    images: source.Source
    batch: int
    mesh: Mesh


def view_options(method: str) -> dict[str, Any]:
    """Return the options of `views.make` for SimCLR, BYOL and MAE as published; those of no augmentation for others."""
    c = fields.base()
    if method in ("simclr", "byol"):
        getattr(presets, method)(c)
        c.pretrain.augment.crop_area = (0.08, 1.0)
    elif method == "mae":
        c.pretrain.augment.crop_area = (0.2, 1.0)
        c.pretrain.augment.flip_horizontal = True
    return dict(c.pretrain.augment)


def make_objective(method: str, encoder: Any) -> objectives.Objective:
    name, options = {
        "simclr": ("ntxent", {"hidden": 512, "projection": 128, "temperature": 0.5}),
        "byol": ("byol", {"hidden": 4096, "projection": 256}),
        "mae": ("mae", {"decoder_width": 128, "decoder_depth": 2}),
    }.get(method, ("supervised", {}))
    return objectives.make(name, encoder, {"classes": CLASSES, "steps": 1000}, options)


def random_images(a: argparse.Namespace, folder: Path) -> source.Source:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (a.images, a.size, a.size, 3), np.uint8)
    if a.streamed:
        file = folder / "images.array_record"
        records.write(file, images, lambda: {"shape": images.shape, "dtype": "uint8"})
        images = records.load(file)[0]
    return source.make(images, rng.integers(0, CLASSES, a.images), np.arange(a.images), tuple("abcdefghij"))


def make_work(a: argparse.Namespace, folder: Path) -> Work:
    """Build the training that the flags of `launch/bench.py` describe; `folder` is for its records."""
    mesh = sharding.make_mesh(-1, 1)
    options = {"patch": a.patch} if a.model.startswith("vit") else {}
    if a.depth:
        options["stages"] = (a.depth,) * 4
    encoder = models.make(a.model, {"stem": "imagenet", **make_context(a.dtype)}, options)
    objective = make_objective(a.method, encoder)
    pixels = views.Pixels(0.0, 255.0, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    view = views.make(pixels, size=a.size, views=objective.views, **view_options(a.method))
    tx = optimizers.make("sgd", learning_rate=0.05, steps=1000)
    images = random_images(a, folder)
    key, sample = jax.random.key(0), pipeline.gather(images, np.arange(mesh.size))
    init = partial(step.init_state, objective=objective, augment=view, tx=tx)
    shapes = jax.eval_shape(init, key, sample)
    state = jax.jit(init, out_shardings=sharding.state_shardings(mesh, shapes))(key, sample)

    def loss(params: Any, state: step.TrainState, batch: dict) -> jax.Array:
        return objective.loss(params, state.model_state, state.target, batch, state.key)[0]

    if a.method == "features":
        variables = {"params": state.params["encoder"], **state.model_state["encoder"]}

        def encode(variables: Any, batch: dict) -> tuple[Any, jax.Array]:
            image = batch["views"][0] if "views" in batch else views.eval_transform(batch["image"], pixels, a.size)
            return variables, encoder.apply(variables, image, train=False)["pooled"]

        programs, state = (jax.jit(encode, donate_argnums=0),) * 2, variables
    else:
        augments = view, lambda key, batch: batch
        programs = tuple(step.jit_step(mesh, shapes, objective, augment, tx) for augment in augments)
    return Work(
        state,
        jax.jit(view),
        *programs,
        jax.jit(lambda state, batch: loss(state.params, state, batch)),
        jax.jit(lambda state, batch: jax.grad(loss)(state.params, state, batch)),
        images,
        a.batch,
        mesh,
    )


def batches(work: Work) -> Iterator[dict]:
    """Yield training batches, epoch after epoch, without end."""
    rows, epoch = np.arange(len(work.images.images)), 0
    while True:
        options = {"batch_size": work.batch, "steps": len(rows) // work.batch, "seed": 0, "skip": 0}
        yield from pipeline.training(
            work.images, rows, epoch=epoch, sharding=sharding.batch_sharding(work.mesh), **options
        )
        epoch += 1
