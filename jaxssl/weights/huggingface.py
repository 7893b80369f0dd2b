"""A ViT as the state dict of a `ViTModel`, `Dinov2Model` or `Dinov2WithRegistersModel` of transformers 5."""

import re
from typing import Any

import numpy as np
from flax import linen as nn

from jaxssl.errors import UserError
from jaxssl.models.vit import EPSILON, ViT
from jaxssl.weights.layouts.naming import Tensors
from jaxssl.weights.load import to_torch

Tree = Any

# From timm's names, one after the other; `{layer}` differs between the models.
RULES = (
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^reg_token$", "embeddings.register_tokens"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.ls(\d)\.gamma$", r".layer_scale\1.lambda1"),
)
# A tensor that is split along the first axis: its name, and the names of its parts.
SPLIT = {"attn.qkv": ("attention.q_proj", "attention.k_proj", "attention.v_proj")}
SPLIT_SWIGLU = {"mlp.fc1": ("mlp.gate_proj", "mlp.up_proj")}


def to_huggingface(encoder: nn.Module, variables: Tree, size: int) -> tuple[str, Tensors]:
    """Return the code that makes the model, and its state dict for `load_state_dict` with `strict=True`.

    Args:
      encoder: a ViT. With LayerScale it becomes a DINOv2, otherwise a `ViTModel` without pooler.
      variables: its "params".
      size: side of its images in pixels.

    Raises:
      UserError: Hugging Face has no model of this architecture.
    """
    check(encoder)
    assert isinstance(encoder, ViT)
    dinov2, swiglu = encoder.layer_scale > 0, encoder.activation == "swiglu"
    tensors = to_torch(encoder, variables, size)
    positions = tensors["pos_embed"]  # Registers have none.
    tensors["pos_embed"] = np.concatenate([positions[:, :1], positions[:, 1 + encoder.registers :]], axis=1)
    rules = (*RULES, (r"^blocks\.", "encoder.layer." if dinov2 else "layers."))
    rules += ((r"\.mlp\.fc2\.", ".mlp.down_proj."),) if swiglu else ()
    rules += () if dinov2 else ((r"\.norm1\.", ".layernorm_before."), (r"\.norm2\.", ".layernorm_after."))
    named = {}
    for name, tensor in tensors.items():
        for part, array in split(name, tensor, SPLIT | (SPLIT_SWIGLU if swiglu else {})):
            for pattern, replacement in rules:
                part = re.sub(pattern, replacement, part)
            named[part] = array
    if dinov2:
        named["embeddings.mask_token"] = np.zeros((1, encoder.width), np.float32)
    return code(encoder, size, positions.shape[1] - 1 - encoder.registers), named


def split(name: str, tensor: np.ndarray, parts: dict[str, tuple[str, ...]]) -> list[tuple[str, np.ndarray]]:
    """Return a tensor, or its parts, with their names."""
    joint = next((joint for joint in parts if f".{joint}." in name), None)
    if joint is None:
        return [(name, tensor)]
    arrays = np.split(tensor, len(parts[joint]))
    return [(name.replace(joint, part), np.ascontiguousarray(a)) for part, a in zip(parts[joint], arrays, strict=True)]


def check(encoder: nn.Module) -> None:
    """Raise UserError unless Hugging Face has such a model."""
    lacks = ""
    if not isinstance(encoder, ViT):
        lacks = "only ViTs are exported"
    elif encoder.qk_norm or encoder.pre_norm or encoder.pool == "fc_norm":
        lacks = "ViTModel and Dinov2Model have no QK norm, norm before the blocks or fc_norm"
    elif encoder.activation not in ("gelu", "swiglu"):
        lacks = f"ViTModel and Dinov2Model have no {encoder.activation}"
    elif not encoder.class_token:
        lacks = "ViTModel and Dinov2Model have a class token"
    elif (encoder.registers or encoder.activation == "swiglu") and not encoder.layer_scale:
        lacks = "registers and SwiGLU are those of DINOv2, which has LayerScale"
    elif encoder.activation == "swiglu" and (encoder.mlp_width or 4 * encoder.width) != swiglu_width(encoder.width):
        lacks = f"SwiGLU of DINOv2 is {swiglu_width(encoder.width)} wide here, set by model.options.mlp_width"
    if lacks:
        raise UserError(f"--naming=huggingface: {lacks}: use --naming=timm", code="unsupported", field="--naming")


def swiglu_width(width: int) -> int:
    """Return the hidden width of `Dinov2SwiGLUFFN` at an MLP ratio of 4."""
    return (int(4 * width * 2 / 3) + 7) // 8 * 8


def code(encoder: ViT, size: int, patches: int) -> str:
    """Return the code that makes the model, for images of whole patches."""
    side = encoder.patch * round(patches**0.5)
    name = "Dinov2WithRegisters" if encoder.registers else "Dinov2" if encoder.layer_scale else "ViT"
    arguments = {
        "hidden_size": encoder.width,
        "num_hidden_layers": encoder.depth,
        "num_attention_heads": encoder.heads,
        "image_size": max(size, side),
        "patch_size": encoder.patch,
        "layer_norm_eps": encoder.norm_epsilon or EPSILON,
    }
    width = encoder.mlp_width or 4 * encoder.width
    if name == "ViT":
        arguments["intermediate_size"] = width
    elif encoder.activation == "swiglu":
        arguments["use_swiglu_ffn"] = True
    else:
        arguments["mlp_ratio"] = width / encoder.width
    if encoder.registers:
        arguments["num_register_tokens"] = encoder.registers
    text = ", ".join(f"{key}={value}" for key, value in arguments.items())
    pooler = ", add_pooling_layer=False" * (name == "ViT")
    return f"transformers.{name}Model(transformers.{name}Config({text}, num_channels=CHANNELS){pooler})"
