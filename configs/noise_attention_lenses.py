"""Contrast by noise on real gravitational lenses, in a small CNN with self-attention over its positions.

    jaxssl run noise_attention_lenses --config.data.manual_dir=data/real_lenses

After a student project (`jaxssl/config/presets.py`) on 215 Hubble images, lens or not: NT-Xent (arXiv:2002.05709) with
temperature 0.2, SGD 0.1, noise of up to a tenth of an image's range, 64-128-256 channels and eight heads over 18 x 18
positions. The project had an AUC of .54 on its own training images. 20 of the images contain NaN, which made several of
its runs fail; here they are filled with the median of the image. 43 test images say little: `--config.data.folds=5`
with `--config.data.fold=0` to 4 gives five test sets.

    jaxssl run noise_attention_lenses:local

Simulated images of 64 px, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def local(c: ConfigDict) -> None:
    presets.simulated_lenses(c, images_per_class=600)
    c.model.options.widths = (16, 32, 64)
    c.pretrain.epochs = 6
    c.transfer.epochs = 6
    c.transfer.optimizer.learning_rate = 1e-3


@presets.variants(local=local)
def get_config() -> ConfigDict:
    c = fields.base()
    presets.lens_views(c, "real_lenses")
    c.data.nan = "median"
    c.model.name = "conv_attention"
    c.pretrain.options.temperature = 0.2
    c.pretrain.epochs = 30
    c.pretrain.optimizer.name = "sgd"
    c.pretrain.optimizer.learning_rate = 0.1
    c.pretrain.augment.noise = 0.1
    return c
