"""RandAugment on the device, and affine resampling."""

import math

import dm_pix as pix
import jax
import jax.numpy as jnp

# The last is for three channels only.
OPERATIONS = (
    *("identity", "rotate", "shear_x", "shear_y", "translate_x", "translate_y", "brightness", "contrast", "sharpness"),
    *("solarize", "posterize", "autocontrast", "equalize", "color"),
)


def affine(x: jax.Array, linear: jax.Array, shift: jax.Array, nearest: bool = False) -> jax.Array:
    """Resample [B, H, W, C] bilinearly at `linear` [B, 2, 2] times the position of each output pixel + `shift` [B, 2].

    Positions are (row, column) in pixels from the centre of the image. The image is continued by reflection
    (c b a | a b c | c b a), any number of times, so that no fill colour reveals the transformation. With `nearest`, the
    pixel at each position is taken as it is.
    """
    sides = x.shape[1:3]
    place = jnp.stack(jnp.meshgrid(*(jnp.arange(side) - (side - 1) / 2 for side in sides), indexing="ij"))
    # Sums of products rather than an einsum, which accelerators would compute at too low a precision for positions.
    source = (linear[..., None, None] * place).sum(2) + shift[..., None, None]
    source += (jnp.array(sides)[:, None, None] - 1) / 2
    low = jnp.round(source) if nearest else jnp.floor(source)
    row, column = jnp.moveaxis(source - low, 1, 0)[..., None]
    pixels = x.reshape(len(x), -1, x.shape[-1])

    def reflected(index: jax.Array, side: int) -> jax.Array:
        index = index % (2 * side)
        return jnp.minimum(index, 2 * side - 1 - index)

    def neighbour(down: int, right: int) -> jax.Array:
        rows, columns = (reflected(low[:, i].astype(int) + step, sides[i]) for i, step in enumerate((down, right)))
        index = (rows * sides[1] + columns).reshape(len(x), -1, 1)
        return jnp.take_along_axis(pixels, index, 1, mode="promise_in_bounds").reshape(x.shape)

    if nearest:
        return neighbour(0, 0)
    upper = (1 - column) * neighbour(0, 0) + column * neighbour(0, 1)
    lower = (1 - column) * neighbour(1, 0) + column * neighbour(1, 1)
    return (1 - row) * upper + row * lower


