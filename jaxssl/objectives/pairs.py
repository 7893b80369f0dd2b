"""Siamese network with a contrastive margin loss on pairs (Hadsell et al., 2006, doi:10.1109/CVPR.2006.100)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxssl.errors import UserError, check_range
from jaxssl.models.heads import make_mlp
from jaxssl.objectives import LossAndAux, Objective, Tree, deinterleave, init_projected, interleave, losses, project


def make(
    encoder: nn.Module,
    *,
    hidden: int = 512,
    projection: int = 128,
    margin: float = 1.0,
    pairs_from: str = "augmentation",
) -> Objective:
    """Contrastive margin loss on one positive and one negative pair of each image, drawn anew in each step.

    Args:
      encoder: the network to train.
      hidden: width of the hidden layer of the projector.
      projection: width of its output, which is scaled to unit length: distances lie between 0 and 2.
      margin: distance above which a negative pair has no loss.
      pairs_from: "augmentation": the positive partner of an image is its own other view, the negative any other image.
        "labels": the positive partner is another image of its class, the negative one of another class. This is
        supervised training, and results say so.

    Raises:
      UserError: an option is out of its range.
    """
    if pairs_from not in ("augmentation", "labels"):
        raise UserError(
            f"pretrain.options.pairs_from={pairs_from!r} is unknown: valid are 'augmentation' and 'labels'",
            code="unknown-name",
            field="pretrain.options.pairs_from",
        )
    check_range("pretrain.options.margin", margin, "(0, 2]")  # Unit vectors are at most 2 apart.
    projector = make_mlp(encoder, hidden, projection)

    def init(key: jax.Array, batch: dict) -> tuple[Tree, Tree, Tree]:
        return *init_projected(encoder, projector, jax.random.split(key), batch["views"][0]), {}

    def loss(params: Tree, model_state: Tree, target: Tree, batch: dict, key: jax.Array) -> LossAndAux:
        del target
        pooled, z, state = project(encoder, projector, params, model_state, interleave(batch["views"]), views=2)
        first, second = deinterleave(losses.normalize(z), 2)
        total, count = 0.0, 0
        masks, keys = candidates(batch["label"], pairs_from), jax.random.split(key)
        for mask, positive, draw_key in zip(masks, (True, False), keys, strict=True):
            partner, exists = draw(draw_key, mask)
            of_pair = losses.contrastive_margin(first, second[partner], margin, positive=positive)
            total, count = total + jnp.where(exists, of_pair, 0).sum(), count + exists.sum()
        metrics = {"features": deinterleave(pooled, 2)[0], "embedding_std": losses.embedding_std(first)}
        return total / jnp.maximum(count, 1), (state, metrics)

    return Objective(init, loss, views=2, supervised=pairs_from == "labels")


def candidates(label: jax.Array, pairs_from: str) -> tuple[jax.Array, jax.Array]:
    """Return the masks [B, B] bool of the possible positive and negative partners (columns) of each image (rows).

    With labels, an image whose label is unknown (negative) has neither.
    """
    itself = jnp.eye(len(label), dtype=bool)
    if pairs_from == "augmentation":
        return itself, ~itself
    known = (label >= 0)[:, None] & (label >= 0)
    same = label[:, None] == label
    return known & same & ~itself, known & ~same


def draw(key: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draw one of the true columns of each row of [B, B] bool: returns indices [B], and whether there is one [B]."""
    return jnp.where(mask, jax.random.uniform(key, mask.shape), -1.0).argmax(1), mask.any(1)
