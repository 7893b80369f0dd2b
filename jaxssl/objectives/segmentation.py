"""Segmentation with masks: an encoder with a decoder, trained by Dice and cross-entropy."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxssl.models.decoder import apply_maps
from jaxssl.objectives import LossAndAux, Objective, Tree, init_network

UNKNOWN = 255  # Pixels that do not count, as `jaxssl.data.source.UNKNOWN`.
SMOOTHING = 1.0  # Pixels added to both sides of the ratio, for classes that a batch does not have.


def make(
    encoder: nn.Module,
    decoder: nn.Module,
    *,
    frozen: bool = False,
    batch_norm: str = "train",
    drop_path: float = 0.0,
) -> Objective:
    """Cross-entropy of each pixel plus one minus the Dice of each class without the background.

    Batches hold "masks", one for each view: [B, H, W] uint8, a class or `UNKNOWN`. The sum of both losses is that of
    nnU-Net (Isensee et al., 2021, doi:10.1038/s41592-020-01008-z).

    Args:
      encoder: the network below the decoder.
      decoder: see `jaxssl.models.decoder`.
      frozen: whether encoder and its batch statistics stay as they are.
      batch_norm: "train" (statistics of the batch) or "frozen" (those of the initial encoder).
      drop_path: rate of stochastic depth, for an encoder that has it and no batch statistics.
    """
    encoder_trains = not frozen and (batch_norm == "train" or drop_path > 0)
    if drop_path:
        encoder = encoder.clone(drop_path=drop_path)  # pyright: ignore[reportCallIssue]

    def init(key: jax.Array, batch: dict) -> tuple[Tree, Tree, Tree]:
        keys, (image,) = jax.random.split(key), batch["views"]
        params, state = {}, {}
        params["encoder"], state["encoder"] = init_network(encoder, keys[0], image)
        maps, _ = apply_maps(encoder, params["encoder"], state["encoder"], image, train=False)
        variables = decoder.init(keys[1], maps, image.shape[1:3], train=False)
        params["decoder"] = variables["params"]
        state["decoder"] = {k: v for k, v in variables.items() if k != "params"}
        return params, state, {}

    def loss(params: Tree, model_state: Tree, target: Tree, batch: dict, key: jax.Array) -> LossAndAux:
        del target
        of_encoder = jax.lax.stop_gradient(params["encoder"]) if frozen else params["encoder"]
        (image,), (mask,) = batch["views"], batch["masks"]
        rngs = {"rngs": {"drop_path": key}} if drop_path else {}
        maps, encoder_state = apply_maps(
            encoder, of_encoder, model_state["encoder"], image, train=encoder_trains, **rngs
        )
        variables = {"params": params["decoder"], **model_state["decoder"]}
        logits, decoder_state = decoder.apply(  # pyright: ignore
            variables, maps, image.shape[1:3], train=True, mutable=list(model_state["decoder"])
        )
        nats, dice = cross_entropy(logits, mask), soft_dice(jax.nn.softmax(logits), mask)
        return nats + 1 - dice, ({"encoder": encoder_state, "decoder": decoder_state}, {"dice": dice})

    return Objective(init, loss)


def cross_entropy(logits: jax.Array, mask: jax.Array) -> jax.Array:
    """Return the mean cross-entropy in nats of the known pixels: logits [B, H, W, C], mask [B, H, W] uint8 -> scalar.

    >>> f"{cross_entropy(jnp.zeros((1, 1, 2, 2)), jnp.array([[[1, UNKNOWN]]])):.3f}"
    '0.693'
    """
    known = mask != UNKNOWN
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    nats = -jnp.take_along_axis(log_p, jnp.where(known, mask, 0).astype(int)[..., None], -1)[..., 0]
    return jnp.where(known, nats, 0).sum() / jnp.maximum(known.sum(), 1)


def soft_dice(probabilities: jax.Array, mask: jax.Array) -> jax.Array:
    """Return the Dice coefficient of probabilities (Milletari et al., 2016, arXiv:1606.04797), without the squares.

    2 sum(p t) / (sum(p) + sum(t)) over the known pixels of the whole batch, so that an image without the class does not
    make the gradient jump; the mean over the classes without the background.

    Args:
      probabilities: [B, H, W, C] float.
      mask: [B, H, W] uint8.

    >>> perfect = jnp.eye(2)[jnp.array([[[0, 1, 1]]])]
    >>> soft_dice(perfect, jnp.array([[[0, 1, 1]]])).item()
    1.0
    """
    known = (mask != UNKNOWN)[..., None]
    truth = jax.nn.one_hot(mask, probabilities.shape[-1])[..., 1:]
    p = jnp.where(known, probabilities[..., 1:], 0)
    common, total = (p * truth).sum((0, 1, 2)), (p + truth).sum((0, 1, 2))
    return ((2 * common + SMOOTHING) / (total + SMOOTHING)).mean()


def predict(
    encoder: nn.Module, decoder: nn.Module, params: Tree, model_state: Tree, image: jax.Array, size: int
) -> jax.Array:
    """Return the probabilities [B, size, size, C] of a trained network for images [B, H, W, C] float32."""
    maps, _ = apply_maps(encoder, params["encoder"], model_state["encoder"], image, train=False)
    variables = {"params": params["decoder"], **model_state["decoder"]}
    return jax.nn.softmax(decoder.apply(variables, maps, (size, size), train=False))  # pyright: ignore
