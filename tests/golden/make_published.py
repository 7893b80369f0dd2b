"""Writes published.json and published.npz with torch 2.14.1, torchvision 0.29.1, timm 1.0.31 and transformers 5.24.0.

`python -m tests.golden.make_published`, from the repository's root. The networks are small ones of each layout, with
made weights (`state`); names, shapes and features at the native and at another image size are stored.
"""

import json
import re
from pathlib import Path

import numpy as np

from tests.golden.make_efficientnet import values

FOLDER = Path(__file__).parent
TINY = {"embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 0}
# Name -> library, model, its options, side of the images, another side (0: none), and options of jaxssl's encoder.
VIT = {"width": 32, "depth": 2, "heads": 2, "positions": "learnt"}
CONVNEXT = {"depths": (1, 2, 1, 1), "widths": (8, 16, 24, 32)}
CONVNEXT_HF = {"depths": [1, 2, 1, 1], "hidden_sizes": [8, 16, 24, 32]}
MODELS = {
    "augreg": ("timm", "vit_tiny_patch16_224", {"img_size": 48}, 48, 80, VIT | {"pool": "cls"}),
    "mae_finetuned": (
        "timm",
        "vit_base_patch16_224",
        {"img_size": 48, "global_pool": "avg"},
        48,
        64,
        VIT | {"pool": "fc_norm"},
    ),
    "dinov2": (
        "timm",
        "vit_small_patch14_dinov2",
        {"img_size": 56, "init_values": 1e-5},
        56,
        42,
        VIT | {"patch": 14, "layer_scale": 1.0, "pool": "cls"},
    ),
    "dinov2_registers": (
        "timm",
        "vit_small_patch14_reg4_dinov2",
        {"img_size": 56},
        56,
        70,
        VIT | {"patch": 14, "layer_scale": 1.0, "registers": 4, "pool": "cls"},
    ),
    "dinov2_swiglu": (
        "timm",
        "vit_giant_patch14_dinov2",
        {"img_size": 56},
        56,
        28,
        VIT | {"patch": 14, "layer_scale": 1.0, "activation": "swiglu", "mlp_width": 85, "pool": "cls"},
    ),
    "qk_norm": (
        "timm",
        "vit_base_patch16_224",
        {"img_size": 48, "qk_norm": True},
        48,
        32,
        VIT | {"qk_norm": True, "pool": "cls"},
    ),
    "clip": (
        "timm",
        "vit_base_patch16_clip_quickgelu_224",
        {"img_size": 48},
        48,
        64,
        VIT | {"pre_norm": True, "activation": "quick_gelu", "norm_epsilon": 1e-5, "pool": "cls"},
    ),
    "hf_vit": ("transformers", "ViT", {"image_size": 48}, 48, 0, VIT | {"pool": "cls", "norm_epsilon": 1e-12}),
    "hf_dinov2": (
        "transformers",
        "Dinov2",
        {"image_size": 56, "patch_size": 14},
        56,
        0,
        VIT | {"patch": 14, "layer_scale": 1.0, "pool": "cls"},
    ),
    "hf_dinov2_registers": (
        "transformers",
        "Dinov2WithRegisters",
        {"image_size": 56, "patch_size": 14, "use_swiglu_ffn": True},
        56,
        0,
        VIT
        | {
            "patch": 14,
            "layer_scale": 1.0,
            "registers": 4,
            "activation": "swiglu",
            "mlp_width": 88,
            "pool": "cls",
        },
    ),
    "convnext": (
        "timm",
        "convnext_tiny",
        {"depths": (1, 2, 1, 1), "dims": (8, 16, 24, 32), "num_classes": 0},
        64,
        96,
        CONVNEXT,
    ),
    "siglip": (
        "timm",
        "vit_base_patch16_siglip_gap_224",
        {"img_size": 48},
        48,
        64,
        VIT | {"class_token": False},
    ),
    "hf_siglip": (
        "transformers",
        "SiglipVision",
        {"image_size": 48},
        48,
        0,
        VIT | {"class_token": False, "activation": "gelu_tanh"},
    ),
    "hf_ijepa": ("transformers", "IJepa", {"image_size": 48}, 48, 0, VIT | {"class_token": False}),
    "tv_convnext": ("torchvision", "ConvNeXt", {}, 64, 96, CONVNEXT),
    "hf_convnext": ("transformers", "ConvNext", CONVNEXT_HF, 64, 96, CONVNEXT),
    "hf_dinov3_convnext": ("transformers", "DINOv3ConvNext", CONVNEXT_HF, 64, 96, CONVNEXT),
    "hf_resnet": (
        "transformers",
        "ResNet",
        {"embedding_size": 4, "hidden_sizes": [4, 8, 16, 32], "depths": [1, 2, 1, 1], "layer_type": "basic"},
        64,
        96,
        {"width": 4, "stages": (1, 2, 1, 1)},
    ),
    "hf_resnet50": (
        "transformers",
        "ResNet",
        {"embedding_size": 4, "hidden_sizes": [16, 32], "depths": [1, 2]},
        64,
        96,
        {"width": 4, "stages": (1, 2)},
    ),
}


def images(side: int) -> np.ndarray:
    """[2, side, side, 3] float32."""
    return np.random.default_rng(side).normal(size=(2, side, side, 3)).astype(np.float32)


def state(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """A made state dict of these names and shapes, the same with and without torch."""
    made = {name: np.asarray(values(name, tuple(shape)), np.float32) for name, shape in shapes.items()}
    scales = ("norm", "gamma", "lambda1", "stem.1.weight", "downsample.0.weight", "layer_scale", "block.2.weight")
    for name in made:
        if any(part in name for part in scales) and not name.endswith(("bias", "running_mean", "num_batches_tracked")):
            made[name] = 1 + made[name]
    return made


def make(name: str, side: int):
    """The model of a name, at another image size if it takes one."""
    library, theirs, options, *_ = MODELS[name]
    if library == "timm":
        import timm

        small = {} if name == "convnext" else TINY | {"img_size": side}
        return timm.create_model(theirs, **options | small).eval()
    if library == "torchvision":
        import torch
        from torchvision.models import convnext

        sizes = zip((8, 16, 24, 32), (16, 24, 32, None), (1, 2, 1, 1), strict=True)
        model = convnext.ConvNeXt([convnext.CNBlockConfig(*size) for size in sizes]).eval()
        model.classifier[2] = torch.nn.Identity()
        return model
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2} if "image_size" in options else {}
    sizes |= {} if theirs.startswith("Dinov2") or not sizes else {"intermediate_size": 128, "patch_size": 16}
    made = getattr(transformers, f"{theirs}Config")(**sizes | options)
    return getattr(transformers, f"{theirs}Model")(made).eval()


def stored_name(name: str) -> str:
    """The name in a file of a tensor of transformers, which calls some otherwise in memory."""
    return re.sub(r"^model\.stages\.", "stages.", name)


def features(model, image: np.ndarray, name: str) -> np.ndarray:
    import torch

    with torch.no_grad():
        out = model(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()))
    if MODELS[name][0] != "transformers":
        return out.numpy()
    if "image_size" not in MODELS[name][2]:
        return out.pooler_output.flatten(1).numpy()
    tokens = out.last_hidden_state.numpy()
    return tokens[:, 0] if MODELS[name][-1].get("pool") == "cls" else tokens.mean(1)


