"""SimCLR (arXiv:2002.05709) on IDRiD: 516 retina photographs, five grades of diabetic retinopathy.

    jaxssl run simclr_idrid --config.data.manual_dir=data/idrid

After a student project, with its errors corrected (`jaxssl/config/presets.py`), in batches of 32, because there are 413
training images. The official test set has 103 images: the confidence interval of accuracy is some 19 points wide.
Hardware: one accelerator; we have not run it to the end.

    jaxssl run simclr_idrid:local --config.data.manual_dir=data/idrid

ResNet-18 with 16 channels at 64 px and 60 epochs, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


@presets.variants(local=presets.simclr_of_few_on_two_cores)
def get_config() -> ConfigDict:
    c = fields.base()
    presets.simclr(c)
    c.data.name = "idrid_grading"
    presets.images_as_in_0_1(c)
    c.pretrain.batch_size = 32
    c.transfer.batch_size = 32
    # Between grades only small, coloured spots differ.
    c.pretrain.augment.crop_area = (0.3, 1.0)
    c.pretrain.augment.grey_probability = 0.0
    c.pretrain.augment.rotate90 = True
    c.transfer.augment.rotate90 = True
    return c
