"""BYOL (arXiv:2006.07733) on HAM10000: seven kinds of skin lesion, split by lesion.

    python -m jaxssl.main --config=configs/byol_ham.py --config.data.manual_dir=data/ham10000

As published, scaled to the batch: ResNet-50 at 224 px, LARS with 0.2 x batch / 256, weight decay 1.5e-6 that spares
biases and norms, ten epochs of warm-up and a cosine, moving average from 0.996 to 1. Vertical flips and quarter turns
are added, since a lesion has no upright. Meant for one accelerator of 40 GB or more; not run to its end by us.

    python -m jaxssl.main --config=configs/byol_ham.py:local --config.data.manual_dir=data/ham10000

ResNet-18 with 16 channels at 64 px and ten epochs: 7.5 minutes on two cores. Macro AUC of the probe .815 (.787-.840)
against .818 (.796-.840) on random weights, fine-tuned .908 (.897-.919) against .917 (.906-.927): no help in so few
steps. configs/simclr_ham.py:local helps in the same time.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields


def get_config(arg: str = "") -> ConfigDict:
    c = fields.base()
    c.data.name = "ham10000"
    c.data.image_size = 224
    c.data.stored_size = 256
    c.model.name = "resnet50"
    c.model.dtype = "bfloat16"

    c.pretrain.objective = "byol"
    c.pretrain.options.hidden = 4096
    c.pretrain.options.projection = 256
    c.pretrain.options.ema = 0.996
    c.pretrain.epochs = 1000
    c.pretrain.batch_size = 512
    o = c.pretrain.optimizer
    o.name = "lars"
    o.learning_rate = 0.2
    o.scale_learning_rate = True
    o.weight_decay = 1.5e-6
    o.warmup_epochs = 10
    a = c.pretrain.augment
    a.crop_area = (0.08, 1.0)
    a.flip_horizontal = True
    a.rotate90 = True
    a.jitter_probability = 0.8
    a.brightness, a.contrast, a.saturation, a.hue = 0.4, 0.4, 0.2, 0.1
    a.grey_probability = 0.2
    a.blur_probability = (1.0, 0.1)
    a.solarize_probability = (0.0, 0.2)

    c.transfer.epochs = 100
    c.transfer.batch_size = 128
    c.transfer.optimizer.learning_rate = 1e-4
    c.transfer.augment.crop_area = (0.5, 1.0)
    c.transfer.augment.rotate90 = True
    if arg == "local":
        local(c)
    elif arg:
        raise ValueError(f"byol_ham takes no argument but local, not {arg!r}")
    return c


def local(c: ConfigDict) -> None:
    """What two cores can bear: small batches for more steps, and colour, which tells lesions apart, changed little."""
    c.data.image_size = 64
    c.data.stored_size = 0
    c.model.name = "resnet18"
    c.model.dtype = "float32"
    c.model.options.width = 16
    c.pretrain.options.hidden = 512
    c.pretrain.options.projection = 128
    c.pretrain.options.ema = 0.98
    c.pretrain.epochs = 10
    c.pretrain.batch_size = 64
    c.pretrain.optimizer.learning_rate = 1.0
    c.pretrain.optimizer.scale_learning_rate = False
    c.pretrain.optimizer.warmup_epochs = 1
    a = c.pretrain.augment
    a.crop_area = (0.3, 1.0)
    a.brightness, a.contrast, a.saturation, a.hue = 0.4, 0.4, 0.2, 0.02
    a.grey_probability = 0.0
    a.blur_probability = (0.0,)
    a.solarize_probability = (0.0,)
    c.transfer.epochs = 10
    c.transfer.optimizer.learning_rate = 1e-3
