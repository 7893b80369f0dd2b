"""Inpainting: an autoencoder fills rectangles that are cut out of the image.

Context encoders (Pathak et al., 2016, arXiv:1604.07379), without the adversarial loss.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxssl.errors import UserError, check_range
from jaxssl.models.autoencoder import Decoder
from jaxssl.objectives import LossAndAux, Objective, Tree, apply_network, init_network


def make(
    encoder: nn.Module,
    *,
    sides: tuple[float, float] = (5 / 96, 29 / 96),
    holes: int = 1,
    on: str = "hole",
    decoder_width: int = 32,
) -> Objective:
    """Mean squared error between the image and its reconstruction from the image with holes.

    The holes are drawn anew for each image and step, and are filled with 0, the mean colour of standardized images. The
    features of the online probe are those of the image with holes.

    Args:
      encoder: the network to train; returns a "map".
      sides: shortest and longest side of a hole, as shares of the image's; height and width are drawn independently.
      holes: number of rectangles per image; they may overlap.
      on: where the error is computed: "hole", per image the mean over its holes, or "image", everywhere.
      decoder_width: channels of the decoder's last stage.

    Raises:
      UserError: an option is out of its range, or, from `init`, the encoder returns no map.
    """
    check_options(sides, holes, on)
    decoder = Decoder(decoder_width, encoder.dtype)

    def init(key: jax.Array, batch: dict) -> tuple[Tree, Tree, Tree]:
        keys = jax.random.split(key)
        (image,) = batch["views"]
        params, state = {}, {}
        params["encoder"], state["encoder"] = init_network(encoder, keys[0], image)
        out, _ = apply_network(encoder, params["encoder"], state["encoder"], image, train=False)
        if "map" not in out:
            raise UserError(
                f"pretrain.objective='inpaint' needs an encoder that returns a map, and {type(encoder).__name__} does "
                "not: set model.name='autoencoder' or any other but a ViT",
                code="mismatch",
                field="model.name",
            )
        params["decoder"] = decoder.init(keys[1], out["map"], image.shape[1:])["params"]
        return params, state, {}

    def loss(params: Tree, model_state: Tree, target: Tree, batch: dict, key: jax.Array) -> LossAndAux:
        del target
        (image,) = batch["views"]
        hole = random_holes(key, image.shape, sides, holes)
        filled, pooled, state = fill(encoder, decoder, params, model_state, image, hole, train=True)
        where = jnp.broadcast_to(hole if on == "hole" else True, image.shape)
        value = jnp.square(filled - image).mean((1, 2, 3), where=where).mean()
        return value, ({"encoder": state}, {"features": pooled})

    # The first prediction is 0, and the first loss is the mean square of the pixels, which depends on the images.
    return Objective(init, loss)


def check_options(sides: tuple[float, float], holes: int, on: str) -> None:
    low, high = sides
    if not 0 < low <= high < 1:
        raise UserError(
            f"pretrain.options.sides={tuple(sides)}: give two shares of the side between 0 and 1, the smaller first",
            code="out-of-range",
            field="pretrain.options.sides",
        )
    check_range("pretrain.options.holes", holes, "[1, inf)")
    if on not in ("hole", "image"):
        raise UserError(
            f"pretrain.options.on={on!r} is unknown: valid are 'hole' and 'image'",
            code="unknown-name",
            field="pretrain.options.on",
        )


def random_holes(key: jax.Array, shape: tuple, sides: tuple[float, float], holes: int) -> jax.Array:
    """Draw holes for images of this shape [B, H, W, C]: [B, H, W, 1] bool, true in `holes` rectangles each.

    Height and width are uniform over whole pixels from the shortest to the longest side, at least one pixel; the
    position is uniform over all for which the rectangle lies inside the image.
    """

    def interval(key: jax.Array, length: int) -> jax.Array:
        """[B, holes, length] bool."""
        size_key, start_key = jax.random.split(key)
        low, high = (max(1, round(share * length)) for share in sides)
        size = jax.random.randint(size_key, (shape[0], holes, 1), low, high + 1)
        start = jax.random.randint(start_key, size.shape, 0, length - size + 1)
        place = jnp.arange(length)
        return (place >= start) & (place < start + size)

    keys = jax.random.split(key)
    rows, columns = (interval(k, length) for k, length in zip(keys, shape[1:3], strict=True))
    return (rows[..., :, None] & columns[..., None, :]).any(1)[..., None]


def fill(
    encoder: nn.Module,
    decoder: Decoder,
    params: Tree,
    model_state: Tree,
    image: jax.Array,
    hole: jax.Array,
    *,
    train: bool,
) -> tuple[jax.Array, jax.Array, Tree]:
    """Return the decoder's image [B, H, W, C], the pooled features [B, D] and the encoder's state.

    The encoder does not see the pixels in `hole` [B, H, W, 1] bool.
    """
    seen = jnp.where(hole, 0, image)
    out, state = apply_network(encoder, params["encoder"], model_state["encoder"], seen, train=train)
    filled: Any = decoder.apply({"params": params["decoder"]}, out["map"], image.shape[1:])
    return filled, out["pooled"], state


def reconstruct(
    encoder: nn.Module,
    params: Tree,
    model_state: Tree,
    image: jax.Array,
    key: jax.Array,
    *,
    sides: tuple[float, float],
    holes: int,
    on: str,
    decoder_width: int,
) -> dict[str, jax.Array]:
    """Reconstruct images with a network that `make` trained with the same options, to draw them.

    Args:
      encoder: as for `make`.
      params: trained.
      model_state: trained.
      image: [B, H, W, C] float32, standardised as in training.
      key: PRNG key of the holes.
      sides: as for `make`; may differ.
      holes: as for `make`; may differ.
      on: unused.
      decoder_width: as for `make`.

    Returns:
      "image": [B, H, W, C] in the scale of `image`: the prediction in the holes, the image itself elsewhere.
      "masked": [B, H, W, C], the image with 0, its mean colour, in the holes.
      "mask": [B, H, W, 1] bool, true in the holes.
    """
    del on
    hole = random_holes(key, image.shape, sides, holes)
    decoder = Decoder(decoder_width, encoder.dtype)
    filled, _, _ = fill(encoder, decoder, params, model_state, image, hole, train=False)
    return {"image": jnp.where(hole, filled, image), "masked": jnp.where(hole, 0, image), "mask": hole}
