"""Masked autoencoder (He et al., 2022, arXiv:2111.06377)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxssl.errors import UserError, check_range
from jaxssl.models import vit
from jaxssl.objectives import LossAndAux, Objective, Tree, init_network

# Added to the variance of a patch, as in the published code: a patch of one colour has the target 0, not 0 / 0.
EPSILON = 1e-6


class Prediction(NamedTuple):
    """Output for a batch of T patches of P pixels, in row-major order.

    Attributes:
      patches: [B, T, P C] float32, the decoder's output for all patches, masked or not.
      mask: [B, T] bool, true where the patch was masked.
      pooled: [B, D] float32, the encoder's features of the visible patches.
      state: of the encoder after this batch.
    """

    patches: jax.Array
    mask: jax.Array
    pooled: jax.Array
    state: Tree


def make(
    encoder: nn.Module,
    *,
    mask_ratio: float = 0.75,
    decoder_width: int = 128,
    decoder_depth: int = 2,
    decoder_heads: int = 4,
    normalise_targets: bool = True,
) -> Objective:
    """The encoder sees a few random patches, and a light decoder reconstructs the others.

    The features of the online probe are those of the visible patches.

    Args:
      encoder: the network to train: a `vit.ViT`, or another with its attribute `patch` and its argument `keep`.
      mask_ratio: share of the patches that are masked, in (0, 1); at least one is and one is not.
      decoder_width: width of the decoder's tokens; divisible by 4 and by `decoder_heads`.
      decoder_depth: blocks of the decoder.
      decoder_heads: attention heads of the decoder.
      normalise_targets: whether target patches are standardized to mean 0 and variance 1 (section 4.1, "reconstruction
        target"). The loss of predicting 0 is then 1, or 0 for a patch of one colour.

    Raises:
      UserError: the encoder has no patches, an option is out of its range, or, from `init`, the patches do not fit the
        images.
    """
    check_encoder(encoder)
    check_range("pretrain.options.mask_ratio", mask_ratio, "(0, 1)")
    decoder = make_decoder(encoder, decoder_width, decoder_depth, decoder_heads)

    def init(key: jax.Array, batch: dict) -> tuple[Tree, Tree, Tree]:
        keys = jax.random.split(key, 3)
        (image,) = batch["views"]
        check_image(encoder, image)
        params, state = {}, {}
        params["encoder"], state["encoder"] = init_network(encoder, keys[0], image)
        patches = vit.patchify(image, encoder.patch)
        keep, place = random_mask(keys[2], len(patches), patches.shape[1], mask_ratio)
        out: Any = encoder.apply({"params": params["encoder"], **state["encoder"]}, image, train=False, keep=keep)
        grid = vit.grid_of(image.shape[1], image.shape[2], encoder.patch)
        visible = (out.get("cls"), out["tokens"], place)
        params["decoder"] = decoder.init(keys[1], *visible, grid, patches.shape[2])["params"]
        return params, state, {}

    def loss(params: Tree, model_state: Tree, target: Tree, batch: dict, key: jax.Array) -> LossAndAux:
        del target
        (image,) = batch["views"]
        prediction = predict(encoder, decoder, params, model_state, image, key, mask_ratio, train=True)
        patches = vit.patchify(image, encoder.patch)
        if normalise_targets:
            mean, deviation = moments(patches)
            patches = (patches - mean) / deviation
        error = jnp.square(prediction.patches - patches).mean(-1)
        # All images have equally many masked patches.
        value = jnp.where(prediction.mask, error, 0).sum() / prediction.mask.sum()
        return value, ({"encoder": prediction.state}, {"features": prediction.pooled})

    first_loss = (lambda batch_size: 1.0) if normalise_targets else None
    return Objective(init, loss, first_loss=first_loss)


def check_encoder(encoder: nn.Module) -> None:
    if not hasattr(encoder, "patch"):
        raise UserError(
            f"pretrain.objective='mae' needs an encoder with patches, and {type(encoder).__name__} has none: set "
            f"model.name to one of {', '.join(map(repr, vit.ENCODERS))}, or choose another pretrain.objective",
            code="mismatch",
            field="model.name",
        )


def make_decoder(encoder: nn.Module, width: int, depth: int, heads: int) -> vit.Decoder:
    try:
        return vit.Decoder(width, depth, heads, encoder.dtype, getattr(encoder, "precision", None))
    except ValueError as error:
        raise UserError(
            f"pretrain.options.decoder_width={width} and pretrain.options.decoder_heads={heads} do not fit: {error}",
            code="conflict",
            field="pretrain.options.decoder_width",
        ) from error


def check_image(encoder: nn.Module, image: jax.Array) -> None:
    """Raise UserError unless the image divides into two patches or more."""
    height, width = image.shape[1:3]
    if height % encoder.patch or width % encoder.patch or height * width < 2 * encoder.patch**2:
        size = f"{height}" if height == width else f"{height}x{width}"
        raise UserError(
            f"data.image_size={size} does not divide into two or more patches of model.options.patch={encoder.patch}, "
            f"as 'mae' needs it: set data.image_size={max(2, round(width / encoder.patch)) * encoder.patch}",
            code="mismatch",
            field="data.image_size",
        )


def random_mask(key: jax.Array, images: int, patches: int, mask_ratio: float) -> tuple[jax.Array, jax.Array]:
    """Draw the visible patches of each image.

    Returns:
      keep: [B, K] int32, indices of the visible patches.
      place: [B, T] int32, position of each patch in `keep`; K or more if it is masked.
    """
    visible = min(max(round(patches * (1 - mask_ratio)), 1), patches - 1)
    order = jnp.argsort(jax.random.uniform(key, (images, patches)), axis=1)
    return order[:, :visible], jnp.argsort(order, axis=1)


def moments(patches: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return mean and standard deviation of each patch: [B, T, P] -> [B, T, 1] each."""
    return patches.mean(-1, keepdims=True), jnp.sqrt(patches.var(-1, keepdims=True) + EPSILON)


def predict(
    encoder: nn.Module,
    decoder: vit.Decoder,
    params: Tree,
    model_state: Tree,
    image: jax.Array,
    key: jax.Array,
    mask_ratio: float,
    *,
    train: bool,
) -> Prediction:
    """Mask [B, H, W, C] float32 at random, encode the visible patches, and decode all."""
    grid = vit.grid_of(image.shape[1], image.shape[2], encoder.patch)
    keep, place = random_mask(key, len(image), grid[0] * grid[1], mask_ratio)
    state = model_state["encoder"]
    variables = {"params": params["encoder"], **state}
    out, new = encoder.apply(variables, image, train=train, keep=keep, mutable=list(state) if train else [])
    pixels = encoder.patch**2 * image.shape[3]
    patches: Any = decoder.apply({"params": params["decoder"]}, out.get("cls"), out["tokens"], place, grid, pixels)
    return Prediction(patches, place >= keep.shape[1], out["pooled"], new if train else state)


def reconstruct(
    encoder: nn.Module,
    params: Tree,
    model_state: Tree,
    image: jax.Array,
    key: jax.Array,
    *,
    mask_ratio: float,
    decoder_width: int,
    decoder_depth: int,
    decoder_heads: int,
    normalise_targets: bool,
) -> dict[str, jax.Array]:
    """Reconstruct images with a network that `make` trained with the same options, to draw them.

    Args:
      encoder: as for `make`.
      params: trained.
      model_state: trained.
      image: [B, H, W, C] float32, standardised as in training.
      key: PRNG key of the mask.
      mask_ratio: as for `make`; may differ.
      decoder_width: as for `make`.
      decoder_depth: as for `make`.
      decoder_heads: as for `make`.
      normalise_targets: as for `make`. If true, mean and standard deviation of the true patch are applied to the
        prediction: brightness and contrast of the drawn patches are not predicted.

    Returns:
      "image": [B, H, W, C] in the scale of `image`: the prediction where masked, the image itself elsewhere.
      "masked": [B, H, W, C], the image with 0, its mean colour, where it is masked.
      "mask": [B, H, W, 1] bool, true where masked.
    """
    check_encoder(encoder)
    check_image(encoder, image)
    decoder = make_decoder(encoder, decoder_width, decoder_depth, decoder_heads)
    prediction = predict(encoder, decoder, params, model_state, image, key, mask_ratio, train=False)
    patches = prediction.patches
    if normalise_targets:
        mean, deviation = moments(vit.patchify(image, encoder.patch))
        patches = patches * deviation + mean
    pixels = jnp.broadcast_to(prediction.mask[..., None], (*prediction.mask.shape, encoder.patch**2))
    mask = vit.unpatchify(pixels, encoder.patch, *image.shape[1:3])
    predicted = vit.unpatchify(patches, encoder.patch, *image.shape[1:3])
    return {"image": jnp.where(mask, predicted, image), "masked": jnp.where(mask, 0, image), "mask": mask}
