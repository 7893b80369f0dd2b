"""SimCLR (arXiv:2002.05709) on 317 chest x-rays: Covid-19, other viral pneumonia, normal.

    python -m jaxssl.main --config=configs/simclr_covid.py --config.data.manual_dir=data/covid19_xray

The recipe of a student project with what was wrong there mended (`jaxssl/config/presets.py`), 500 epochs as it had for so few
images, and batches of 32. The test set has 66 images, so that an interval of accuracy is some 12 points wide: a gain of
a few points means nothing here. No patient is known. For one accelerator; not run to its end by us.

`--config=configs/simclr_covid.py:local` is ResNet-18 with 16 channels at 64 px and ten epochs, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def get_config(arg: str = "") -> ConfigDict:
    c = fields.base()
    presets.simclr(c)
    c.data.name = "covid19_xray"
    c.pretrain.epochs = 500
    c.pretrain.batch_size = 32
    c.transfer.batch_size = 32
    presets.one_channel(c)
    if arg == "local":
        presets.simclr_on_two_cores(c)
        c.pretrain.epochs = 60
        c.pretrain.batch_size = 64
        c.transfer.epochs = 30
    elif arg:
        raise ValueError(f"simclr_covid takes no argument but local, not {arg!r}")
    return c
