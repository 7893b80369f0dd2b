"""Heat maps of test images: attention of a ViT, class activation of a network with a feature map."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxssl.inference.trained import Trained

Tree = Any


def compute_heat_maps(
    encoder: nn.Module, variables: Tree | None, finetuned: Trained | None, image: jax.Array
) -> tuple[str, np.ndarray] | None:
    """Return the kind of heat map that these networks allow and its values; None if there is none.

    Args:
      encoder: the network.
      variables: those of the evaluated encoder; if it has tokens, the kind is "attention".
      finetuned: a fine-tuned network; if it has a feature map, the kind is "class".
      image: [B, H, W, C] float32, standardized.

    Returns:
      ("attention" or "class", [B, h, w] uint8), each map scaled to [0, 255].
    """
    shapes = jax.eval_shape(lambda key: encoder.init_with_output(key, image, train=False)[0], jax.random.key(0))
    if "tokens" in shapes and variables is not None and encoder.depth:
        kind, heat = "attention", jax.jit(functools.partial(compute_attention, encoder))(variables, image)
    elif "map" in shapes and finetuned is not None:
        activation = jax.jit(functools.partial(compute_class_activation, encoder))
        kind, heat = "class", activation(finetuned.variables, finetuned.head, image)
    else:
        return None
    heat = np.asarray(heat, np.float64)
    low, high = (end(axis=(1, 2), keepdims=True) for end in (heat.min, heat.max))
    unit = (heat - low) / np.where(high > low, high - low, 1)
    return kind, np.rint(255 * unit).astype(np.uint8)


def compute_attention(encoder: Any, variables: Tree, image: jax.Array) -> jax.Array:
    """Return the attention that each patch gets in the last block, mean over heads: [B, rows, columns] float32.

    It is that of the class token if the pooled feature is this token, else the mean over all patches.
    """
    names = ("qkv", "q_norm", "k_norm")
    _, state = encoder.apply(variables, image, train=False, capture_intermediates=lambda m, _: m.name in names)
    last = state["intermediates"][f"blocks_{encoder.depth - 1}"]
    (qkv,) = last["qkv"]["__call__"]
    q, k, _ = jnp.moveaxis(qkv.reshape(*qkv.shape[:2], 3, encoder.heads, -1), 2, 0)
    if encoder.qk_norm:
        q, k = last["q_norm"]["__call__"][0], last["k_norm"]["__call__"][0]
    weight = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / jnp.sqrt(q.shape[-1]))
    prefix = encoder.prefix_tokens
    queries = weight[:, :, :1] if encoder.pool == "cls" else weight[:, :, prefix:]
    patches = queries[..., prefix:].mean((1, 2))
    return patches.reshape(len(image), -(-image.shape[1] // encoder.patch), -1)


def compute_class_activation(encoder: Any, variables: Tree, head: Tree, image: jax.Array) -> jax.Array:
    """Return the share of each place in the logit of the predicted class, relative to other classes: [B, h, w] float32.

    Zhou et al., 2016, arXiv:1512.04150, equation 2, minus the mean over classes, to which the softmax is invariant.
    """
    out = encoder.apply(variables, image, train=False)
    kernel, bias = head["linear"]["kernel"], head["linear"]["bias"]
    predicted = (out["pooled"] @ kernel + bias).argmax(-1)
    if kernel.shape[1] > 1:
        kernel = kernel - kernel.mean(1, keepdims=True)
    return jnp.einsum("bhwd,db->bhw", out["map"], kernel[:, predicted])
