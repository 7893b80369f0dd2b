"""Deep mutual learning: two networks learn from labels and from each other (Zhang et al., 2018, arXiv:1706.00384)."""

import math

import jax
from flax import linen as nn

from jaxssl.models.heads import Linear
from jaxssl.objectives import LossAndAux, Objective, Tree, apply_network, init_network, losses, pooled_like


def make(encoder: nn.Module, *, classes: int) -> Objective:
    """Cross-entropy of each network plus its KL divergence from the other's prediction (equations 5 and 6).

    The networks differ only in their initial weights and see the same view. No gradient flows through the other's
    prediction, and both networks are updated at once, where the paper alternates. An image without a label enters only
    the divergence. "encoder" is kept after training, its peer is not.

    Args:
      encoder: of both networks.
      classes: width of both heads.
    """
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
        """Return pooled features, logits and the encoder's batch statistics after this batch."""
        name = f"{prefix}encoder"
        out, new = apply_network(encoder, params[name], state[name], image, train=True)
        logits, _ = apply_network(head, params[f"{prefix}head"], {}, out["pooled"], train=True)
        return out["pooled"], logits, {name: new}

    def loss(params: Tree, model_state: Tree, target: Tree, batch: dict, key: jax.Array) -> LossAndAux:
        del target, key
        (image,), label = batch["views"], batch["label"]
        features, logits, state = classify("", params, model_state, image)
        _, peer_logits, peer_state = classify("peer_", params, model_state, image)
        value = mutual_loss(logits, peer_logits, label) + mutual_loss(peer_logits, logits, label)
        metrics = {"features": features, "accuracy": losses.accuracy(logits, label)}
        return value.mean(), (state | peer_state, metrics)

    # Both heads start at zero, so that the divergence is 0 at first.
    return Objective(init, loss, first_loss=lambda batch_size: 2 * math.log(classes), supervised=True)


def mutual_loss(own: jax.Array, other: jax.Array, label: jax.Array) -> jax.Array:
    """[B, C] logits, [B, C] logits of the peer, [B] int -> [B] nats."""
    return losses.cross_entropy(own, label) + losses.kl_divergence(jax.lax.stop_gradient(other), own)
