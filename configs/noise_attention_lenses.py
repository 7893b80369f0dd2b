"""Contrast by noise on real gravitational lenses, in a small CNN with self-attention over its positions.

    python -m jaxssl.main --config=configs/noise_attention_lenses.py --config.data.manual_dir=data/real_lenses

The recipe of a student project (`jaxssl/config/presets.py`) on 215 images of Hubble, lens or not: NT-Xent (arXiv:2002.05709)
of temperature 0.2, SGD 0.1, noise of up to a tenth of an image's range, 64-128-256 channels and eight heads over 18 x
18 positions. It had an AUC of .54 on its own training images. 20 of the images hold NaN, which cost it several runs:
here they are filled with the image's median. 43 test images tell little: `--config.data.folds=5 --config.data.fold=0`
to 4 give five test sets.

`--config=configs/noise_attention_lenses.py:local` simulates its images, of 64 px, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def get_config(arg: str = "") -> ConfigDict:
    c = fields.base()
    presets.lens_views(c, "real_lenses")
    c.data.nan = "median"
    c.model.name = "conv_attention"
    c.pretrain.options.temperature = 0.2
    c.pretrain.epochs = 30
    c.pretrain.optimizer.name = "sgd"
    c.pretrain.optimizer.learning_rate = 0.1
    c.pretrain.augment.noise = 0.1
    if arg == "local":
        presets.simulated_lenses(c, images_per_class=600)
        c.model.options.widths = (16, 32, 64)
        c.pretrain.epochs = 6
        c.transfer.epochs = 6
        c.transfer.optimizer.learning_rate = 1e-3
    elif arg:
        raise ValueError(f"noise_attention_lenses takes no argument but local, not {arg!r}")
    return c
