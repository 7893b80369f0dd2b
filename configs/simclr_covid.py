"""SimCLR (arXiv:2002.05709) on 317 chest x-rays: Covid-19, other viral pneumonia, normal.

    jaxssl run simclr_covid --config.data.manual_dir=data/covid19_xray

After a student project, with its errors corrected (`jaxssl/config/presets.py`); 500 epochs as in the project, because
there are few images, and batches of 32. The test set has 66 images, so the confidence interval of accuracy is some 12
points wide, and a gain of a few points means nothing. Patients are unknown. Hardware: one accelerator; we have not run
it to the end.

    jaxssl run simclr_covid:local --config.data.manual_dir=data/covid19_xray

ResNet-18 with 16 channels at 64 px and 60 epochs, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


@presets.variants(local=presets.simclr_of_few_on_two_cores)
def get_config() -> ConfigDict:
    c = fields.base()
    presets.simclr(c)
    c.data.name = "covid19_xray"
    presets.images_as_in_0_1(c)
    c.pretrain.epochs = 500
    c.pretrain.batch_size = 32
    c.transfer.batch_size = 32
    presets.one_channel(c)
    return c
