"""Writes efficientnet.npz with timm 1.0.31 and torch 2.14.1: `python tests/golden/make_efficientnet.py`.

The weights are made, not learnt: a function of timm's name of each, which the tests call too, without torch.
"""

import zlib
from pathlib import Path

import numpy as np

SIZES = (64, 96)


def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32 values of the parameter or statistic that timm calls `name`, in PyTorch's layout.

    Kernels [D, C, kh, kw] are He's, so that activations keep their size on the way.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) > 1:
        made = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    elif name.endswith(("running_var", "bn1.weight", "bn2.weight", "bn3.weight")):
        made = rng.uniform(0.5, 1.5, shape)
    else:
        made = rng.normal(0, 0.2, shape)
    return made.astype(np.float32)


def images(size: int) -> np.ndarray:
    """[2, size, size, 3] float32."""
    return np.random.default_rng(size).normal(size=(2, size, size, 3)).astype(np.float32)


def main() -> None:
    import timm
    import torch

    model = timm.create_model("tf_efficientnet_lite0").eval()
    state = model.state_dict()
    made = {name: values(name, tuple(old.shape)) for name, old in state.items() if old.ndim}
    model.load_state_dict({name: torch.from_numpy(made[name]) if name in made else state[name] for name in state})
    batches = {size: torch.from_numpy(images(size).transpose(0, 3, 1, 2).copy()) for size in SIZES}
    golden = {"names": np.array(sorted(name for name in made if not name.startswith("classifier")))}
    with torch.no_grad():
        for size, x in batches.items():
            golden[f"pooled_{size}"] = model.forward_head(model.forward_features(x), pre_logits=True).numpy()
            golden[f"logits_{size}"] = model(x).numpy()
        # Last, for it moves the running statistics.
        golden["trained_64"] = model.train().forward_features(batches[64]).mean((2, 3)).numpy()
    np.savez_compressed(Path(__file__).with_name("efficientnet.npz"), **golden)


if __name__ == "__main__":
    main()
