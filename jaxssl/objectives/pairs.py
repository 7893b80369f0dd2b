"""Pairs: a siamese network learns which images belong together (Hadsell et al., 2006, doi:10.1109/CVPR.2006.100)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxssl.errors import UserError
from jaxssl.models.heads import MLP
from jaxssl.objectives import LossAndAux, Objective, Tree, deinterleave, init_projected, interleave, losses, project


def make(
    encoder: nn.Module,
    *,
    classes: int,
    steps: int,
    hidden: int = 512,
    projection: int = 128,
    margin: float = 1.0,
    pairs_from: str = "augmentation",
) -> Objective:
    """The contrastive margin loss on one positive and one negative pair of each image, drawn anew in each step.

    Args:
      encoder: the network that is wanted.
      classes: unused.
      steps: unused.
      hidden: width of the hidden layer of the projector.
      projection: width of its output, which is scaled to unit length: distances lie between 0 and 2.
      margin: distance from which on a negative pair costs nothing.
      pairs_from: "augmentation": an image's partner is its own other view, and any other image is a negative.
        "labels": a partner is another image of its class and a negative one of another class. That is supervised
        training, and results say so.

    Raises:
      UserError: an option is out of its range.
    """
    del classes, steps
    if pairs_from not in ("augmentation", "labels"):
        raise UserError(f"pretrain.options.pairs_from={pairs_from!r} is not known: it takes 'augmentation' or 'labels'")
    if not 0 < margin <= 2:
        raise UserError(f"pretrain.options.margin={margin} lies outside (0, 2]: unit vectors are at most 2 apart")
    projector = MLP(hidden, projection, encoder.dtype)

    def init(key: jax.Array, batch: dict) -> tuple[Tree, Tree, Tree]:
        return *init_projected(encoder, projector, jax.random.split(key), batch["views"][0]), {}

    def loss(params: Tree, model_state: Tree, target: Tree, batch: dict, key: jax.Array) -> LossAndAux:
        del target
        pooled, z, state = project(encoder, projector, params, model_state, interleave(batch["views"]), views=2)
        first, second = deinterleave(losses.normalise(z), 2)
        total, count = 0.0, 0
        masks, keys = candidates(batch["label"], pairs_from), jax.random.split(key)
        for mask, together, draw_key in zip(masks, (True, False), keys, strict=True):
            partner, found = draw(draw_key, mask)
            of_pair = losses.margin(first, second[partner], margin, together=together)
            total, count = total + jnp.where(found, of_pair, 0).sum(), count + found.sum()
        metrics = {"features": deinterleave(pooled, 2)[0], "embedding_std": losses.spread(first)}
        return total / jnp.maximum(count, 1), (state, metrics)

    return Objective(init, loss, views=2, supervised=pairs_from == "labels")


def candidates(label: jax.Array, pairs_from: str) -> tuple[jax.Array, jax.Array]:
    """Which images of the batch (columns) may be the positive and the negative partner of each (rows): [B, B] bool.

    By labels, an image whose own is unknown (negative) has neither.
    """
    itself = jnp.eye(len(label), dtype=bool)
    if pairs_from == "augmentation":
        return itself, ~itself
    known = (label >= 0)[:, None] & (label >= 0)
    same = label[:, None] == label
    return known & same & ~itself, known & ~same


def draw(key: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One of the true columns of each row of [B, B] bool, all alike: their indices [B], and whether there is one."""
    return jnp.where(mask, jax.random.uniform(key, mask.shape), -1.0).argmax(1), mask.any(1)
