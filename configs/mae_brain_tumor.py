"""Masked autoencoder (arXiv:2111.06377) on 3,064 slices of brain MRI: meningioma, glioma, pituitary tumour.

    python -m jaxssl.main --config=configs/mae_brain_tumor.py --config.data.manual_dir=data/brain_tumor

What the student project of configs/inpaint_brain_tumor.py was after, in its published form: a vision transformer sees a
quarter of the patches of 8 px and a light decoder says what the others hold. Split by patient. For one accelerator; not
run to its end by us.

`--config=configs/mae_brain_tumor.py:local` is ViT-Ti at 64 px and 20 epochs, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def get_config(arg: str = "") -> ConfigDict:
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
    if arg == "local":
        presets.mae_on_two_cores(c)
        c.data.image_size = 64
    elif arg:
        raise ValueError(f"mae_brain_tumor takes no argument but local, not {arg!r}")
    return c
