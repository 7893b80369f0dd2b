"""BYOL (arXiv:2006.07733) on 5,856 chest x-rays of children: normal or pneumonia, split by patient.

    python -m jaxssl.main --config=configs/byol_chest.py --config.data.manual_dir=data/chest_xray

The recipe of a student project with what was wrong there mended (`jaxssl/config/presets.py`): its .614 was below the majority,
from a head that had not been trained. The training and validation folders share patients and are split again. For one
accelerator; not run to its end by us.

`--config=configs/byol_chest.py:local` is ResNet-18 with 16 channels at 64 px, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def get_config(arg: str = "") -> ConfigDict:
    c = fields.base()
    presets.byol(c)
    c.data.name = "chest_xray"
    presets.one_channel(c)
    if arg == "local":
        presets.byol_on_two_cores(c)
    elif arg:
        raise ValueError(f"byol_chest takes no argument but local, not {arg!r}")
    return c
