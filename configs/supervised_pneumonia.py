"""ResNet-18 with labels, from scratch, on PneumoniaMNIST: normal against pneumonia in chest x-rays of 28 px,
which are enlarged to 64.

    python -m jaxssl.main --config=configs/supervised_pneumonia.py --config.data.dir=data/pneumoniamnist.npz

The level to be held against is that of MedMNIST (Yang et al., 2023), ResNet-18 at 28 px: AUC .944, accuracy .854 on the
624 official test images. Ours, on two cores in five minutes: AUC .979 (.966-.988), accuracy .928 (.907-.947).
`--config=configs/supervised_pneumonia.py:local` has 16 channels instead of 64.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields


def get_config(arg: str = "") -> ConfigDict:
    c = fields.base()
    c.data.name = "npz"
    c.data.dir = "data/pneumoniamnist.npz"
    c.data.image_size = 64
    c.data.options.classes = ("normal", "pneumonia")
    c.pretrain.epochs = 0
    c.transfer.protocols = ("finetune",)
    c.transfer.epochs = 10
    c.transfer.batch_size = 128
    c.transfer.optimizer.name = "adam"
    c.transfer.optimizer.learning_rate = 1e-3
    c.transfer.optimizer.weight_decay = 0.0
    a = c.transfer.augment
    a.crop_area = (0.6, 1.0)
    a.flip_horizontal = True
    a.jitter_probability = 0.8
    a.brightness, a.contrast = 0.2, 0.2
    if arg == "local":
        c.model.options.width = 16
    elif arg:
        raise ValueError(f"supervised_pneumonia takes no argument but local, not {arg!r}")
    return c
