"""Which way up: four-way rotation prediction, RotNet (Gidaris et al., 2018, arXiv:1803.07728)."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxssl.errors import UserError
from jaxssl.models.heads import Linear
from jaxssl.objectives import LossAndAux, Objective, Tree, apply_network, init_network, losses, pooled_like

ROTATIONS = 4


def make(encoder: nn.Module, *, classes: int, steps: int) -> Objective:
    """Cross-entropy of a linear head that tells by which multiple of 90 degrees each view was turned.

    Nothing but the image's content tells it. The view is square and finished (cropped, resampled, blurred) before it is
    turned, and to turn it permutes its pixels: none is interpolated, none is filled in, no border moves into the view
    and the view's own border falls on itself, so neither needs a mask. Each view takes each turn equally often, and
    what augmentation leaves in it has no side of its own, since crop and resampling treat rows as columns, and both
    ends alike. What the stored images themselves have on one side stays: bars that made them square, or a printed mark.

    The augmentation must not turn views or put them upside down (`rotate90`, `flip_vertical`): that undoes the label.

    Args:
      encoder: the network that is wanted.
      classes: unused, the labels are the rotations.
      steps: unused.

    Raises:
      UserError: from `init`, if the views are not square.
    """
    del classes, steps
    head = Linear(ROTATIONS)

    def init(key: jax.Array, batch: dict) -> tuple[Tree, Tree, Tree]:
        keys = jax.random.split(key)
        (image,) = batch["views"]
        if image.shape[1] != image.shape[2]:
            raise UserError(f"pretrain.objective='rotation' needs square views; these have {image.shape[1:3]} pixels")
        params, state = {}, {}
        params["encoder"], state["encoder"] = init_network(encoder, keys[0], image)
        params["head"], _ = init_network(head, keys[1], pooled_like(encoder, image))
        return params, state, {}

    def loss(params: Tree, model_state: Tree, target: Tree, batch: dict, key: jax.Array) -> LossAndAux:
        del target
        (image,) = batch["views"]
        turns = jax.random.randint(key, (len(image),), 0, ROTATIONS)
        turned = rotate(image, turns)
        out, state = apply_network(encoder, params["encoder"], model_state["encoder"], turned, train=True)
        logits, _ = apply_network(head, params["head"], {}, out["pooled"], train=True)
        value = losses.cross_entropy(logits, turns).mean()
        accuracy = (logits.argmax(-1) == turns).mean()
        return value, ({"encoder": state}, {"features": out["pooled"], "accuracy": accuracy})

    return Objective(init, loss, first_loss=lambda batch_size: math.log(ROTATIONS))


def rotate(image: jax.Array, turns: jax.Array) -> jax.Array:
    """[B, S, S, C], [B] int in 0..3 -> each image turned anticlockwise by so many times 90 degrees, exactly."""
    turns = turns[:, None, None, None]
    image = jnp.where(turns >= 2, image[:, ::-1, ::-1], image)
    return jnp.where(turns % 2 == 1, jnp.rot90(image, axes=(1, 2)), image)
