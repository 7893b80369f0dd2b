"""BYOL (arXiv:2006.07733) on CIFAR-10 as a folder of class folders: the run that is held against lightly.

    python -m jaxssl.main --config=configs/byol_cifar.py --config.data.dir=data/cifar10

The folder holds 5,000 training and 1,000 test images of 32 px in `{train,test}/<class>/`. A few minutes on two cores.
Accuracy of kNN .278 over three seeds, untrained .254 (`launch/benchmarks/agreement/README.md`): four epochs are few for BYOL.

`--config=configs/byol_cifar.py:local` takes two epochs.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def get_config(arg: str = "") -> ConfigDict:
    c = fields.base()
    presets.cifar(c)
    c.pretrain.objective = "byol"
    c.pretrain.options.ema = 0.99
    if arg == "local":
        c.pretrain.epochs = 2
    elif arg:
        raise ValueError(f"byol_cifar takes no argument but local, not {arg!r}")
    return c
