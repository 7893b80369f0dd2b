"""Masked autoencoder (arXiv:2111.06377) on gravitational lenses: is there dark substructure, and of which kind?

    python -m jaxssl.main --config=configs/mae_lenses.py --config.data.manual_dir=data/deeplense

What the student projects on lenses named as future work: a vision transformer on DeepLense's common test, 30,000 images
of 150 px in patches of 10. For one accelerator; not run to its end by us.

`--config=configs/mae_lenses.py:local` simulates its images, 64 px in patches of 8, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def get_config(arg: str = "") -> ConfigDict:
    c = fields.base()
    presets.mae(c, patch=10)
    c.data.name = "deeplense"
    c.data.image_size = 150
    c.pretrain.epochs = 200
    c.pretrain.batch_size = 256
    c.pretrain.augment.rotate90 = True
    c.transfer.augment.rotate90 = True
    if arg == "local":
        presets.mae_on_two_cores(c)
        presets.simulated_lenses(c, images_per_class=1000)
        c.model.options.patch = 8
        c.pretrain.batch_size = 128
    elif arg:
        raise ValueError(f"mae_lenses takes no argument but local, not {arg!r}")
    return c
