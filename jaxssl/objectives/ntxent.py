"""SimCLR: two views of an image against those of all others (Chen et al., 2020, arXiv:2002.05709)."""

import math

import jax
from flax import linen as nn

from jaxssl import losses
from jaxssl.models.heads import MLP
from jaxssl.objectives import Objective, Tree, apply_network, init_network, pooled_like


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
        keys = jax.random.split(key)
        params, state = {}, {}
        image = batch["views"][0]
        params["encoder"], state["encoder"] = init_network(encoder, keys[0], image)
        params["projector"], state["projector"] = init_network(projector, keys[1], pooled_like(encoder, image))
        return params, state, {}

    def loss(params: Tree, model_state: Tree, target: Tree, batch: dict, key: jax.Array):
        del target, key
        state = dict(model_state)
        features, embeddings = [], []
        for image in batch["views"]:
            out, state["encoder"] = apply_network(encoder, params["encoder"], state["encoder"], image, train=True)
            z, state["projector"] = apply_network(
                projector, params["projector"], state["projector"], out["pooled"], train=True
            )
            features.append(out["pooled"])
            embeddings.append(z)
        value = losses.ntxent(*embeddings, temperature).mean()
        metrics = {"features": features[0], "embedding_std": losses.spread(embeddings[0])}
        return value, (state, metrics)

    def advance(target: Tree, params: Tree, step: jax.Array) -> Tree:
        del params, step
        return target

    # Of embeddings that are all alike, each of the 2N - 1 others is as likely the partner.
    return Objective(init, loss, advance, views=2, first_loss=lambda batch_size: math.log(2 * batch_size - 1))
