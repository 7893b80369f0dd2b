"""Vision transformers as timm, DINO, DINOv2, MAE, MoCo v3, torchvision, Hugging Face and OpenCLIP name them.

The attention pooling of SigLIP is left out: features are the mean of the tokens, as in timm's `_gap_` models.

- Position embeddings of the class token and the registers are added to these tokens. Those of the patches are resampled
  to the grid of the images, as timm does, if the encoder has learnt positions; an encoder with computed positions takes
  only files whose positions are the same sines and cosines.
- A patch embedding of another patch size is resized by FlexiViT's rule (arXiv:2212.08013).
- Separate queries, keys and values, and separate gate and value of SwiGLU, are joined.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.errors import UserError
from jaxssl.models.positions import resample_positions, sincos_positions
from jaxssl.models.vit import ViT, grid_of
from jaxssl.weights.layouts import naming
from jaxssl.weights.layouts.naming import Layout, Naming, Tensors

FIRST_LAYER = "patch_embed.proj.weight"
MODULES = {
    "patch_embed": "patch_embed.proj",
    "qkv": "attn.qkv",
    "proj": "attn.proj",
    "q_norm": "attn.q_norm",
    "k_norm": "attn.k_norm",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}
NAMINGS = (
    Naming(
        "timm, DINO, DINOv2, MAE and MoCo v3",
        FIRST_LAYER,
        (
            (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),  # DINOv2 trains blocks in chunks.
            (r"^register_tokens$", "reg_token"),
            (r"\.mlp\.w12\.", ".mlp.fc1."),
            (r"\.mlp\.w3\.", ".mlp.fc2."),
        ),
    ),
    Naming(
        "torchvision",
        "conv_proj.weight",
        (
            (r"^class_token$", "cls_token"),
            (r"^conv_proj\.", "patch_embed.proj."),
            (r"^encoder\.pos_embedding$", "pos_embed"),
            (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
            (r"^encoder\.ln\.", "norm."),
            (r"^heads\.", "head."),
            (r"\.ln_(\d)\.", r".norm\1."),
            (r"\.self_attention\.in_proj_", ".attn.qkv."),
            (r"\.self_attention\.out_proj\.", ".attn.proj."),
            (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
            (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
        ),
    ),
    Naming(
        "Hugging Face",
        "embeddings.patch_embeddings.projection.weight",
        (
            (r"^embeddings\.cls_token$", "cls_token"),
            (r"^embeddings\.mask_token$", "mask_token"),
            (r"^embeddings\.register_tokens$", "reg_token"),
            (r"^embeddings\.position_embeddings$", "pos_embed"),
            (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (r"^(?:encoder\.)?layers?\.(\d+)\.", r"blocks.\1."),
            (r"^layernorm\.", "norm."),
            (r"\.layernorm_before\.", ".norm1."),
            (r"\.layernorm_after\.", ".norm2."),
            (r"\.attention\.(?:attention\.)?(query|key|value)\.", r".attn.\1."),
            (r"\.attention\.(q|k|v)_proj\.", r".attn.\1."),
            (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
            (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
            (r"\.intermediate\.dense\.|\.mlp\.weights_in\.", ".mlp.fc1."),
            (r"\.output\.dense\.|\.mlp\.(?:weights_out|down_proj)\.", ".mlp.fc2."),
        ),
    ),
    Naming(
        "CLIP, SigLIP in Hugging Face",
        "embeddings.patch_embedding.weight",
        (
            (r"^embeddings\.class_embedding$", "cls_token"),
            (r"^embeddings\.position_embedding\.weight$", "pos_embed"),
            (r"^embeddings\.patch_embedding\.", "patch_embed.proj."),
            (r"^pre_layrnorm\.", "norm_pre."),
            (r"^post_layernorm\.", "norm."),
            (r"^encoder\.layers\.(\d+)\.", r"blocks.\1."),
            (r"\.layer_norm(\d)\.", r".norm\1."),
            (r"\.self_attn\.(q|k|v)_proj\.", r".attn.\1."),
            (r"\.self_attn\.out_proj\.", ".attn.proj."),
        ),
    ),
    Naming(
        "OpenCLIP",
        "ln_pre.weight",
        (
            (r"^class_embedding$", "cls_token"),
            (r"^positional_embedding$", "pos_embed"),
            (r"^conv1\.", "patch_embed.proj."),
            (r"^ln_pre\.", "norm_pre."),
            (r"^ln_post\.", "norm."),
            (r"^proj$", "head.proj"),
            (r"^transformer\.resblocks\.(\d+)\.", r"blocks.\1."),
            (r"\.ln_(\d)\.", r".norm\1."),
            (r"\.attn\.in_proj_", ".attn.qkv."),
            (r"\.attn\.out_proj\.", ".attn.proj."),
            (r"\.mlp\.c_fc\.", ".mlp.fc1."),
            (r"\.mlp\.c_proj\.", ".mlp.fc2."),
        ),
    ),
)
LEFT_OUT = (
    *("head.", "head_dist.", "fc.", "classifier.", "pre_logits.", "pooler.", "mask_token", "masked_embed", "decoder_"),
    *("projector.", "projection_head.", "predictor.", "prototypes.", "dino_head.", "ibot_head."),
    *("embeddings.position_ids", "attn_pool."),
)
# Tensors of other transformers with these namings.
UNSUPPORTED = (
    (r"\.rel_pos_|relative_position", "relative positions, as SAM, MedSAM, BEiT and Swin do"),
    (r"^dist_token$|^embeddings\.distillation_token$", "a distillation token, as DeiT does"),
    (r"token_only|\.attn_block\.|\.local_mp\.", "class attention, as CaiT and XCiT do"),
    (
        r"^rope_embed\.|^storage_tokens$|\.gamma_1$|\.attn\.q_bias$|^embeddings\.register_tokens$",
        "rotary positions (RoPE), as the ViTs of DINOv3 and EVA do; of DINOv3, the ConvNeXts are read",
    ),
)
# Tensors that are joined along the first axis, by their joint name.
JOINED = {
    "attn.qkv": (("attn.q", "attn.k", "attn.v"), ("attn.query", "attn.key", "attn.value")),
    "mlp.fc1": (("mlp.gate_proj", "mlp.up_proj"),),
}


# Heads of the published models of these widths; elsewhere each is 64 wide.
HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}


def name_variables(encoder: ViT, variables: Mapping, modules: Mapping[str, str]) -> dict[str, jax.Array]:
    named = naming.name_variables(encoder, variables, modules)
    # The patch embedding is a convolution in PyTorch.
    kernel = named[FIRST_LAYER].T.reshape(encoder.patch, encoder.patch, -1, encoder.width)
    return named | {FIRST_LAYER: kernel.transpose(3, 2, 0, 1)}


def convert(tensors: Tensors, encoder: ViT, size: int, changes: list[str]) -> Tensors:
    tensors = join(tensors)
    kernel = tensors.get(FIRST_LAYER)
    if kernel is not None and kernel.ndim == 4 and kernel.shape[2:] != (encoder.patch, encoder.patch):
        changes.append(f"patch embedding resized from {kernel.shape[2]} to {encoder.patch} pixels")
        tensors[FIRST_LAYER] = resize_patches(kernel, encoder.patch)
    table = tensors.pop("pos_embed", None)
    prefix, patches = split_positions(table, encoder)
    for name, positions in prefix.items():
        if name in tensors and tensors[name].shape == positions.shape:
            tensors[name] = tensors[name] + positions
    rows, columns = grid_of(size, size, encoder.patch)
    side = patches.shape[1]
    if encoder.positions == "sincos":
        check_sincos(patches, rows, columns)
        return tensors
    if (side, side) != (rows, columns):
        changes.append(f"positions resampled from {side}x{side} to {rows}x{columns} patches")
    return tensors | {"pos_embed": np.asarray(resample_positions(patches, rows, columns))}


def join(tensors: Tensors) -> Tensors:
    """Join queries, keys and values, and gate and value of SwiGLU; class token and positions get three axes."""
    joined = dict(tensors)
    for name in joined.keys() & {"cls_token", "pos_embed"}:
        joined[name] = joined[name].reshape(1, -1, joined[name].shape[-1])
    for name in tensors:
        for target, choices in JOINED.items():
            for parts in choices:
                match = re.fullmatch(rf"(.*\.){re.escape(parts[0])}(\.weight|\.bias)", name)
                if match is None:
                    continue
                names = [f"{match[1]}{part}{match[2]}" for part in parts]
                if all(part in joined for part in names):
                    joined[f"{match[1]}{target}{match[2]}"] = np.concatenate([joined.pop(part) for part in names])
    return joined


def split_positions(table: np.ndarray | None, encoder: ViT) -> tuple[Tensors, np.ndarray]:
    """Split positions [1, T, D] into those of class token and registers by name, and those of the patches [1, S, S, D].

    Raises:
      UserError: the file has no positions, or not of a square grid of patches.
    """
    if table is not None and table.ndim == 3 and (len(table), table.shape[2]) == (1, encoder.width):
        split = find_grid(table.shape[1], encoder.registers)
        if split is not None:
            prefix, side = split
            tokens = {"cls_token": table[:, :1], "reg_token": table[:, 1:prefix]} if prefix else {}
            return tokens, table[:, prefix:].reshape(1, side, side, encoder.width)
    shape = "none" if table is None else table.shape
    raise UserError(
        f"the weights have a pos_embed of shape {shape}, not (1, T, {encoder.width}) for the class token, "
        f"{encoder.registers} registers and a square of patches: check model.name and model.options",
        code="mismatch",
        field="init.weights",
    )


def check_sincos(patches: np.ndarray, rows: int, columns: int) -> None:
    """Raise UserError unless positions [1, S, S, D] are the computed ones, of as many rows and columns."""
    _, side, _, width = patches.shape
    if not np.allclose(patches.reshape(-1, width), sincos_positions(side, side, width), atol=1e-4):
        found = "have learnt positions: set model.options.positions='learnt'"
    elif (rows, columns) != (side, side):
        # Computed anew, they would say that the images are a corner of those that the weights know.
        found = (
            f"know positions of {side}x{side} patches and the images have {rows}x{columns}: set "
            "model.options.positions='learnt', which resamples them"
        )
    else:
        return
    raise UserError(f"the weights {found}", code="mismatch", field="model.options.positions")


def resize_patches(kernel: np.ndarray, patch: int) -> np.ndarray:
    """Resize a patch embedding [D, C, p, p] to [D, C, patch, patch] (FlexiViT, arXiv:2212.08013, section 3.4).

    The result has the least squared difference from the old embedding of patches that are resized, too.
    """
    old = kernel.shape[2]
    basis = np.eye(old * old, dtype=np.float32).reshape(old, old, -1)
    matrix = np.asarray(jax.image.resize(jnp.asarray(basis), (patch, patch, old * old), "cubic", antialias=True))
    inverse = np.linalg.pinv(matrix.reshape(patch * patch, -1).T)
    flat = kernel.reshape(*kernel.shape[:2], -1) @ inverse.T
    return flat.reshape(*kernel.shape[:2], patch, patch).astype(np.float32)


def finish(encoder: ViT, tensors: Tensors, size: int) -> Tensors:
    """Add the positions of images of `size` pixels, padded to whole patches; 0 for class token and registers."""
    rows, columns = grid_of(size, size, encoder.patch)
    if encoder.positions == "sincos":
        patches = sincos_positions(rows, columns, encoder.width)
    else:
        patches = np.asarray(resample_positions(tensors["pos_embed"], rows, columns)).reshape(-1, encoder.width)
    prefix = np.zeros((encoder.prefix_tokens, encoder.width), np.float32)
    return {**tensors, "pos_embed": np.concatenate([prefix, patches])[None]}


def infer(tensors: Tensors) -> dict[str, Any]:
    """Return model and options of the ViT that these tensors fit; heads are taken to be as wide as published."""
    tensors = join(tensors)
    if tensors[FIRST_LAYER].ndim != 4:
        raise UserError("its patches are not embedded by a convolution", code="mismatch", field="model.name")
    width, patch = tensors[FIRST_LAYER].shape[0], tensors[FIRST_LAYER].shape[2]
    model = {192: "vit_tiny", 384: "vit_small", 768: "vit_base", 1024: "vit_large"}.get(width, "vit_base")
    fc1, fc2 = tensors["blocks.0.mlp.fc1.weight"], tensors["blocks.0.mlp.fc2.weight"]
    registers = tensors["reg_token"].shape[1] if "reg_token" in tensors else 0
    side = infer_side(tensors.get("pos_embed"), registers)
    options = {
        "width": width,
        "depth": 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")),
        "heads": HEADS.get(width, max(1, width // 64)),
        "patch": patch,
        "registers": registers,
        "pool": "fc_norm" if "fc_norm.weight" in tensors and "norm.weight" not in tensors else "mean",
        "positions": "learnt",  # Of any size, where those that are computed fit one.
        "mlp_width": 0 if fc2.shape[1] == 4 * width else fc2.shape[1],
        "activation": "swiglu" if fc1.shape[0] == 2 * fc2.shape[1] else "gelu",
        "layer_scale": 1e-5 if "blocks.0.ls1.gamma" in tensors else 0.0,
        "qk_norm": "blocks.0.attn.q_norm.weight" in tensors,
        "pre_norm": "norm_pre.weight" in tensors,
        "norm_epsilon": 1e-5 if "norm_pre.weight" in tensors else 1e-6,
        "class_token": "cls_token" in tensors,
    }
    return {"model": model, "stem": "imagenet", "options": options, "size": side * patch or None}


def infer_side(table: np.ndarray | None, registers: int) -> int:
    """Return the side of the grid of patches, 0 if it is not known."""
    split = None if table is None or table.ndim != 3 else find_grid(table.shape[1], registers)
    return split[1] if split else 0


def find_grid(tokens: int, registers: int) -> tuple[int, int] | None:
    """Return the number of tokens before the patches that have a position, and the side of the grid of patches.

    Class token and registers have positions, only the class token has (DINOv2), or neither (timm's `no_embed_class`).
    """
    for prefix in sorted({0, 1, 1 + registers}):
        side = math.isqrt(max(0, tokens - prefix))
        if side and side**2 + prefix == tokens:
            return prefix, side
    return None


LAYOUT = Layout(
    encoder=ViT,
    first_layer=FIRST_LAYER,
    namings=NAMINGS,
    modules=MODULES,
    left_out=LEFT_OUT,
    unsupported=UNSUPPORTED,
    name_variables=name_variables,
    convert=convert,
    finish=finish,
    infer=infer,
)
