"""SimCLR: contrastive learning with the NT-Xent loss (Chen et al., 2020, arXiv:2002.05709)."""

import math

import jax
from flax import linen as nn

from jaxssl.models.heads import make_mlp
from jaxssl.objectives import LossAndAux, Objective, Tree, deinterleave, init_projected, interleave, losses, project


def make(encoder: nn.Module, *, hidden: int = 512, projection: int = 128, temperature: float = 0.1) -> Objective:
    """Normalized temperature-scaled cross-entropy; the negatives are the other images of the whole global batch.

    With gradient accumulation they are those of the same part of the batch, of which there are fewer.

    Args:
      encoder: the network to train.
      hidden: width of the hidden layer of the projector.
      projection: width of its output, on which the loss is taken.
      temperature: by which cosine similarities are divided.
    """
    projector = make_mlp(encoder, hidden, projection)

    def init(key: jax.Array, batch: dict) -> tuple[Tree, Tree, Tree]:
        return *init_projected(encoder, projector, jax.random.split(key), batch["views"][0]), {}

    def loss(params: Tree, model_state: Tree, target: Tree, batch: dict, key: jax.Array) -> LossAndAux:
        del target, key
        pooled, z, state = project(encoder, projector, params, model_state, interleave(batch["views"]), views=2)
        first, second = deinterleave(z, 2)
        value = losses.ntxent(first, second, temperature).mean()
        metrics = {"features": deinterleave(pooled, 2)[0], "embedding_std": losses.embedding_std(first)}
        return value, (state, metrics)

    # If all embeddings are equal, each of the 2N - 1 others is equally likely to be the partner.
    return Objective(init, loss, views=2, first_loss=lambda batch_size: math.log(2 * batch_size - 1), min_images=2)
