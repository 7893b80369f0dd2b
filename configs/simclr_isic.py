"""SimCLR (arXiv:2002.05709) on ISIC 2019: 25,331 images of skin lesions in eight classes.

    python -m jaxssl.main --config=configs/simclr_isic.py --config.data.manual_dir=data/isic2019

The recipe of a student project with what was wrong there mended (`jaxssl/config/presets.py`). It named the small nine-class
set of Kaggle, which holds 155 images under two classes each, and read this one; `--config.data.name=isic9` takes the
small one. Split by lesion where that is known. For one accelerator; not run to its end by us.

`--config=configs/simclr_isic.py:local` is ResNet-18 with 16 channels at 64 px and ten epochs, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def get_config(arg: str = "") -> ConfigDict:
    c = fields.base()
    presets.simclr(c)
    c.data.name = "isic2019"
    c.pretrain.augment.rotate90 = True
    c.transfer.augment.rotate90 = True
    if arg == "local":
        presets.simclr_on_two_cores(c)
    elif arg:
        raise ValueError(f"simclr_isic takes no argument but local, not {arg!r}")
    return c
