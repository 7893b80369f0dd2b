"""SimCLR (arXiv:2002.05709) on HAM10000: seven kinds of skin lesion, split by lesion.

    python -m jaxssl.main --config=configs/simclr_ham.py --config.data.manual_dir=data/ham10000

The recipe of a student project with what was wrong there mended (`jaxssl/config/presets.py`), and lesions on one side of the
split alone. For one accelerator; not run to its end by us.

    python -m jaxssl.main --config=configs/simclr_ham.py:local --config.data.manual_dir=data/ham10000

ResNet-18 with 16 channels at 64 px and ten epochs: 7 minutes on two cores. Macro AUC of the probe .880 (.864-.894)
against .818 (.796-.840) on random weights, fine-tuned .919 (.906-.930) against .917 (.906-.927).
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def get_config(arg: str = "") -> ConfigDict:
    c = fields.base()
    presets.simclr(c)
    c.data.name = "ham10000"
    # A lesion has no upright.
    c.pretrain.augment.rotate90 = True
    c.transfer.augment.rotate90 = True
    if arg == "local":
        presets.simclr_on_two_cores(c)
    elif arg:
        raise ValueError(f"simclr_ham takes no argument but local, not {arg!r}")
    return c
