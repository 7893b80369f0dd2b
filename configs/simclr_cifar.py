"""SimCLR (arXiv:2002.05709) on CIFAR-10 as a folder of class folders: the run that is held against lightly.

    python -m jaxssl.main --config=configs/simclr_cifar.py --config.data.dir=data/cifar10

The folder holds 5,000 training and 1,000 test images of 32 px in `{train,test}/<class>/`. A few minutes on two cores.
Accuracy of kNN over three seeds .391, by lightly .386, untrained .254: see launch/agreement/README.md. Four epochs are
enough to compare two libraries, and far from what SimCLR reaches with many.

`--config=configs/simclr_cifar.py:local` takes two epochs.
"""

from ml_collections import ConfigDict

from jaxssl import config


def get_config(arg: str = "") -> ConfigDict:
    c = config.base()
    c.data.name = "folder"
    c.data.dir = "data/cifar10"
    c.data.image_size = 32
    c.model.name = "resnet18"
    c.model.stem = "small"
    c.model.kw.width = 16

    c.pretrain.objective = "ntxent"
    c.pretrain.kw.hidden = 512
    c.pretrain.kw.projection = 128
    c.pretrain.kw.temperature = 0.2
    c.pretrain.epochs = 4
    c.pretrain.batch_size = 64
    c.pretrain.optimizer.name = "adam"
    c.pretrain.optimizer.weight_decay = 1e-6
    a = c.pretrain.augment
    a.crop_area = (0.2, 1.0)
    a.flip_horizontal = True
    a.jitter_probability = 0.8
    a.brightness, a.contrast, a.saturation, a.hue = 0.4, 0.4, 0.4, 0.1
    a.grey_probability = 0.2

    c.transfer.protocols = ("probe", "knn")
    if arg == "local":
        c.pretrain.epochs = 2
    elif arg:
        raise ValueError(f"simclr_cifar takes no argument but local, not {arg!r}")
    return c
