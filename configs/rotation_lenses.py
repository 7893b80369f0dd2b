"""Contrast by rotation on gravitational lenses: an image against itself turned by 90, 180 or 270 degrees.

    python -m jaxssl.main --config=configs/rotation_lenses.py --config.data.manual_dir=data/deeplense

The recipe of a student project (`jaxssl/config/presets.py`): NT-Xent (arXiv:2002.05709) of temperature 0.2, SGD 0.1, batches
of 64, six epochs, ResNet-18 at 150 px. It scored on its own training images. Here both views are turned, and mirrored,
at random; `--config.pretrain.augment.rotation=180` turns them by any angle, as another project did. A lens is the same
lens at every angle, and views that differ in nothing else are told apart by little: expect less than from crops
(configs/simclr_lenses.py). For one accelerator; not run to its end by us.

`--config=configs/rotation_lenses.py:local` simulates its images, of 64 px, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def get_config(arg: str = "") -> ConfigDict:
    c = fields.base()
    presets.lens_views(c, "deeplense")
    c.pretrain.options.temperature = 0.2
    c.pretrain.epochs = 6
    c.pretrain.optimizer.name = "sgd"
    c.pretrain.optimizer.learning_rate = 0.1
    c.pretrain.augment.rotate90 = True
    if arg == "local":
        presets.lens_views_on_two_cores(c)
    elif arg:
        raise ValueError(f"rotation_lenses takes no argument but local, not {arg!r}")
    return c