def main() -> None:
    import timm
    import torch

    shapes, found = {}, {}
    for name, (_, _, _, native, other, _) in MODELS.items():
        model = make(name, native)
        names = {stored_name(key): key for key in model.state_dict()}
        shapes[name] = {key: list(model.state_dict()[theirs].shape) for key, theirs in names.items()}
        made = {names[key]: torch.from_numpy(array.copy()) for key, array in state(shapes[name]).items()}
        model.load_state_dict(made)
        found[f"{name}_{native}"] = features(model, images(native), name)
        if other:
            resized = make(name, other)
            if "pos_embed" in made:
                prefix = model.num_prefix_tokens if not model.no_embed_class else 0
                grid = (other // model.patch_embed.patch_size[0],) * 2
                made["pos_embed"] = timm.layers.resample_abs_pos_embed(
                    made["pos_embed"], grid, num_prefix_tokens=prefix
                )
            resized.load_state_dict(made)
            found[f"{name}_{other}"] = features(resized, images(other), name)
    kernel = torch.from_numpy(np.asarray(values("patch", (4, 3, 16, 16)), np.float32))
    found["patch_8"] = timm.layers.resample_patch_embed(kernel, [8, 8]).numpy()
    found["patch_20"] = timm.layers.resample_patch_embed(kernel, [20, 20]).numpy()
    (FOLDER / "published.json").write_text(json.dumps(shapes, separators=(",", ":")) + "\n")
    np.savez_compressed(FOLDER / "published.npz", **found)


if __name__ == "__main__":
    main()
