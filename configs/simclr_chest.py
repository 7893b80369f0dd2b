"""SimCLR (arXiv:2002.05709) on 5,856 chest x-rays of children: normal or pneumonia, split by patient.

    jaxssl run simclr_chest --config.data.manual_dir=data/chest_xray

After a student project, with its errors corrected (`jaxssl/config/presets.py`): the published training and validation
folders share patients, so they are merged and split again; the official test images stay the test images. Hardware: one
accelerator; we have not run it to the end.

    jaxssl run simclr_chest:local --config.data.manual_dir=data/chest_xray

ResNet-18 with 16 channels at 64 px and ten epochs, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


@presets.variants(local=presets.simclr_on_two_cores)
def get_config() -> ConfigDict:
    c = fields.base()
    presets.simclr(c)
    c.data.name = "chest_xray"
    presets.images_as_in_0_1(c)
    presets.one_channel(c)
    return c
