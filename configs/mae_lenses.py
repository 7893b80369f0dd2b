"""Masked autoencoder (arXiv:2111.06377) on gravitational lenses: is there dark substructure, and of which kind?

    python -m jaxssl.main --config=configs/mae_lenses.py --config.data.manual_dir=data/deeplense

What the student projects on lenses named as future work: a vision transformer on DeepLense's common test, 30,000 images
of 150 px in patches of 10. For one accelerator; not run to its end by us.

`--config=configs/mae_lenses.py:local` simulates its images, 64 px in patches of 8, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl import config, recipes


def get_config(arg: str = "") -> ConfigDict:
    c = config.base()
    c.data.name = "deeplense"
    c.data.image_size = 150
    c.model.name = "vit_tiny"
    c.model.kw.patch = 10
    c.pretrain.objective = "mae"
    c.pretrain.kw.mask_ratio = 0.75
    c.pretrain.epochs = 200
    c.pretrain.batch_size = 256
    o = c.pretrain.optimizer
    o.learning_rate = 6e-4
    o.weight_decay = 0.05
    o.warmup_epochs = 20
    c.pretrain.augment.rotate90 = True
    c.transfer.optimizer.learning_rate = 5e-4
    c.transfer.optimizer.weight_decay = 0.05
    c.transfer.optimizer.warmup_epochs = 5
    c.transfer.augment.rotate90 = True
    if arg == "local":
        recipes.simulated_lenses(c, images_per_class=1000)
        c.model.kw.patch = 8
        c.pretrain.epochs = 20
        c.pretrain.batch_size = 128
        o.warmup_epochs = 2
        c.transfer.epochs = 6
        c.transfer.optimizer.warmup_epochs = 1
    elif arg:
        raise ValueError(f"mae_lenses takes no argument but local, not {arg!r}")
    return c
