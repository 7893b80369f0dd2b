"""SimCLR (arXiv:2002.05709) on ISIC 2019: 25,331 images of skin lesions in eight classes.

    jaxssl run simclr_isic --config.data.manual_dir=data/isic2019

After a student project, with its errors corrected (`jaxssl/config/presets.py`). The project named the small nine-class
set of Kaggle, in which 155 images are in two classes each, but read this one; `--config.data.name=isic9` takes the
small one. Split by lesion where lesions are known. Hardware: one accelerator; we have not run it to the end.

    jaxssl run simclr_isic:local --config.data.manual_dir=data/isic2019

ResNet-18 with 16 channels at 64 px and ten epochs, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


@presets.variants(local=presets.simclr_on_two_cores)
def get_config() -> ConfigDict:
    c = fields.base()
    presets.simclr(c)
    c.data.name = "isic2019"
    presets.images_as_in_0_1(c)
    c.pretrain.augment.rotate90 = True
    c.transfer.augment.rotate90 = True
    return c
