"""Inpainting on 3,064 slices of brain MRI of 233 patients: meningioma, glioma, pituitary tumour.

    python -m jaxssl.main --config=configs/inpaint_brain_tumor.py --config.data.manual_dir=data/brain_tumor

A student project's "masked autoencoder" (`jaxssl/config/presets.py`): a convolutional autoencoder fills a rectangle of 5 to 29
of 96 pixels a side. There each image had one rectangle, drawn once, and the error was taken over the whole image,
nearly all of which the network could copy: here it is drawn anew in each step, and the error is that of the hole
(`--config.pretrain.options.on=image` takes the whole). Runs on two cores as well.

`--config=configs/inpaint_brain_tumor.py:local` has 64 px and half as many channels, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def get_config(arg: str = "") -> ConfigDict:
    c = fields.base()
    presets.brain_tumor(c)
    c.pretrain.objective = "inpaint"
    c.pretrain.options.sides = (5 / 96, 29 / 96)
    c.pretrain.options.on = "hole"
    if arg == "local":
        presets.brain_tumor_on_two_cores(c)
    elif arg:
        raise ValueError(f"inpaint_brain_tumor takes no argument but local, not {arg!r}")
    return c
