"""Writes weights.json, weights.npz and pth.* with torch 2.14.1, torchvision 0.29.1 and timm 1.0.31.

`python -m tests.golden.make_weights`, from the repository's root. The weights are made, not learnt, by
`make_efficientnet.values`, which the tests call too, without torch; only names, shapes and outputs are stored.
"""

import json
from pathlib import Path

import numpy as np

from tests.golden.make_efficientnet import values

FOLDER = Path(__file__).parent
# jaxssl's name -> side of the images, and whose model of what name with what options.
MODELS = {
    "resnet18": (64, "torchvision", "resnet18", {}),
    "resnet34": (0, "torchvision", "resnet34", {}),
    "resnet50": (32, "torchvision", "resnet50", {}),
    "vit_tiny": (
        32,
        "timm",
        "vit_tiny_patch16_224",
        {"img_size": 32, "depth": 3, "global_pool": "avg", "fc_norm": False},
    ),
    "vit_small": (0, "timm", "vit_small_patch16_224", {"img_size": 32, "depth": 2}),
    "vit_base": (0, "timm", "vit_base_patch16_224", {"img_size": 32, "depth": 2, "reg_tokens": 4}),
    "efficientnet_lite0": (0, "timm", "tf_efficientnet_lite0", {}),
}


def images(side: int) -> np.ndarray:
    """[2, side, side, 3] float32."""
    return np.random.default_rng(side).normal(size=(2, side, side, 3)).astype(np.float32)


def positions(side: int, width: int) -> np.ndarray:
    """[1, 1 + side * side, width] float32: MAE's `get_2d_sincos_pos_embed` with a class token, as it was published."""

    def one(width: int, place: np.ndarray) -> np.ndarray:
        omega = 1.0 / 10000 ** (np.arange(width // 2, dtype=float) / (width / 2.0))
        out = np.einsum("m,d->md", place.reshape(-1), omega)
        return np.concatenate([np.sin(out), np.cos(out)], axis=1)

    grid = np.stack(np.meshgrid(np.arange(side, dtype=np.float32), np.arange(side, dtype=np.float32)), axis=0)
    table = np.concatenate([one(width // 2, grid[0]), one(width // 2, grid[1])], axis=1)
    return np.concatenate([np.zeros([1, width]), table], axis=0)[None].astype(np.float32)


def state(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """A made state dict of these names and shapes; a ViT's is of images of 32 px."""
    made = {name: values(name, tuple(shape)) for name, shape in shapes.items() if "num_batches" not in name}
    for name in made:
        if name == "pos_embed":
            made[name] = positions(2, shapes[name][-1])
        elif "norm" in name and name.endswith("weight"):
            made[name] = 1 + made[name]
    return made | {name: np.array(7) for name in shapes if "num_batches" in name}


def model(name: str):
    import timm
    import torchvision

    _, library, theirs, options = MODELS[name]
    made = getattr(torchvision.models, theirs)() if library == "torchvision" else timm.create_model(theirs, **options)
    return made.eval()


def main() -> None:
    import torch

    shapes, logits = {}, {}
    for name, (side, *_) in MODELS.items():
        made = model(name)
        shapes[name] = {key: list(tensor.shape) for key, tensor in made.state_dict().items()}
        if side:
            made.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in state(shapes[name]).items()})
            with torch.no_grad():
                logits[name] = made(torch.from_numpy(images(side).transpose(0, 3, 1, 2).copy())).numpy()
    (FOLDER / "weights.json").write_text(json.dumps(shapes, indent=None, separators=(",", ":")) + "\n")
    np.savez_compressed(FOLDER / "weights.npz", **logits)

    base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 7
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    for key, tensor in network.state_dict().items():
        tensor.copy_(torch.from_numpy(np.asarray(values(key, tuple(tensor.shape)))))
    tensors = network.state_dict()
    tensors["transposed"] = base.T
    tensors["part"] = base[1:3, ::2]
    tensors["half"] = base.half()
    tensors["brain"] = base.bfloat16()
    tensors["count"] = torch.tensor(-(2**40))
    tensors["none"] = torch.zeros(0, 3)
    torch.save(tensors, FOLDER / "pth_archive.pth")
    torch.save(tensors, FOLDER / "pth_single.pth", _use_new_zipfile_serialization=False)
    np.savez_compressed(
        FOLDER / "pth.npz", **{k: (v.float() if v.dtype == torch.bfloat16 else v).numpy() for k, v in tensors.items()}
    )


if __name__ == "__main__":
    main()