def rotation(angle: jax.Array) -> jax.Array:
    """[B] radians -> [B, 2, 2], with which `affine` rotates images anticlockwise."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cos, sin], -1), jnp.stack([-sin, cos], -1)], -2)


def rotate(x: jax.Array, angle: jax.Array, nearest: bool = False) -> jax.Array:
    """Rotate [B, H, W, C] anticlockwise about the centre by `angle` [B] radians; see `affine` for the corners."""
    return affine(x, rotation(angle), jnp.zeros((len(x), 2)), nearest)


def sharpness(x: jax.Array, factor: jax.Array) -> jax.Array:
    """Sharpen (`factor` above 1) or smooth each image, except for the outermost pixels."""

    def threes(x: jax.Array, axis: int) -> jax.Array:
        first, second, third = (jax.lax.slice_in_dim(x, k, x.shape[axis] - 2 + k, axis=axis) for k in range(3))
        return first + second + third

    inner = x[:, 1:-1, 1:-1]
    smooth = (threes(threes(x, 1), 2) + 4 * inner) / 13
    return x.at[:, 1:-1, 1:-1].set(blend(smooth, inner, factor))


def blend(other: jax.Array, x: jax.Array, factor: jax.Array) -> jax.Array:
    """Blend from `other` (factor 0) to `x` (factor 1), clipped to [0, 1]; `factor` [B, 1, 1, 1]."""
    return jnp.clip(other + factor * (x - other), 0, 1)


def contrast(x: jax.Array, factor: jax.Array) -> jax.Array:
    """Increase (`factor` above 1) or reduce the difference of each image from the mean of its grey version."""
    grey = pix.rgb_to_grayscale(x) if x.shape[-1] == 3 else x
    return blend(grey.mean((1, 2, 3), keepdims=True), x, factor)


def eight_bits(x: jax.Array) -> jax.Array:
    """Round [0, 1] to the levels 0 to 255, int32."""
    return jnp.round(x * 255).astype(jnp.int32)


def posterize(x: jax.Array, bits: int) -> jax.Array:
    """Keep only the highest `bits` of 8."""
    step = 2 ** (8 - bits)
    return eight_bits(x) // step * step / 255


def autocontrast(x: jax.Array) -> jax.Array:
    """Stretch each channel to [0, 1]; a constant channel stays as it is."""
    low, high = (f(x, (1, 2), keepdims=True) for f in (jnp.min, jnp.max))
    return jnp.where(high > low, (x - low) / jnp.where(high > low, high - low, 1), x)


def equalize(x: jax.Array) -> jax.Array:
    """Equalize the histogram of 256 levels of each channel; with fewer than 256 pixels it stays as it is."""

    levels = eight_bits(x).transpose(0, 3, 1, 2).reshape(len(x) * x.shape[-1], -1)
    count = jax.vmap(lambda level: jnp.zeros(256, jnp.int32).at[level].add(1, mode="promise_in_bounds"))(levels)
    # Pixels per level without those of the highest level present: PIL's rule, which the published code follows.
    step = (levels.shape[1] - jnp.take_along_axis(count, levels.max(1, keepdims=True), 1)) // 255
    below = jnp.cumsum(count, 1) - count
    table = jnp.clip((below + step // 2) // jnp.maximum(step, 1), 0, 255)
    table = jnp.where(step > 0, table, jnp.arange(256))
    equal = jnp.take_along_axis(table, levels, 1, mode="promise_in_bounds") / 255
    return equal.reshape(len(x), x.shape[-1], *x.shape[1:3]).transpose(0, 2, 3, 1)


def apply(x: jax.Array, operation: jax.Array, sign: jax.Array, magnitude: float) -> jax.Array:
    """Apply to each of [B, H, W, C] in [0, 1] float32 its own `operation` [B], an index of OPERATIONS.

    At magnitude 10: a rotation by 30 degrees, a shear by 0.3 (about the upper left corner), a shift by 150/331 of the
    side (whole pixels); factors 1.9 and 0.1 of brightness, contrast, sharpness and colour; posterize keeps four bits,
    and solarize inverts everything. Below 10 in proportion. `sign` [B], 1 or -1, is the direction if there are two.

    All operations are computed for every image, since a batch has no branches; geometric ones share one resampling.
    """
    share = magnitude / 10
    height, width = x.shape[1:3]

    def amount(name: str, most: float) -> jax.Array:
        return jnp.where(operation == OPERATIONS.index(name), sign * most, 0.0)

    shear_x, shear_y = amount("shear_x", 0.3 * share), amount("shear_y", 0.3 * share)
    none = jnp.zeros_like(shear_x)
    shear = jnp.stack([jnp.stack([none, shear_y], -1), jnp.stack([shear_x, none], -1)], -2)
    down = amount("translate_y", -int(150 / 331 * height * share)) + shear_y * width / 2
    right = amount("translate_x", -int(150 / 331 * width * share)) + shear_x * height / 2
    turn = rotation(amount("rotate", math.radians(30 * share)))
    x = affine(x, turn + shear, jnp.stack([down, right], -1))

    factor = (1 + 0.9 * share * sign)[:, None, None, None]
    changed = {
        "brightness": blend(jnp.zeros_like(x), x, factor),
        "contrast": contrast(x, factor),
        "sharpness": sharpness(x, factor),
        "solarize": pix.solarize(x, 1 - share),
        "posterize": posterize(x, 8 - round(4 * share)),
        "autocontrast": autocontrast(x),
        "equalize": equalize(x),
    }
    if x.shape[-1] == 3:
        changed["color"] = blend(jnp.asarray(pix.rgb_to_grayscale(x)), x, factor)
    for name, value in changed.items():
        x = jnp.where((operation == OPERATIONS.index(name))[:, None, None, None], value, x)
    return x


def randaugment(key: jax.Array, x: jax.Array, operations: int, magnitude: float) -> jax.Array:
    """RandAugment (Cubuk et al., 2020, arXiv:1909.13719): random operations on each image, all at one magnitude.

    Operations, ranges and arithmetic are those of torchvision's `RandAugment`, whose `magnitude` (0 to 30) is three
    times this one. Unlike there, resampling is bilinear rather than nearest, and the border is filled by reflection
    rather than black. Images without three channels have no operation "color".

    Args:
      key: PRNG key.
      x: [B, H, W, C] float32; it is clipped to [0, 1] first.
      operations: number of operations, one after the other; N of the paper.
      magnitude: 0 to 10; M of the paper.

    Returns:
      [B, H, W, C] float32 in [0, 1].
    """
    choices = len(OPERATIONS) - (x.shape[-1] != 3)

    def one(x: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        operation_key, sign_key = jax.random.split(key)
        operation = jax.random.randint(operation_key, (len(x),), 0, choices)
        sign = jax.random.rademacher(sign_key, (len(x),), jnp.float32)
        return apply(x, operation, sign, magnitude), None

    # An unrolled loop compiles longer, and on a CPU each operation would recompute the one before.
    return jax.lax.scan(one, jnp.clip(x, 0, 1), jax.random.split(key, operations))[0]
