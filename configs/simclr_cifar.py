"""SimCLR (arXiv:2002.05709) on CIFAR-10 as a folder of class folders, for a comparison with lightly.

    jaxssl run simclr_cifar --config.data.dir=data/cifar10

The folder holds 5,000 training and 1,000 test images of 32 px in `{train,test}/<class>/`. A few minutes on two cores.
kNN accuracy over three seeds .391, with lightly .386, untrained .254 (`launch/benchmarks/agreement/README.md`). Four
epochs are enough to compare two libraries, and far from what SimCLR reaches with many.

    jaxssl run simclr_cifar:local --config.data.dir=data/cifar10

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
    c.pretrain.objective = "ntxent"
    c.pretrain.options.temperature = 0.2
    return c
