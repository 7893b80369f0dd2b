"""Contrast by blur on gravitational lenses: an image against itself out of focus.

    python -m jaxssl.main --config=configs/blur_lenses.py --config.data.manual_dir=data/deeplense

The recipe of a student project (`jaxssl/config/presets.py`): NT-Xent (arXiv:2002.05709) across views of temperature 0.1, Adam
1e-3, 20 epochs. What it called blur added noise, and it drew 24 images with replacement; here blur is blur, and the
images are all of them. For one accelerator; not run to its end by us.

`--config=configs/blur_lenses.py:local` simulates its images, of 64 px, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def get_config(arg: str = "") -> ConfigDict:
    c = fields.base()
    presets.lens_views(c, "deeplense")
    c.pretrain.options.temperature = 0.1
    c.pretrain.epochs = 20
    c.pretrain.optimizer.name = "adam"
    # The one view as it is, the other blurred.
    c.pretrain.augment.blur_probability = (0.0, 1.0)
    c.pretrain.augment.blur_sigma = (0.5, 4.0)
    if arg == "local":
        presets.lens_views_on_two_cores(c)
        c.pretrain.augment.blur_sigma = (0.2, 2.0)
    elif arg:
        raise ValueError(f"blur_lenses takes no argument but local, not {arg!r}")
    return c
