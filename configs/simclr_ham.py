"""SimCLR (arXiv:2002.05709) on HAM10000: seven kinds of skin lesion, split by lesion.

    jaxssl run simclr_ham --config.data.manual_dir=data/ham10000

After a student project, with its errors corrected (`jaxssl/config/presets.py`), and each lesion in one split only.
Hardware: one accelerator; we have not run it to the end.

    jaxssl run simclr_ham:local --config.data.manual_dir=data/ham10000

ResNet-18 with 16 channels at 64 px and ten epochs: 7 minutes on two cores. Macro AUC of the probe .880 (.864-.894)
against .818 (.796-.840) with random weights, fine-tuned .919 (.906-.930) against .917 (.906-.927).
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


@presets.variants(local=presets.simclr_on_two_cores)
def get_config() -> ConfigDict:
    c = fields.base()
    presets.simclr(c)
    c.data.name = "ham10000"
    presets.images_as_in_0_1(c)
    # A lesion has no upright.
    c.pretrain.augment.rotate90 = True
    c.transfer.augment.rotate90 = True
    return c
