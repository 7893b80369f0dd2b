"""Inpainting on 3,064 slices of brain MRI of 233 patients: meningioma, glioma, pituitary tumour.

    jaxssl run inpaint_brain_tumor --config.data.manual_dir=data/brain_tumor

The "masked autoencoder" of a student project (`jaxssl/config/presets.py`): a convolutional autoencoder fills a
rectangle of 5 to 29 of 96 pixels a side. In the project each image had one fixed rectangle, and the loss was taken over
the whole image, most of which the network could copy; here the rectangle is drawn anew in each step, and the loss is
that of the hole (`--config.pretrain.options.on=image` takes the whole image). Also runs on two cores.

    jaxssl run inpaint_brain_tumor:local --config.data.manual_dir=data/brain_tumor

64 px and half the channels, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


@presets.variants(local=presets.brain_tumor_on_two_cores)
def get_config() -> ConfigDict:
    c = fields.base()
    presets.brain_tumor(c)
    c.pretrain.objective = "inpaint"
    c.pretrain.options.sides = (5 / 96, 29 / 96)
    c.pretrain.options.on = "hole"
    return c
