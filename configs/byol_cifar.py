"""BYOL (arXiv:2006.07733) on CIFAR-10 as a folder of class folders, for a comparison with lightly.

    jaxssl run byol_cifar --config.data.dir=data/cifar10

The folder holds 5,000 training and 1,000 test images of 32 px in `{train,test}/<class>/`. A few minutes on two cores.
kNN accuracy .278 over three seeds, untrained .254 (`launch/benchmarks/agreement/README.md`): four epochs are few for
BYOL.

    jaxssl run byol_cifar:local --config.data.dir=data/cifar10

Two epochs.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def local(c: ConfigDict) -> None:
    c.pretrain.epochs = 2


@presets.variants(local=local)
def get_config() -> ConfigDict:
    c = fields.base()
    presets.cifar(c)
    c.pretrain.objective = "byol"
    c.pretrain.options.ema = 0.99
    return c
