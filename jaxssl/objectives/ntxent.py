"""SimCLR: two views of an image against those of all others (Chen et al., 2020, arXiv:2002.05709)."""

import math

import jax
from flax import linen as nn

from jaxssl import losses
from jaxssl.models.heads import MLP
from jaxssl.objectives import Objective, Tree, init_projected, project


def make(
    encoder: nn.Module, *, classes: int, steps: int, hidden: int = 512, projection: int = 128, temperature: float = 0.1
) -> Objective:
    """The normalised temperature-scaled cross-entropy; the negatives are the whole global batch.

    Args:
      encoder: the network that is wanted.
      classes: unused, SimCLR sees no label.
      steps: unused.
      hidden: width of the hidden layer of the projector.
      projection: width of its output, on which the loss is taken.
      temperature: by which cosine similarities are divided.
    """
    del classes, steps
    projector = MLP(hidden, projection, encoder.dtype)

    def init(key: jax.Array, batch: dict) -> tuple[Tree, Tree, Tree]:
        return *init_projected(encoder, projector, jax.random.split(key), batch["views"][0]), {}

    def loss(params: Tree, model_state: Tree, target: Tree, batch: dict, key: jax.Array):
        del target, key
        state, features, embeddings = model_state, [], []
        for image in batch["views"]:
            pooled, z, state = project(encoder, projector, params, state, image)
            features.append(pooled)
            embeddings.append(z)
        value = losses.ntxent(*embeddings, temperature).mean()
        metrics = {"features": features[0], "embedding_std": losses.spread(embeddings[0])}
        return value, (state, metrics)

    def advance(target: Tree, params: Tree, step: jax.Array) -> Tree:
        del params, step
        return target

    # Of embeddings that are all alike, each of the 2N - 1 others is as likely the partner.
    return Objective(init, loss, advance, views=2, first_loss=lambda batch_size: math.log(2 * batch_size - 1))
