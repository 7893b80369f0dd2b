"""BYOL (arXiv:2006.07733) on the 33,126 images of ISIC 2020 at 192 px: melanoma or benign, split by patient.

    python -m jaxssl.main --config=configs/byol_melanoma.py --config.data.manual_dir=data/melanoma192

The recipe of a student project with what was wrong there mended (`jaxssl/config/presets.py`): duplicates are dropped, patients
stand on one side of the split alone. 1.8 % are melanomas, so that accuracy says nothing: look at AUC and balanced
accuracy. For one accelerator; not run to its end by us.

`--config=configs/byol_melanoma.py:local` is ResNet-18 with 16 channels at 64 px, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def get_config(arg: str = "") -> ConfigDict:
    c = fields.base()
    presets.byol(c)
    c.data.name = "melanoma192"
    # A lesion has no upright.
    c.pretrain.augment.rotate90 = True
    c.transfer.augment.rotate90 = True
    if arg == "local":
        presets.byol_on_two_cores(c)
    elif arg:
        raise ValueError(f"byol_melanoma takes no argument but local, not {arg!r}")
    return c
