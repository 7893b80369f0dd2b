"""Contrast by blur on gravitational lenses: each image against a blurred version of itself.

    jaxssl run blur_lenses --config.data.manual_dir=data/deeplense

After a student project (`jaxssl/config/presets.py`): NT-Xent (arXiv:2002.05709) between views with temperature 0.1,
Adam 1e-3, 20 epochs. What the project called blur added noise, and it sampled 24 images with replacement; here blur is
a blur, and all images are used. Hardware: one accelerator; we have not run it to the end.

    jaxssl run blur_lenses:local

Simulated images of 64 px, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def local(c: ConfigDict) -> None:
    presets.lens_views_on_two_cores(c)
    c.pretrain.augment.blur_sigma = (0.2, 2.0)


@presets.variants(local=local)
def get_config() -> ConfigDict:
    c = fields.base()
    presets.lens_views(c, "deeplense")
    c.pretrain.options.temperature = 0.1
    c.pretrain.epochs = 20
    c.pretrain.optimizer.name = "adam"
    # The one view as it is, the other blurred.
    c.pretrain.augment.blur_probability = (0.0, 1.0)
    c.pretrain.augment.blur_sigma = (0.5, 4.0)
    return c
