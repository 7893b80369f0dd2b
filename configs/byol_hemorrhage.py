"""BYOL (arXiv:2006.07733) on 200 slices of head CT: hemorrhage or none, one slice per patient.

    jaxssl run byol_hemorrhage --config.data.manual_dir=data/head_ct

After a student project, with its errors corrected (`jaxssl/config/presets.py`): its accuracy of .396, from an untrained
head, was below that of the majority class. With 40 test images, two methods must differ by 20 points or more to be told
apart; `--config.data.folds=5` with `--config.data.fold=0` to 4 gives five test sets. Hardware: one accelerator; we have
not run it to the end.

    jaxssl run byol_hemorrhage:local --config.data.manual_dir=data/head_ct

ResNet-18 with 16 channels at 64 px, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def local(c: ConfigDict) -> None:
    presets.byol_on_two_cores(c)
    c.pretrain.epochs = 60
    c.transfer.epochs = 30
    c.transfer.batch_size = 32


@presets.variants(local=local)
def get_config() -> ConfigDict:
    c = fields.base()
    presets.byol(c)
    c.data.name = "head_ct"
    presets.images_as_in_0_1(c)
    presets.one_channel(c)
    return c
