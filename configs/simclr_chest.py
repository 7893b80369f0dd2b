"""SimCLR (arXiv:2002.05709) on 5,856 chest x-rays of children: normal or pneumonia, split by patient.

    python -m jaxssl.main --config=configs/simclr_chest.py --config.data.manual_dir=data/chest_xray

The recipe of a student project with what was wrong there mended (`jaxssl/config/presets.py`): the training and validation
folders share patients, so that they are merged and split again; the official test images stay the test images. For one
accelerator; not run to its end by us.

`--config=configs/simclr_chest.py:local` is ResNet-18 with 16 channels at 64 px and ten epochs, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def get_config(arg: str = "") -> ConfigDict:
    c = fields.base()
    presets.simclr(c)
    c.data.name = "chest_xray"
    presets.one_channel(c)
    if arg == "local":
        presets.simclr_on_two_cores(c)
    elif arg:
        raise ValueError(f"simclr_chest takes no argument but local, not {arg!r}")
    return c
