"""Contrast by rotation on gravitational lenses: each image against itself turned by 90, 180 or 270 degrees.

    jaxssl run rotation_lenses --config.data.manual_dir=data/deeplense

After a student project (`jaxssl/config/presets.py`): NT-Xent (arXiv:2002.05709) with temperature 0.2, SGD 0.1, batches
of 64, six epochs, ResNet-18 at 150 px. The project evaluated on its own training images. Here both views are rotated
and mirrored at random; `--config.pretrain.augment.rotation=180` rotates by any angle, as another project did. A lens
looks the same at every angle, and views that differ in nothing else are a weak task: expect less than from crops
(`simclr_lenses`). Hardware: one accelerator; we have not run it to the end.

    jaxssl run rotation_lenses:local

Simulated images of 64 px, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


@presets.variants(local=presets.lens_views_on_two_cores)
def get_config() -> ConfigDict:
    c = fields.base()
    presets.lens_views(c, "deeplense")
    c.pretrain.options.temperature = 0.2
    c.pretrain.epochs = 6
    c.pretrain.optimizer.name = "sgd"
    c.pretrain.optimizer.learning_rate = 0.1
    c.pretrain.augment.rotate90 = True
    return c
