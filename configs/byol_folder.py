"""BYOL on a folder of your own images, one sub-folder a class, or flat and without labels.

    python -m jaxssl.main --config=configs/byol_folder.py --config.data.dir=data/mine --workdir=runs/mine

ResNet-18 at 128 px, for one GPU. `--config=configs/byol_folder.py:local` is ResNet-18 with 32 channels at 64 px and few
epochs, for two cores: about a minute an epoch for 10,000 images. Nothing here is tuned to your images: which way is up,
whether colour matters and what may be cropped away is yours to say, in `config.pretrain.augment`.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields


def get_config(arg: str = "") -> ConfigDict:
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
    if arg == "local":
        c.data.image_size = 64
        c.model.options.width = 32
        c.pretrain.options.hidden = 1024
        c.pretrain.epochs = 10
        c.pretrain.batch_size = 64
        c.pretrain.optimizer.warmup_epochs = 1
        c.transfer.epochs = 10
        c.transfer.batch_size = 64
    elif arg:
        raise ValueError(f"byol_folder takes no argument but local, not {arg!r}")
    return c
