"""RotNet: prediction of the rotation of an image, of four (Gidaris et al., 2018, arXiv:1803.07728)."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxssl.errors import UserError
from jaxssl.models.heads import Linear
from jaxssl.objectives import LossAndAux, Objective, Tree, apply_network, init_network, losses, pooled_like

ROTATIONS = 4


def make(encoder: nn.Module) -> Objective:
    """Cross-entropy of a linear head that predicts by which multiple of 90 degrees each view was rotated.

    Only the content of the image gives the rotation away. A view is square and complete (cropped, resampled, blurred)
    before it is rotated, and rotating it permutes its pixels: nothing is interpolated or filled in, and its border maps
    onto itself, so that no mask is needed. Crop and resampling treat rows like columns and both ends alike. Marks that
    the stored images have on one side remain: padding that made them square, or printed text.

    The augmentation must not rotate or flip views vertically (`rotate90`, `flip_vertical`): that changes the label.

    Args:
      encoder: the network to train.

    Raises:
      UserError: from `init`, if the views are not square.
    """
    head = Linear(ROTATIONS)

    def init(key: jax.Array, batch: dict) -> tuple[Tree, Tree, Tree]:
        keys = jax.random.split(key)
        (image,) = batch["views"]
        if image.shape[1] != image.shape[2]:
            raise UserError(
                f"pretrain.objective='rotation' needs square views, these have {image.shape[1:3]} pixels",
                code="mismatch",
                field="pretrain.objective",
            )
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
    """Rotate each of [B, S, S, C] anticlockwise by `turns` [B] int in 0..3 times 90 degrees, exactly."""
    turns = turns[:, None, None, None]
    image = jnp.where(turns >= 2, image[:, ::-1, ::-1], image)
    return jnp.where(turns % 2 == 1, jnp.rot90(image, axes=(1, 2)), image)


def predict_rotations(
    encoder: nn.Module, params: Tree, model_state: Tree, image: jax.Array, turns: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Rotate images [B, S, S, C] by `turns` [B] and return them with the rotations that a trained network predicts."""
    rotated = rotate(image, turns)
    out, _ = apply_network(encoder, params["encoder"], model_state["encoder"], rotated, train=False)
    logits, _ = apply_network(Linear(ROTATIONS), params["head"], {}, out["pooled"], train=False)
    return rotated, logits.argmax(-1)
