"""SimCLR (arXiv:2002.05709) on CIFAR-10 as a folder of class folders: the run that is held against lightly.

    python -m jaxssl.main --config=configs/simclr_cifar.py --config.data.dir=data/cifar10

The folder holds 5,000 training and 1,000 test images of 32 px in `{train,test}/<class>/`. A few minutes on two cores.
Accuracy of kNN over three seeds .391, by lightly .386, untrained .254: see launch/benchmarks/agreement/README.md. Four epochs are
enough to compare two libraries, and far from what SimCLR reaches with many.

`--config=configs/simclr_cifar.py:local` takes two epochs.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def get_config(arg: str = "") -> ConfigDict:
    c = fields.base()
    presets.cifar(c)
    c.pretrain.objective = "ntxent"
    c.pretrain.options.temperature = 0.2
    if arg == "local":
        c.pretrain.epochs = 2
    elif arg:
        raise ValueError(f"simclr_cifar takes no argument but local, not {arg!r}")
    return c
