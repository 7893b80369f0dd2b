"""Learning from labels: fine-tuning, training from scratch, and the head alone on a frozen encoder."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl.models.heads import AttentiveClassifier, Classifier, classifier_of
from jaxssl.objectives import LossAndAux, Objective, Tree, apply_network, init_network, losses, output_like


class Readout(NamedTuple):
    """What the outputs of the linear head mean for one task.

    Attributes:
      loss: (outputs [B, K], labels, label smoothing, class weights or None) -> [B]; 0 for an unknown label.
      accuracy: (outputs, labels) -> scalar, of the batch; None where there is none.
      activate: outputs -> predictions [B, K].
      first_loss: number of outputs -> loss of the untrained head, whose outputs are 0; None if unknown.
    """

    loss: Callable[[jax.Array, jax.Array, float, jax.Array | None], jax.Array]
    accuracy: Callable[[jax.Array, jax.Array], jax.Array] | None
    activate: Callable[[jax.Array], jax.Array]
    first_loss: Callable[[int], float] | None


def _class_loss(logits: jax.Array, label: jax.Array, smoothing: float, weights: jax.Array | None) -> jax.Array:
    nats = losses.cross_entropy(logits, label, smoothing)
    return nats if weights is None else nats * weights[label]


def _label_accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    known = labels >= 0
    return (((logits > 0) == (labels == 1)) & known).sum() / jnp.maximum(known.sum(), 1)


def _value_loss(outputs: jax.Array, label: jax.Array, smoothing: float, weights: jax.Array | None) -> jax.Array:
    """Huber loss of standardized values: one that is far off does not outweigh all others (Huber 1964)."""
    del smoothing, weights
    known = ~jnp.isnan(label)
    return jnp.where(known, optax.huber_loss(outputs[:, 0], jnp.where(known, label, 0.0)), 0.0)


_CLASSES = Readout(_class_loss, lambda z, label: (z.argmax(-1) == label).mean(), jax.nn.softmax, math.log)
READOUTS = {
    "single": _CLASSES,
    "ordinal": _CLASSES,
    "multi": Readout(losses.binary_cross_entropy, _label_accuracy, jax.nn.sigmoid, lambda outputs: math.log(2)),
    "value": Readout(_value_loss, None, lambda outputs: outputs, None),
}


def make(
    encoder: nn.Module,
    *,
    classes: int,
    frozen: bool = False,
    batch_norm: str = "train",
    label_smoothing: float = 0.0,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    class_weights: tuple = (),
    task: str = "single",
    scale: tuple[float, float] = (0.0, 1.0),
    hidden: tuple[int, ...] = (),
    attentive: bool = False,
    drop_path: float = 0.0,
) -> Objective:
    """Loss of a head on the features: cross-entropy, or that of `READOUTS[task]`.

    With MixUp or CutMix each image is mixed with another of the batch, and its loss is the average over both labels,
    weighted by the shares of the images; an unknown label has loss 0. Accuracy refers to the label of the larger share.

    Args:
      encoder: the network below the head.
      classes: width of the head.
      frozen: whether encoder and batch statistics stay as they are.
      batch_norm: "train" (statistics of the batch) or "frozen" (those of the initial encoder).
      label_smoothing: share of the target that is spread over all classes.
      mixup: alpha of MixUp (Zhang et al., 2018, arXiv:1710.09412): images are averaged, and each batch draws the share
        of the first from Beta(alpha, alpha); 0 for none.
      cutmix: alpha of CutMix (Yun et al., 2019, arXiv:1905.04899): a box of one image is put into the other. If both
        are above 0, each batch takes one of them with probability 1/2.
      class_weights: factor of the loss of each class, or for several labels of their absence and presence [2, classes];
        () for none. With weights that average 1 over the training images, the loss keeps its scale.
      task: one of `READOUTS`, which says what labels are.
      scale: mean and standard deviation of the values of the training images, of the task "value".
      hidden: widths of the hidden layers of the head; () for a linear one.
      attentive: whether the head is an `AttentiveClassifier`, without hidden layers.
      drop_path: rate of stochastic depth, for an encoder that has it and no batch statistics.
    """
    weights = jnp.array(class_weights, jnp.float32) if len(class_weights) else None
    head, readout = AttentiveClassifier(classes) if attentive else Classifier(classes, tuple(hidden)), READOUTS[task]
    encoder_trains = not frozen and (batch_norm == "train" or drop_path > 0)
    if drop_path:
        encoder = encoder.clone(drop_path=drop_path)  # pyright: ignore[reportCallIssue]

    def init(key: jax.Array, batch: dict) -> tuple[Tree, Tree, Tree]:
        keys = jax.random.split(key)
        (image,) = batch["views"]
        params, state = {}, {}
        params["encoder"], state["encoder"] = init_network(encoder, keys[0], image)
        params["head"], _ = init_network(head, keys[1], output_like(encoder, image))
        if task == "value":  # The head predicts standardized values; what undoes that is part of the network.
            state["scale"] = jnp.array(scale, jnp.float32)
        return params, state, {}

    def loss(params: Tree, model_state: Tree, target: Tree, batch: dict, key: jax.Array) -> LossAndAux:
        del target
        of_encoder = jax.lax.stop_gradient(params["encoder"]) if frozen else params["encoder"]
        (image,), label = batch["views"], batch["label"]
        if task == "value":
            label = (label - model_state["scale"][0]) / model_state["scale"][1]
        if mixup or cutmix:
            image, partner, share = mix(key, image, mixup, cutmix)
        drop_path_key = jax.random.fold_in(key, 1) if drop_path else None
        out, state = apply_network(
            encoder, of_encoder, model_state["encoder"], image, train=encoder_trains, drop_path_key=drop_path_key
        )
        logits, _ = apply_network(head, params["head"], {}, out, train=True)
        nats = readout.loss(logits, label, label_smoothing, weights)
        if mixup or cutmix:
            others = readout.loss(logits, label[partner], label_smoothing, weights)
            nats = share * nats + (1 - share) * others
            label = jnp.where(share >= 0.5, label, label[partner])
        metrics = {"features": out["pooled"]}
        if readout.accuracy:
            metrics["accuracy"] = readout.accuracy(logits, label)
        return nats.mean(), (model_state | {"encoder": state}, metrics)

    first = readout.first_loss
    return Objective(init, loss, first_loss=first and (lambda batch_size: first(classes)))


def mix(key: jax.Array, image: jax.Array, mixup: float, cutmix: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Apply MixUp or CutMix, the same to the whole batch.

    Args:
      key: PRNG key.
      image: [B, H, W, C] float32.
      mixup: alpha of MixUp; 0 for CutMix only.
      cutmix: alpha of CutMix; 0 for MixUp only. Not both are 0.

    Returns:
      The mixed images; for each, the index [B] of the image that is mixed in; and the share in [0, 1] of the own image,
      a scalar for the whole batch.
    """
    partner_key, mixup_key, cutmix_key, box_key, choice_key = jax.random.split(key, 5)
    partner = jax.random.permutation(partner_key, len(image))
    if mixup:
        own = jnp.broadcast_to(jax.random.beta(mixup_key, mixup, mixup), image.shape[1:3])
    if cutmix:
        boxed = 1.0 - box(box_key, 1 - jax.random.beta(cutmix_key, cutmix, cutmix), *image.shape[1:3])
        own = jnp.where(jax.random.bernoulli(choice_key), own, boxed) if mixup else boxed
    weight = own[..., None]
    return weight * image + (1 - weight) * image[partner], partner, own.mean()


def box(key: jax.Array, area: jax.Array, height: int, width: int) -> jax.Array:
    """Draw a box of this share of the image: [height, width] bool. Its centre is uniform, its border cropped."""
    place = jax.random.uniform(key, (2,))

    def inside(side: int, place: jax.Array) -> jax.Array:
        half = jnp.sqrt(area) * side / 2
        low, high = jnp.round(place * side - half), jnp.round(place * side + half)
        return (low <= jnp.arange(side)) & (jnp.arange(side) < high)

    return inside(height, place[0])[:, None] & inside(width, place[1])


def predict(
    encoder: nn.Module, classes: int, params: Tree, model_state: Tree, image: jax.Array, task: str = "single"
) -> jax.Array:
    """Return the predictions [B, classes] of a trained network for [B, H, W, C] float32: probabilities, or values."""
    out, _ = apply_network(encoder, params["encoder"], model_state["encoder"], image, train=False)
    outputs, _ = apply_network(classifier_of(classes, params["head"]), params["head"], {}, out, train=False)
    if "scale" in model_state:
        outputs = outputs * model_state["scale"][1] + model_state["scale"][0]
    return READOUTS[task].activate(outputs)
