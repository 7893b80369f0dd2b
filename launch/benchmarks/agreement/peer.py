"""Pretrain with lightly 1.6 (PyTorch), from lightly's own parts and the settings of a jaxssl run; needs no jaxssl.

    python launch/benchmarks/agreement/peer.py --run=runs/agreement/simclr_0 --out=runs/agreement/simclr_0_lightly

Reads settings, images and split from the finished jaxssl run `--run` (config.json, splits.json), and the untrained
encoder from `--out`/untrained.npz, which compare.py writes. Writes `--out`/features.npz: pooled features of the
training and test images before training and after the last epoch, in the order of splits.json, and the mean loss of
each epoch.
"""

import argparse
import copy
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from lightly.loss import NegativeCosineSimilarity, NTXentLoss
from lightly.models import ResNetGenerator, utils
from lightly.models.modules.heads import ProjectionHead
from lightly.transforms import BYOLTransform, BYOLView1Transform, SimCLRTransform
from lightly.transforms.multi_view_transform import MultiViewTransform
from lightly.utils.scheduler import cosine_schedule
from PIL import Image
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset


class Images(Dataset):
    """Images in memory, each passed through `transform`."""

    def __init__(self, images, transform):
        self.images, self.transform = images, transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.transform(Image.fromarray(self.images[i]))


def make_encoder(file: Path, width: int) -> nn.Module:
    """Return lightly's ResNet-18 for small images, without classifier, with the weights that jaxssl wrote to `file`."""
    encoder = ResNetGenerator("resnet-18", width=width / 64)
    encoder.linear = nn.Identity()
    state = {}
    with np.load(file) as weights:
        for name in weights:
            value = torch.from_numpy(weights[name])
            state[torch_name(name)] = value.permute(3, 2, 0, 1) if value.ndim == 4 else value
    missing, unexpected = encoder.load_state_dict(state, strict=False)
    if unexpected or not all(name.endswith("num_batches_tracked") for name in missing):
        raise ValueError(f"the two networks differ: missing {missing}, unexpected {unexpected}")
    return encoder


def torch_name(name: str) -> str:
    """Return "layer2.0.bn1.running_mean" for "batch_stats/layer2_0/bn1/mean"."""
    kind, *path, leaf = name.split("/")
    path = ".".join(path).replace("downsample_conv", "shortcut.0").replace("downsample_bn", "shortcut.1")
    if path.startswith("layer"):
        path = path.replace("_", ".", 1)
    leaf = f"running_{leaf}" if kind == "batch_stats" else leaf.replace("kernel", "weight").replace("scale", "weight")
    return f"{path}.{leaf}"


def make_head(inputs: int, hidden: int, outputs: int) -> ProjectionHead:
    """Return linear, batch norm, ReLU, linear, with weights initialised as in Flax."""
    head = ProjectionHead(
        [(inputs, hidden, nn.BatchNorm1d(hidden), nn.ReLU(), False), (hidden, outputs, None, None, True)]
    )
    for layer in head.layers:
        if isinstance(layer, nn.Linear):
            # 0.87962566: standard deviation of a standard normal variable truncated at 2.
            std = layer.in_features**-0.5 / 0.87962566
            nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return head


class SimCLR(nn.Module):
    def __init__(self, encoder: nn.Module, features: int, hidden: int, projection: int, temperature: float):
        super().__init__()
        self.encoder, self.projector = encoder, make_head(features, hidden, projection)
        self.criterion = NTXentLoss(temperature)

    def forward(self, views: list[torch.Tensor]) -> torch.Tensor:
        return self.criterion(*(self.projector(self.encoder(view)) for view in views))

    def advance(self, step: int, steps: int) -> None:
        pass


class BYOL(nn.Module):
    def __init__(self, encoder: nn.Module, features: int, hidden: int, projection: int, ema: float):
        super().__init__()
        self.encoder, self.projector = encoder, make_head(features, hidden, projection)
        self.predictor = make_head(projection, hidden, projection)
        self.target = copy.deepcopy(nn.Sequential(self.encoder, self.projector))
        utils.deactivate_requires_grad(self.target)
        self.criterion, self.ema = NegativeCosineSimilarity(), ema

    def forward(self, views: list[torch.Tensor]) -> torch.Tensor:
        first, second = (self.predictor(self.projector(self.encoder(view))) for view in views)
        with torch.no_grad():
            targets = [self.target(view) for view in views]
        # 2 - 2 cos in both directions, as in the paper; lightly's examples have a quarter of its gradient.
        return 4 + 2 * (self.criterion(first, targets[1]) + self.criterion(second, targets[0]))

    def advance(self, step: int, steps: int) -> None:
        """Update the target after a step; `steps + 1`, because lightly's schedule reaches 1 a step early."""
        share = cosine_schedule(step, steps + 1, self.ema, 1.0)
        utils.update_momentum(nn.Sequential(self.encoder, self.projector), self.target, share)


