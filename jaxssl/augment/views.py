"""Augmentation on the device: (key, batch) -> batch with views, each image with its own random numbers.

All functions take a whole batch. The random numbers of an image depend on the key and on its index in the batch, not on
the devices, so that one device and eight make the same views.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import dm_pix as pix
import jax
import jax.numpy as jnp

from jaxssl.augment import randaugment


class Pixels(NamedTuple):
    """Scaling of stored values, measured on the training images.

    Attributes:
      low: stored value that becomes 0.
      high: stored value that becomes 1.
      mean: mean of each channel after scaling and stretch; becomes 0.
      std: standard deviation, likewise; becomes 1.
      asinh: strength of the stretch that brightens faint structure; 0 for none.
    """

    low: float
    high: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    asinh: float = 0.0


def to_unit(image: jax.Array, pixels: Pixels) -> jax.Array:
    """Scale stored values (uint8, uint16 or float) to float32, most of them in [0, 1].

    With `pixels.asinh` = a, x becomes asinh(a x) / asinh(a) (Lupton et al., 1999, AJ 118:1406; 2004, PASP 116:133).
    """
    x = (image.astype(jnp.float32) - pixels.low) / (pixels.high - pixels.low)
    return jnp.arcsinh(pixels.asinh * x) / math.asinh(pixels.asinh) if pixels.asinh else x


def standardize(image: jax.Array, pixels: Pixels) -> jax.Array:
    """Scale each channel of [B, H, W, C] by the mean and standard deviation of `pixels`."""
    return (image - jnp.asarray(pixels.mean)) / jnp.asarray(pixels.std)


def eval_transform(image: jax.Array, pixels: Pixels, size: int) -> jax.Array:
    """[B, H, W, C] as stored -> [B, size, size, C] float32, standardized and without augmentation."""
    return standardize(resize(to_unit(image, pixels), size), pixels)


def resize(x: jax.Array, size: int) -> jax.Array:
    if x.shape[1:3] == (size, size):
        return x
    return jax.image.resize(x, (len(x), size, size, x.shape[-1]), "linear")


def resize_mask(x: jax.Array, size: int) -> jax.Array:
    return jax.image.resize(x, (len(x), size, size, x.shape[-1]), "nearest")


def resized_crop(
    key: jax.Array,
    x: jax.Array,
    size: int,
    area: tuple,
    ratio: tuple,
    nearest: bool = False,
    within: jax.Array | None = None,
) -> jax.Array:
    """Random crop (Inception crop) with area share and ratio of sides in these ranges, resized to `size`.

    With `nearest`, each pixel is that of `x` in which its centre lies. `within` [B, 2] are pixels that crops must show,
    anywhere; an image with -1 has none.
    """
    area_key, ratio_key, place_key = jax.random.split(key, 3)
    side = jnp.asarray(x.shape[1:3], jnp.float32)
    share = jax.random.uniform(area_key, (len(x),), minval=area[0], maxval=area[1])
    log_ratio = jax.random.uniform(ratio_key, (len(x),), minval=jnp.log(ratio[0]), maxval=jnp.log(ratio[1]))
    stretch = jnp.exp(jnp.stack([-log_ratio, log_ratio], -1) / 2)
    crop = jnp.minimum(side * jnp.sqrt(share)[:, None] * stretch, side)
    lowest, highest = jnp.zeros(()), side - crop
    if within is not None:
        shown = within >= 0
        lowest = jnp.where(shown, jnp.maximum(within + 1 - crop, 0), lowest)
        highest = jnp.where(shown, jnp.minimum(within, highest), highest)
    start = lowest + jax.random.uniform(place_key, (len(x), 2)) * (highest - lowest)
    scale = size / crop

    def one(image: jax.Array, scale: jax.Array, start: jax.Array) -> jax.Array:
        if nearest:
            place = (jnp.arange(size)[:, None] + 0.5) / scale + start
            row, column = jnp.clip(place.astype(int), 0, jnp.array(image.shape[:2]) - 1).T
            return image[row[:, None], column]
        shape = (size, size, image.shape[-1])
        return jax.image.scale_and_translate(image, shape, (0, 1), scale, -start * scale, "linear", antialias=True)

    return jax.vmap(one)(x, scale, start)


def draw_lesion_pixels(key: jax.Array, mask: jax.Array | None, probability: float) -> jax.Array | None:
    """Draw a pixel of the foreground of each mask [B, H, W] uint8: first one of its classes, then one of their pixels.

    Returns:
      [B, 2] int32, its row and column; -1 for an empty mask, and otherwise with a chance of 1 - `probability`. None
        without masks, or if that is 1.
    """
    if mask is None or not probability:
        return None
    chosen_key, class_key, pixel_key = jax.random.split(key, 3)
    flat = mask.reshape(len(mask), -1)
    marked = (flat > 0) & (flat < 255)  # 255 is unknown.
    # Each class has one number, and the smallest of those that are in the mask wins.
    numbers = jnp.take_along_axis(jax.random.uniform(class_key, (len(mask), 256)), flat.astype(int), axis=1)
    best = jnp.where(marked, numbers, 1).min(axis=1, keepdims=True)
    order = jnp.where(marked & (numbers == best), jax.random.uniform(pixel_key, flat.shape), -1)
    chosen = jax.random.bernoulli(chosen_key, probability, (len(mask),)) & marked.any(axis=1)
    place = jnp.stack(jnp.divmod(order.argmax(axis=1), mask.shape[2]), axis=1)
    return jnp.where(chosen[:, None], place, -1)


def gaussian_blur(x: jax.Array, sigma: jax.Array) -> jax.Array:
    """Blur [B, H, W, C] by `sigma` [B] pixels, as two matrix products; the kernel is normalized at the border."""

    def kernel(length: int) -> jax.Array:
        place = jnp.arange(length, dtype=jnp.float32)
        weight = jnp.exp(-((place[:, None] - place) ** 2) / (2 * sigma[:, None, None] ** 2))
        return weight / weight.sum(-1, keepdims=True)

    x = jnp.einsum("bih,bhwc->biwc", kernel(x.shape[1]), x)
    return jnp.einsum("bjw,biwc->bijc", kernel(x.shape[2]), x)


def jitter(
    key: jax.Array, x: jax.Array, brightness: float, contrast: float, saturation: float, hue: float
) -> jax.Array:
    """Change brightness and contrast; for three channels, which stay in [0, 1], saturation and hue too."""
    keys = jax.random.split(key, 4)

    def factor(key: jax.Array, strength: float) -> jax.Array:
        return jax.random.uniform(key, (len(x),), minval=max(0.0, 1 - strength), maxval=1 + strength)

    x = x * factor(keys[0], brightness)[:, None, None, None]
    x = jnp.asarray(jax.vmap(pix.adjust_contrast)(x, factor(keys[1], contrast)))
    if x.shape[-1] == 3:
        x = jnp.clip(x, 0, 1)
        if saturation:
            x = jnp.asarray(jax.vmap(pix.adjust_saturation)(x, factor(keys[2], saturation)))
        if hue:
            shift = jax.random.uniform(keys[3], (len(x),), minval=-hue, maxval=hue)
            x = jnp.asarray(jax.vmap(pix.adjust_hue)(x, shift))
        x = jnp.clip(x, 0, 1)
    return x


def grey(x: jax.Array) -> jax.Array:
    return jnp.broadcast_to(pix.rgb_to_grayscale(x), x.shape)


def sometimes(key: jax.Array, probability: float, changed: jax.Array, x: jax.Array) -> jax.Array:
    """Take each image of `changed` with this probability, else that of `x`."""
    chosen = jax.random.bernoulli(key, probability, (len(x), 1, 1, 1))
    return jnp.where(chosen, changed, x)


def rotate(key: jax.Array, x: jax.Array, largest: float, nearest: bool = False) -> jax.Array:
    """Rotate each image by an angle drawn from +- `largest` degrees, bilinearly or to the nearest pixel."""
    angle = jax.random.uniform(key, (len(x),), minval=-largest, maxval=largest)
    return randaugment.rotate(x, jnp.radians(angle), nearest)


def flip(keys: Iterator[jax.Array], x: jax.Array, horizontal: bool, vertical: bool, rotate90: bool) -> jax.Array:
    """Flip each image with probability 1/2; with `rotate90`, apply one of the eight symmetries of the square."""
    if horizontal or rotate90:
        x = sometimes(next(keys), 0.5, x[:, :, ::-1], x)
    if vertical or rotate90:
        x = sometimes(next(keys), 0.5, x[:, ::-1], x)
    if rotate90:
        # With both flips, a transposition half of the time gives each of the eight symmetries.
        x = sometimes(next(keys), 0.5, x.swapaxes(1, 2), x)
    return x


def split_keys(key: jax.Array) -> Iterator[jax.Array]:
    """Return the keys of the operations of a view; those added later fold in numbers from 14, which changes no draw."""
    return iter(jax.random.split(key, 14))


def change_colour(
    keys: Iterator[jax.Array],
    x: jax.Array,
    jitter_probability: float,
    strengths: tuple[float, float, float, float],
    grey_probability: float,
) -> jax.Array:
    """Change brightness, contrast, saturation and hue by these strengths, and drop colour, with these probabilities."""
    if jitter_probability:
        x = sometimes(next(keys), jitter_probability, jitter(next(keys), x, *strengths), x)
    if grey_probability and x.shape[-1] == 3:
        x = sometimes(next(keys), grey_probability, grey(x), x)
    return x


def blur(keys: Iterator[jax.Array], x: jax.Array, probability: float, sigma: tuple[float, float]) -> jax.Array:
    """Blur each image with this probability by a random sigma of this range."""
    drawn = jax.random.uniform(next(keys), (len(x),), minval=sigma[0], maxval=sigma[1])
    return sometimes(next(keys), probability, gaussian_blur(x, drawn), x)


def add_noise(keys: Iterator[jax.Array], x: jax.Array, noise: float) -> jax.Array:
    """Add Gaussian noise with a random standard deviation of up to `noise` times the range of each image."""
    extent = x.max((1, 2, 3), keepdims=True) - x.min((1, 2, 3), keepdims=True)
    deviation = extent * jax.random.uniform(next(keys), (len(x), 1, 1, 1), maxval=noise)
    return x + deviation * jax.random.normal(next(keys), x.shape)


def change_content(options: Mapping[str, Any]) -> bool:
    """Return whether views show other content than their image: more than noise, blur, flips or small angles change.

    Args:
      options: of `make`.
    """
    jitter = max(options.get(name, 0.0) for name in ("brightness", "contrast", "saturation", "hue"))
    return (
        options.get("crop_area", (1.0, 1.0))[0] < 0.75
        or options.get("rotation", 0.0) > 45
        or options.get("randaugment_operations", 0) > 0
        or max(options.get("solarize_probability", (0.0,))) > 0
        or (options.get("jitter_probability", 0.0) >= 0.5 and jitter >= 0.3)
    )


def make(
    pixels: Pixels,
    *,
    size: int,
    views: int,
    crop_area: tuple[float, float] = (1.0, 1.0),
    crop_ratio: tuple[float, float] = (0.75, 4 / 3),
    crop_lesions: float = 0.0,
    flip_horizontal: bool = False,
    flip_vertical: bool = False,
    rotate90: bool = False,
    rotation: float = 0.0,
    randaugment_operations: int = 0,
    randaugment_magnitude: float = 9.0,
    jitter_probability: float = 0.0,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    grey_probability: float = 0.0,
    blur_probability: tuple[float, ...] = (0.0,),
    blur_sigma: tuple[float, float] = (0.1, 2.0),
    solarize_probability: tuple[float, ...] = (0.0,),
    noise: float = 0.0,
) -> Callable[[jax.Array, dict], dict]:
    """Return a function that adds "views" to a batch, each [B, size, size, C] float32 and standardized.

    It maps (key, {"image": [B, H, W, C] as stored, ...}) to the same batch with "views". The order is that of BYOL
    (arXiv:2006.07733, appendix B) with some additions: crop, rotation, flips, RandAugment, jitter, grey, blur,
    solarize, noise. An option that is 0 or False takes no time.

    If the batch holds a "mask" [B, H, W], "masks" has that of each view, [B, size, size]: cropped, rotated and flipped
    as the image is, with the nearest pixel instead of an interpolated one. RandAugment moves images only.

    Args:
      pixels: scaling of the stored values.
      size: side of the views in pixels.
      views: how many.
      crop_area: smallest and largest share of the image that a view shows; (1, 1) is the whole image.
      crop_ratio: smallest and largest ratio of the sides of that part.
      crop_lesions: of segmentation, probability that this part is placed so that it shows a pixel of the foreground, of
        a class that is drawn first: small lesions and rare classes are seen more often.
      flip_horizontal: with probability 1/2.
      flip_vertical: with probability 1/2.
      rotate90: by a random multiple of 90 degrees.
      rotation: largest angle in degrees, drawn from +- this for each image; 180 is any angle. Bilinear, about the
        centre. The image is continued by reflection, so that no black corners give the angle away.
      randaugment_operations: number of RandAugment operations (N of arXiv:1909.13719); 0 for none. They clip the image
        to [0, 1], and some round it to 8 bits.
      randaugment_magnitude: strength of those operations, 0 to 10 (M).
      jitter_probability: of changing brightness, contrast, saturation and hue.
      brightness: factor drawn from 1 +- this.
      contrast: factor drawn from 1 +- this.
      saturation: factor drawn from 1 +- this, for three channels.
      hue: shift drawn from +- this, as a share of the colour circle, for three channels.
      grey_probability: of dropping colour, for three channels.
      blur_probability: of a Gaussian blur; one number for all views or one per view.
      blur_sigma: smallest and largest, in pixels of the view.
      solarize_probability: of inverting values above 0.5; one number for all views or one per view.
      noise: largest standard deviation of Gaussian noise, drawn for each image, as a share of the range of the view
        (largest minus smallest value over all channels), so that it does not cover faint images.
    """
    crops = tuple(crop_area) != (1.0, 1.0)

    def move(key: jax.Array, keys: Iterator[jax.Array], x: jax.Array, mask: Any, nearest: bool = False) -> jax.Array:
        if crops:
            within = draw_lesion_pixels(jax.random.fold_in(key, 16), mask, crop_lesions)
            x = resized_crop(next(keys), x, size, crop_area, crop_ratio, nearest, within)
        else:
            x = resize_mask(x, size) if nearest else resize(x, size)
        if rotation:
            x = rotate(jax.random.fold_in(key, 14), x, rotation, nearest)
        return flip(keys, x, flip_horizontal, flip_vertical, rotate90)

    def view(key: jax.Array, x: jax.Array, number: int, mask: jax.Array | None) -> jax.Array:
        keys = split_keys(key)
        of_blur, of_solarize = (p[number % len(p)] for p in (blur_probability, solarize_probability))
        x = move(key, keys, x, mask)
        if randaugment_operations:
            x = randaugment.randaugment(jax.random.fold_in(key, 15), x, randaugment_operations, randaugment_magnitude)
        x = change_colour(keys, x, jitter_probability, (brightness, contrast, saturation, hue), grey_probability)
        if of_blur:
            x = blur(keys, x, of_blur, blur_sigma)
        if of_solarize:
            x = sometimes(next(keys), of_solarize, jnp.asarray(pix.solarize(x, 0.5)), x)
        if noise:
            x = add_noise(keys, x, noise)
        return standardize(x, pixels)

    def augment(key: jax.Array, batch: dict) -> dict:
        image, of_view = to_unit(batch["image"], pixels), [jax.random.fold_in(key, i) for i in range(views)]
        made = batch | {"views": tuple(view(key, image, i, batch.get("mask")) for i, key in enumerate(of_view))}
        if (mask := batch.get("mask")) is None:
            return made
        return made | {"masks": tuple(move(k, split_keys(k), mask[..., None], mask, True)[..., 0] for k in of_view)}

    return augment
