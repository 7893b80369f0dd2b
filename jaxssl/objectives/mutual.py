"""Deep mutual learning: two networks learn from labels and from each other (Zhang et al., 2018, arXiv:1706.00384)."""

import math

import jax
from flax import linen as nn

from jaxssl.models.heads import Linear
from jaxssl.objectives import LossAndAux, Objective, Tree, apply_network, init_network, losses, pooled_like


def make(encoder: nn.Module, *, classes: int, steps: int) -> Objective:
    """Each network's cross-entropy plus the divergence from it of the other's prediction (equations 5 and 6).

    The two differ in their initial weights alone and see the same view. The other's prediction is held constant, so
    that the gradient of the sum is each network's own; both are updated at once, where the paper takes turns. An image
    without a label takes part in the divergence alone. Of both, it is "encoder" that is carried on.

    Args:
      encoder: of both networks.
      classes: width of both heads.
      steps: unused.
    """
    del steps
    head = Linear(classes)

    def init(key: jax.Array, batch: dict) -> tuple[Tree, Tree, Tree]:
        params, state = {}, {}
        (image,) = batch["views"]
        pooled = pooled_like(encoder, image)
        for prefix, keys in zip(("", "peer_"), jax.random.split(key, (2, 2)), strict=True):
            params[f"{prefix}encoder"], state[f"{prefix}encoder"] = init_network(encoder, keys[0], image)
            params[f"{prefix}head"], _ = init_network(head, keys[1], pooled)
        return params, state, {}

    def classify(prefix: str, params: Tree, state: Tree, image: jax.Array) -> tuple[jax.Array, jax.Array, Tree]:
        """Pooled features, logits and the encoder's statistics after this batch."""
        name = f"{prefix}encoder"
        out, new = apply_network(encoder, params[name], state[name], image, train=True)
        logits, _ = apply_network(head, params[f"{prefix}head"], {}, out["pooled"], train=True)
        return out["pooled"], logits, {name: new}

    def loss(params: Tree, model_state: Tree, target: Tree, batch: dict, key: jax.Array) -> LossAndAux:
        del target, key
        (image,), label = batch["views"], batch["label"]
        features, logits, state = classify("", params, model_state, image)
        _, peer_logits, peer_state = classify("peer_", params, model_state, image)
        value = learn(logits, peer_logits, label) + learn(peer_logits, logits, label)
        metrics = {"features": features, "accuracy": losses.accuracy(logits, label)}
        return value.mean(), (state | peer_state, metrics)

    # Heads that start at zero agree, so that there is no divergence yet.
    return Objective(init, loss, first_loss=lambda batch_size: 2 * math.log(classes), supervised=True)


def learn(own: jax.Array, other: jax.Array, label: jax.Array) -> jax.Array:
    """[B, C] logits, [B, C] logits of the peer, [B] int -> [B] nats."""
    return losses.cross_entropy(own, label) + losses.kullback_leibler(jax.lax.stop_gradient(other), own)
