"""SimCLR: contrastive learning with the NT-Xent loss (Chen et al., 2020, arXiv:2002.05709).

With `dense`, the places of the feature map of a convolutional encoder are contrasted, too, as in DenseCL (Wang et al.,
2021, arXiv:2011.09157), whose negatives come from a queue; here they are the other images of the batch.
"""

import math

import jax
from flax import linen as nn

from jaxssl.errors import UserError, check_range
from jaxssl.models.heads import make_mlp
from jaxssl.objectives import (
    LossAndAux,
    Objective,
    Tree,
    apply_network,
    deinterleave,
    init_network,
    init_projected,
    interleave,
    losses,
    output_like,
)


def make(
    encoder: nn.Module, *, hidden: int = 512, projection: int = 128, temperature: float = 0.1, dense: float = 0.0
) -> Objective:
    """Normalized temperature-scaled cross-entropy; the negatives are the other images of the whole global batch.

    With gradient accumulation they are those of the same part of the batch, of which there are fewer.

    Args:
      encoder: the network to train.
      hidden: width of the hidden layer of the projector.
      projection: width of its output, on which the loss is taken.
      temperature: by which cosine similarities are divided.
      dense: weight, in [0, 1], of the loss of places in the feature map (`losses.dense_ntxent`), which have a projector
        of their own; .5 in DenseCL. For segmentation, and encoders that return a "map".

    Raises:
      UserError: `temperature` or `dense` is out of its range, or, from `init`, the encoder returns no map.
    """
    check_range("pretrain.options.temperature", temperature, "(0, inf)")
    check_range("pretrain.options.dense", dense, "[0, 1]")
    projector = make_mlp(encoder, hidden, projection)

    def init(key: jax.Array, batch: dict) -> tuple[Tree, Tree, Tree]:
        image = batch["views"][0]
        params, state = init_projected(encoder, projector, jax.random.split(key), image)
        if dense:
            places = init_network(projector, jax.random.fold_in(key, 2), places_of(output_like(encoder, image)))
            params["dense"], state["dense"] = places
        return params, state, {}

    def loss(params: Tree, model_state: Tree, target: Tree, batch: dict, key: jax.Array) -> LossAndAux:
        del target, key

        def apply(module: nn.Module, name: str, x: jax.Array) -> tuple:
            return apply_network(module, params[name], model_state[name], x, train=True, views=2)

        state = dict(model_state)
        out, state["encoder"] = apply(encoder, "encoder", interleave(batch["views"]))
        z, state["projector"] = apply(projector, "projector", out["pooled"])
        first, second = deinterleave(z, 2)
        value = losses.ntxent(first, second, temperature).mean()
        if dense:
            features = places_of(out)
            z, state["dense"] = apply(projector, "dense", features)
            (f, g), (z, w) = deinterleave(features, 2), deinterleave(z, 2)
            value = (1 - dense) * value + dense * losses.dense_ntxent(f, g, z, w, temperature).mean()
        metrics = {"features": deinterleave(out["pooled"], 2)[0], "embedding_std": losses.embedding_std(first)}
        return value, (state, metrics)

    def first_loss(batch_size: int) -> float:
        # If all embeddings are equal, each candidate is equally likely to be the partner.
        return (1 - dense) * math.log(2 * batch_size - 1) + dense * math.log(batch_size)

    return Objective(init, loss, views=2, first_loss=first_loss, min_images=2)


def places_of(out: dict[str, jax.Array]) -> jax.Array:
    """Return the map [B, H, W, D] of an encoder as [B, H W, D]. UserError if it returns none."""
    if "map" not in out:
        field = "pretrain.options.dense"
        message = f"{field} contrasts the places of a feature map, which this encoder does not return: set it to 0"
        raise UserError(message, code="conflict", field=field)
    return out["map"].reshape(len(out["map"]), -1, out["map"].shape[-1])
