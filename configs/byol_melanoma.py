"""BYOL (arXiv:2006.07733) on the 33,126 images of ISIC 2020 at 192 px: melanoma or benign, split by patient.

    jaxssl run byol_melanoma --config.data.manual_dir=data/melanoma192

After a student project, with its errors corrected (`jaxssl/config/presets.py`): duplicates are removed, and each
patient is in one split only. Only 1.8 % are melanomas, so accuracy says nothing: look at AUC and balanced accuracy.
Hardware: one accelerator; we have not run it to the end.

    jaxssl run byol_melanoma:local --config.data.manual_dir=data/melanoma192

ResNet-18 with 16 channels at 64 px, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


@presets.variants(local=presets.byol_on_two_cores)
def get_config() -> ConfigDict:
    c = fields.base()
    presets.byol(c)
    c.data.name = "melanoma192"
    # A lesion has no upright.
    c.pretrain.augment.rotate90 = True
    c.transfer.augment.rotate90 = True
    return c
