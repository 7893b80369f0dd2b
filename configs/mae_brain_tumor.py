"""Masked autoencoder (arXiv:2111.06377) on 3,064 slices of brain MRI: meningioma, glioma, pituitary tumour.

    jaxssl run mae_brain_tumor --config.data.manual_dir=data/brain_tumor

The published form of what the student project of `inpaint_brain_tumor` tried: a vision transformer sees a quarter of
the patches of 8 px, and a light decoder reconstructs the others. Split by patient. Hardware: one accelerator; we have
not run it to the end.

    jaxssl run mae_brain_tumor:local --config.data.manual_dir=data/brain_tumor

ViT-Ti at 64 px and 20 epochs, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def local(c: ConfigDict) -> None:
    presets.mae_on_two_cores(c)
    c.data.image_size = 64


@presets.variants(local=local)
def get_config() -> ConfigDict:
    c = fields.base()
    presets.mae(c, patch=8)
    c.data.name = "brain_tumor"
    c.data.image_size = 96
    c.pretrain.epochs = 400
    c.pretrain.batch_size = 128
    c.pretrain.augment.crop_area = (0.5, 1.0)
    c.pretrain.augment.flip_horizontal = True
    c.transfer.batch_size = 64
    c.transfer.augment.crop_area = (0.6, 1.0)
    c.transfer.augment.flip_horizontal = True
    return c
