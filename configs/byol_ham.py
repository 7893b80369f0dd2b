"""BYOL (arXiv:2006.07733) on HAM10000: seven kinds of skin lesion, split by lesion.

    jaxssl run byol_ham --config.data.manual_dir=data/ham10000

As published, scaled to the batch size: ResNet-50 at 224 px, LARS with learning rate 0.2 x batch / 256, weight decay
1.5e-6 (none for biases and norms), ten epochs of warm-up and a cosine, moving average from 0.996 to 1. Vertical flips
and quarter turns are added, because a lesion has no orientation. Hardware: one accelerator with 40 GB or more; we have
not run it to the end.

    jaxssl run byol_ham:local --config.data.manual_dir=data/ham10000

ResNet-18 with 16 channels at 64 px and 25 epochs: 10 minutes on two cores. Macro AUC of the probe .862 (.841-.880)
against .818 (.795-.839) with random weights, fine-tuned .926 (.911-.938) against .913 (.898-.926). Over three seeds
the probe gains +.051 (+.028 to +.074), fine-tuning +.011 (+.007 to +.016).
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def local(c: ConfigDict) -> None:
    """Small batches for more steps, and weak colour jitter, because lesions differ in colour."""
    presets.byol_on_two_cores(c)
    c.pretrain.epochs = 25
    c.pretrain.images_per_epoch = 0
    c.pretrain.optimizer.scale_learning_rate = False
    c.transfer.images_per_epoch = 0


@presets.variants(local=local)
def get_config() -> ConfigDict:
    c = fields.base()
    presets.byol(c)
    c.data.name = "ham10000"
    presets.images_as_in_0_1(c)
    c.model.name = "resnet50"
    c.pretrain.options.ema = 0.996
    c.pretrain.epochs = 1000
    c.pretrain.batch_size = 512
    o = c.pretrain.optimizer
    o.name = "lars"
    o.learning_rate = 0.2
    o.scale_learning_rate = True
    o.weight_decay = 1.5e-6
    o.warmup_epochs = 10
    c.pretrain.augment.crop_area = (0.08, 1.0)
    c.pretrain.augment.rotate90 = True
    c.transfer.epochs = 100
    c.transfer.batch_size = 128
    c.transfer.augment.flip_horizontal = False
    c.transfer.augment.rotate90 = True
    return c
