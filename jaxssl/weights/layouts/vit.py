"""Vision transformers in the naming of timm, which DINO, DINOv2 and MAE share.

A ViT of jaxssl has computed positions. A file's `pos_embed` must agree with them; what it adds to the class token and
the registers is added to these.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxssl.errors import UserError
from jaxssl.models.vit import ViT, sincos_positions
from jaxssl.weights.layouts import naming
from jaxssl.weights.layouts.naming import Tensors

ENCODER = ViT
FIRST_LAYER = "patch_embed.proj.weight"
MODULES = {
    "patch_embed": "patch_embed.proj",
    "qkv": "attn.qkv",
    "proj": "attn.proj",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}


def name_variables(encoder: ViT, variables: Mapping) -> dict[str, jax.Array]:
    named = naming.name_variables(variables, MODULES)
    # The patch embedding is a convolution in PyTorch.
    kernel = named[FIRST_LAYER].T.reshape(encoder.patch, encoder.patch, -1, encoder.width)
    return named | {FIRST_LAYER: kernel.transpose(3, 2, 0, 1)}


def convert(tensors: Tensors, encoder: ViT, expected: Mapping[str, Any], where: str) -> Tensors:
    positions = tensors.get("pos_embed")
    tensors = {name: tensor for name, tensor in tensors.items() if name != "pos_embed"}
    return tensors | add_positions(tensors, positions, encoder, where)


def add_positions(tensors: Tensors, positions: np.ndarray | None, encoder: ViT, where: str) -> Tensors:
    """Return class token and registers plus their part of `positions`, a file's `pos_embed` [1, T, D].

    Raises:
      UserError: the positions of the patches are not those that jaxssl computes.
    """
    if positions is None or positions.ndim != 3 or (len(positions), positions.shape[2]) != (1, encoder.width):
        shape = "none" if positions is None else positions.shape
        raise UserError(
            f"{where} has a pos_embed of shape {shape}, not (1, T, {encoder.width}): check model.name, model.options",
            code="mismatch",
            field="init.weights",
        )
    for prefix in (1 + encoder.registers, 0):  # With timm's `no_embed_class` only the patches have positions.
        patches = positions[0, prefix:]
        side = math.isqrt(len(patches))
        if side**2 == len(patches) > 0 and np.allclose(patches, sincos_positions(side, side, encoder.width), atol=1e-4):
            parts = {"cls_token": positions[:, :1], "reg_token": positions[:, 1:prefix]}
            return {
                name: tensors[name] + part
                for name, part in parts.items()
                if prefix and name in tensors and tensors[name].shape == part.shape
            }
    raise UserError(
        f"{where} has a learnt pos_embed, and a ViT of jaxssl has the sines and cosines of MAE: give weights that were "
        "trained with these",
        code="unsupported",
        field="init.weights",
    )


def extra_tensors(encoder: ViT, size: int) -> Tensors:
    """Return the positions; if `size` is not a multiple of the patch, those of the images padded to one."""
    side = -(-size // encoder.patch)
    prefix = np.zeros((1 + encoder.registers, encoder.width), np.float32)
    return {"pos_embed": np.concatenate([prefix, sincos_positions(side, side, encoder.width)])[None]}