def make_transform(objective: str, a: dict, size: int, normalize: dict) -> MultiViewTransform:
    """Return lightly's transform of the method with the options of jaxssl's augmentation."""
    for option in ("flip_vertical", "rotate90", "noise"):
        assert not a[option], option
    assert a["flip_horizontal"] and a["crop_area"][1] == 1 and a["crop_ratio"] == [0.75, 4 / 3]
    assert not any(a["blur_probability"]) and not any(a["solarize_probability"])
    options = {
        "input_size": size,
        "cj_prob": a["jitter_probability"],
        "cj_bright": a["brightness"],
        "cj_contrast": a["contrast"],
        "cj_sat": a["saturation"],
        "cj_hue": a["hue"],
        "min_scale": a["crop_area"][0],
        "random_gray_scale": a["grey_probability"],
        "gaussian_blur": 0.0,
        "normalize": normalize,
    }
    if objective == "ntxent":
        return SimCLRTransform(**options)
    return BYOLTransform(BYOLView1Transform(**options), BYOLView1Transform(**options))


def make_optimizer(o: dict, model: nn.Module, steps: int) -> tuple[Optimizer, LambdaLR]:
    """Return the optimizer of jaxssl/training/optimizers.py (no weight decay of biases and norms) and its schedule."""
    assert o["decay"] == "cosine" and not o["warmup_epochs"] and not o["scale_learning_rate"]
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": o["weight_decay"]},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    kind = {
        "sgd": lambda: torch.optim.SGD(groups, o["learning_rate"], momentum=o["momentum"]),
        "adam": lambda: torch.optim.Adam(groups, o["learning_rate"]),
        "adamw": lambda: torch.optim.AdamW(groups, o["learning_rate"]),
    }
    optimizer = kind[o["name"]]()
    return optimizer, LambdaLR(optimizer, lambda k: (1 + math.cos(math.pi * k / steps)) / 2)


@torch.no_grad()
def features(encoder: nn.Module, images: np.ndarray, normalize: dict) -> np.ndarray:
    """Return pooled features [N, D] of images, preprocessed as for evaluation."""
    encoder.eval()
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor(normalize["mean"])[:, None, None]) / torch.tensor(normalize["std"])[:, None, None]
    result = torch.cat([encoder(part) for part in x.split(256)]).numpy()
    encoder.train()
    return result


def pretrain(model: nn.Module, loader: DataLoader, epochs: int, o: dict) -> list[float]:
    """Train and return the mean loss of each epoch."""
    means, steps = [], epochs * len(loader)
    optimizer, scheduler = make_optimizer(o, model, steps)
    step = 0
    for epoch in range(epochs):
        losses, start = [], time.perf_counter()
        for views in loader:
            loss = model(views)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            model.advance(step, steps)
            step += 1
            losses.append(loss.item())
        means.append(np.mean(losses))
        print(f"epoch {epoch + 1} loss {means[-1]:.4f} {time.perf_counter() - start:.1f} s", flush=True)
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    c = json.loads((args.run / "config.json").read_text())["config"]
    splits = json.loads((args.run / "splits.json").read_text())
    p = c["pretrain"]
    torch.set_num_threads(args.threads)
    torch.manual_seed(c["seed"])
    images = {
        split: np.stack(
            [np.asarray(Image.open(Path(c["data"]["dir"]) / name).convert("RGB")) for name in splits[split]]
        )
        for split in ("train", "test")
    }
    # jaxssl computes mean and standard deviation from at most 2,000 images.
    unit = images["train"][:: -(-len(images["train"]) // 2000)].reshape(-1, 3) / 255
    normalize = {"mean": unit.mean(0).tolist(), "std": unit.std(0).tolist()}

    width = c["model"]["options"]["width"]
    encoder = make_encoder(args.out / "untrained.npz", width)
    random = {f"random_{k}": features(encoder, v, normalize) for k, v in images.items()}
    model = {"ntxent": SimCLR, "byol": BYOL}[p["objective"]](encoder, 8 * width, **p["options"])
    loader = DataLoader(
        Images(images["train"], make_transform(p["objective"], p["augment"], c["data"]["image_size"], normalize)),
        p["batch_size"],
        shuffle=True,
        drop_last=True,
        num_workers=1,
        persistent_workers=True,
    )
    loss = pretrain(model, loader, p["epochs"], p["optimizer"])
    trained = {f"ssl_{k}": features(encoder, v, normalize) for k, v in images.items()}
    np.savez(args.out / "features.npz", **random, **trained, loss=loss)


if __name__ == "__main__":
    main()
