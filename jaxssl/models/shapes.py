"""Shapes of an encoder's variables, without computing them."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

Tree = Any


def shapes_of(encoder: nn.Module, size: int, channels: int) -> Tree:
    """Return the variables of an encoder of [B, size, size, channels] images as a tree of `jax.ShapeDtypeStruct`."""
    image = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    return jax.eval_shape(lambda key, image: encoder.init(key, image, train=False), jax.random.key(0), image)


def count_channels(encoder: nn.Module, size: int, params: Tree) -> int:
    """Return the number of image channels that these parameters take.

    The number of parameters grows linearly with the channels.
    """
    one, two = (count_parameters(shapes_of(encoder, size, channels)["params"]) for channels in (1, 2))
    return max(1, 1 + (count_parameters(params) - one) // (two - one))


def count_parameters(params: Tree) -> int:
    return sum(p.size for p in jax.tree.leaves(params))
