"""Writes published.json and published.npz with torch 2.13.0, timm 1.0.31 and transformers 5.24.0.

`python -m tests.golden.make_published`, from the repository's root. The networks are small ones of each layout, with
made weights (`make_weights.state`); names, shapes and features at the native and at another image size are stored. timm
imports torchvision for its data pipelines only: where it is not installed, an empty stand-in is enough.
"""

import importlib.abc
import importlib.machinery
import json
import sys
import types
from pathlib import Path

import numpy as np

from tests.golden.make_efficientnet import values

FOLDER = Path(__file__).parent
TINY = {"embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 0}
# Name -> library, model, its options, side of the images, another side (0: none), and options of jaxssl's encoder.
VIT = {"width": 32, "depth": 2, "heads": 2, "positions": "learnt"}
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
    "hf_vit": ("transformers", "vit", {"image_size": 48}, 48, 0, VIT | {"pool": "cls", "norm_epsilon": 1e-12}),
    "hf_dinov2": (
        "transformers",
        "dinov2",
        {"image_size": 56, "patch_size": 14},
        56,
        0,
        VIT | {"patch": 14, "layer_scale": 1.0, "pool": "cls"},
    ),
    "hf_dinov2_registers": (
        "transformers",
        "dinov2_with_registers",
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
        {"depths": (1, 2, 1, 1), "widths": (8, 16, 24, 32)},
    ),
}


def images(side: int) -> np.ndarray:
    """[2, side, side, 3] float32."""
    return np.random.default_rng(side).normal(size=(2, side, side, 3)).astype(np.float32)


def state(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """A made state dict of these names and shapes, the same with and without torch."""
    made = {name: np.asarray(values(name, tuple(shape)), np.float32) for name, shape in shapes.items()}
    scales = ("norm", "gamma", "lambda1", "stem.1.weight", "downsample.0.weight")
    for name in made:
        if any(part in name for part in scales) and not name.endswith("bias"):
            made[name] = 1 + made[name]
    return made


class Stub(type):
    """A class whose attributes are strings, for what timm only names of torchvision."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return f"{cls.__name__}.{name}"


class StubModule(types.ModuleType):
    __path__ = ()

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub(name, (), {})


class StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return StubModule(spec.name)

    def exec_module(self, module):
        pass


def import_timm():
    stand_in = StandIn()
    sys.meta_path.append(stand_in)
    import timm

    sys.meta_path.remove(stand_in)
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        if isinstance(sys.modules[name], StubModule):
            del sys.modules[name]
    return timm


def make(name: str, side: int, timm):
    """The model of a name, at another image size if timm takes one."""
    library, theirs, options, *_ = MODELS[name]
    if library == "timm":
        small = {} if name == "convnext" else TINY | {"img_size": side}
        return timm.create_model(theirs, **options | small).eval()
    import transformers

    config = {"vit": "ViT", "dinov2": "Dinov2", "dinov2_with_registers": "Dinov2WithRegisters"}[theirs]
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 128} if theirs == "vit" else {}
    made = getattr(transformers, f"{config}Config")(**sizes | options)
    return getattr(transformers, f"{config}Model")(made).eval()


def features(model, image: np.ndarray, library: str) -> np.ndarray:
    import torch

    x = torch.from_numpy(image.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        return (model(x) if library == "timm" else model(x).last_hidden_state[:, 0]).numpy()


def main() -> None:
    import torch

    timm = import_timm()
    shapes, found = {}, {}
    for name, (library, _, _, native, other, _) in MODELS.items():
        model = make(name, native, timm)
        shapes[name] = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
        made = {key: torch.from_numpy(array.copy()) for key, array in state(shapes[name]).items()}
        model.load_state_dict(made)
        found[f"{name}_{native}"] = features(model, images(native), library)
        if other:
            resized = make(name, other, timm)
            if "pos_embed" in made:
                prefix = model.num_prefix_tokens if not model.no_embed_class else 0
                grid = (other // model.patch_embed.patch_size[0],) * 2
                made["pos_embed"] = timm.layers.resample_abs_pos_embed(
                    made["pos_embed"], grid, num_prefix_tokens=prefix
                )
            resized.load_state_dict(made)
            found[f"{name}_{other}"] = features(resized, images(other), library)
    kernel = torch.from_numpy(np.asarray(values("patch", (4, 3, 16, 16)), np.float32))
    found["patch_8"] = timm.layers.resample_patch_embed(kernel, [8, 8]).numpy()
    found["patch_20"] = timm.layers.resample_patch_embed(kernel, [20, 20]).numpy()
    (FOLDER / "published.json").write_text(json.dumps(shapes, separators=(",", ":")) + "\n")
    np.savez_compressed(FOLDER / "published.npz", **found)


if __name__ == "__main__":
    main()
