"""SimCLR (arXiv:2002.05709) on IDRiD: 516 photographs of the retina, five grades of diabetic retinopathy.

    python -m jaxssl.main --config=configs/simclr_idrid.py --config.data.manual_dir=data/idrid

The recipe of a student project with what was wrong there mended (`jaxssl/config/presets.py`), in batches of 32, since there
are 413 images to train on. The official test set has 103: an interval of accuracy is some 19 points wide. For one
accelerator; not run to its end by us.

`--config=configs/simclr_idrid.py:local` is ResNet-18 with 16 channels at 64 px and ten epochs, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def get_config(arg: str = "") -> ConfigDict:
    c = fields.base()
    presets.simclr(c)
    c.data.name = "idrid_grading"
    c.pretrain.batch_size = 32
    c.transfer.batch_size = 32
    # Between grades only small, coloured spots differ.
    c.pretrain.augment.crop_area = (0.3, 1.0)
    c.pretrain.augment.grey_probability = 0.0
    c.pretrain.augment.rotate90 = True
    c.transfer.augment.rotate90 = True
    if arg == "local":
        presets.simclr_on_two_cores(c)
        c.pretrain.epochs = 60
        c.pretrain.batch_size = 64
        c.transfer.epochs = 30
    elif arg:
        raise ValueError(f"simclr_idrid takes no argument but local, not {arg!r}")
    return c
