"""BYOL (arXiv:2006.07733) on 200 slices of head CT: hemorrhage or none, one slice a patient.

    python -m jaxssl.main --config=configs/byol_hemorrhage.py --config.data.manual_dir=data/head_ct

The recipe of a student project with what was wrong there mended (`jaxssl/config/presets.py`): its .396 was below the majority,
from a head that had not been trained. 40 test images tell two methods apart only if they are 20 points apart and more:
`--config.data.folds=5 --config.data.fold=0` to 4 give five test sets. For one accelerator; not run to its end by us.

`--config=configs/byol_hemorrhage.py:local` is ResNet-18 with 16 channels at 64 px, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def get_config(arg: str = "") -> ConfigDict:
    c = fields.base()
    presets.byol(c)
    c.data.name = "head_ct"
    presets.one_channel(c)
    if arg == "local":
        presets.byol_on_two_cores(c)
        c.pretrain.epochs = 60
        c.transfer.epochs = 30
        c.transfer.batch_size = 32
    elif arg:
        raise ValueError(f"byol_hemorrhage takes no argument but local, not {arg!r}")
    return c
