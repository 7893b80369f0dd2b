"""Classification with labels: full fine-tuning, training from scratch, and the head alone on a frozen encoder."""

import math

import jax
from flax import linen as nn

from jaxssl import losses
from jaxssl.models.heads import Linear
from jaxssl.objectives import Objective, Tree, apply_network, init_network, pooled_like


def make(
    encoder: nn.Module,
    *,
    classes: int,
    steps: int,
    frozen: bool = False,
    batch_norm: str = "train",
    label_smoothing: float = 0.0,
) -> Objective:
    """Cross-entropy of a linear head on the pooled features.

    Args:
      encoder: the network below the head.
      classes: width of the head.
      steps: unused.
      frozen: no gradient reaches the encoder and its batch statistics stay as they are.
      batch_norm: "train" (statistics of the batch) or "frozen" (those that the encoder came with).
      label_smoothing: share of the target that is spread over all classes.
    """
    del steps
    head = Linear(classes)
    encoder_trains = not frozen and batch_norm == "train"

    def init(key: jax.Array, batch: dict) -> tuple[Tree, Tree, Tree]:
        keys = jax.random.split(key)
        (image,) = batch["views"]
        params, state = {}, {}
        params["encoder"], state["encoder"] = init_network(encoder, keys[0], image)
        params["head"], _ = init_network(head, keys[1], pooled_like(encoder, image))
        return params, state, {}

    def loss(params: Tree, model_state: Tree, target: Tree, batch: dict, key: jax.Array):
        del target, key
        of_encoder = jax.lax.stop_gradient(params["encoder"]) if frozen else params["encoder"]
        (image,) = batch["views"]
        out, state = apply_network(encoder, of_encoder, model_state["encoder"], image, train=encoder_trains)
        logits, _ = apply_network(head, params["head"], {}, out["pooled"], train=True)
        value = losses.cross_entropy(logits, batch["label"], label_smoothing).mean()
        accuracy = (logits.argmax(-1) == batch["label"]).mean()
        return value, ({"encoder": state}, {"features": out["pooled"], "accuracy": accuracy})

    def advance(target: Tree, params: Tree, step: jax.Array) -> Tree:
        del params, step
        return target

    return Objective(init, loss, advance, first_loss=lambda batch_size: math.log(classes))


def predict(encoder: nn.Module, classes: int, params: Tree, model_state: Tree, image: jax.Array) -> jax.Array:
    """[B, H, W, C] float32 -> probabilities [B, classes] of a network that `make` trained."""
    out, _ = apply_network(encoder, params["encoder"], model_state["encoder"], image, train=False)
    logits, _ = apply_network(Linear(classes), params["head"], {}, out["pooled"], train=False)
    return jax.nn.softmax(logits)
