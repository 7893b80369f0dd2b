"""Masked autoencoder (arXiv:2111.06377) on gravitational lenses: no substructure, subhaloes or a vortex?

    jaxssl run mae_lenses --config.data.manual_dir=data/deeplense

What the student projects on lenses named as future work: a vision transformer on the common test of DeepLense, 30,000
images of 150 px in patches of 10. Hardware: one accelerator; we have not run it to the end.

    jaxssl run mae_lenses:local

Simulated images of 64 px in patches of 8, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def local(c: ConfigDict) -> None:
    presets.mae_on_two_cores(c)
    presets.simulated_lenses(c, images_per_class=1000)
    c.model.options.patch = 8
    c.pretrain.batch_size = 128


@presets.variants(local=local)
def get_config() -> ConfigDict:
    c = fields.base()
    presets.mae(c, patch=10)
    c.data.name = "deeplense"
    c.data.image_size = 150
    c.pretrain.epochs = 200
    c.pretrain.batch_size = 256
    c.pretrain.augment.rotate90 = True
    c.transfer.augment.rotate90 = True
    return c
