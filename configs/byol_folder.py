"""BYOL on a folder of your own images: one sub-folder per class, or flat and without labels.

    jaxssl run byol_folder --config.data.dir=data/mine --workdir=runs/mine

ResNet-18 at 128 px, for one GPU. Nothing is tuned to your images: set in `config.pretrain.augment` whether they may be
flipped or rotated, whether colour matters, and how much may be cropped away.

    jaxssl run byol_folder:local --config.data.dir=data/mine --workdir=runs/mine

ResNet-18 with 32 channels at 64 px and ten epochs, for two cores: about a minute per epoch for 10,000 images.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def local(c: ConfigDict) -> None:
    c.data.image_size = 64
    c.model.options.width = 32
    c.pretrain.options.hidden = 1024
    c.pretrain.epochs = 10
    c.pretrain.batch_size = 64
    c.pretrain.optimizer.warmup_epochs = 1
    c.transfer.epochs = 10
    c.transfer.batch_size = 64


@presets.variants(local=local)
def get_config() -> ConfigDict:
    c = fields.base()
    c.data.name = "folder"
    c.data.options.group_pattern = ""
    c.data.options.table = ""
    for column in ("path", "label", "group", "split"):
        c.data.options[f"{column}_column"] = column
    c.data.image_size = 128
    c.pretrain.objective = "byol"
    c.pretrain.options.hidden = 4096
    c.pretrain.options.projection = 256
    c.pretrain.options.ema = 0.99
    c.pretrain.epochs = 200
    c.pretrain.batch_size = 256
    c.pretrain.optimizer.warmup_epochs = 10
    a = c.pretrain.augment
    a.crop_area = (0.2, 1.0)
    a.flip_horizontal = True
    a.jitter_probability = 0.8
    a.brightness, a.contrast, a.saturation, a.hue = 0.4, 0.4, 0.2, 0.1
    a.blur_probability = (0.5, 0.1)
    c.transfer.augment.flip_horizontal = True
    return c
