"""Settings that several configs share, and the arguments of configs (`byol_ham:local`)."""

import functools
from collections.abc import Callable, Collection

from ml_collections import ConfigDict

from jaxssl.errors import UserError, did_you_mean


def variants(
    **changes: Callable[[ConfigDict], None],
) -> Callable[[Callable[[], ConfigDict]], Callable[..., ConfigDict]]:
    """Decorate a `get_config()` so that it takes the name of a variant: `get_config("local")`.

    Example::

        @presets.variants(local=presets.two_cores)
        def get_config() -> ConfigDict:
            return fields.base()

    Args:
      **changes: {argument: function that changes the config in place}.
    """

    def decorate(make: Callable[[], ConfigDict]) -> Callable[..., ConfigDict]:
        @functools.wraps(make)
        def get_config(arg: str = "") -> ConfigDict:
            check_argument(arg, ("", *changes))
            c = make()
            if arg:
                changes[arg](c)
            return c

        return get_config

    return decorate


def check_argument(arg: str, allowed: Collection[str]) -> None:
    """Check the argument of a config.

    Raises:
      UserError: it is not one of the allowed ones.
    """
    if arg not in allowed:
        names = [name for name in allowed if name]
        raise UserError(
            f"--config: unknown argument {arg!r}: {did_you_mean(arg, names)}valid after the colon: {', '.join(names)}",
            code="unknown-name",
            field="--config",
        )


def simclr(c: ConfigDict) -> None:
    """SimCLR as a student project used it on all its datasets: ResNet-50 at 224 px, Adam 1e-3, 200 epochs.

    Differences from the project: all arms share the split, batch size, epochs and augmentation; the fine-tuning epoch
    is selected on validation; the fine-tuning learning rate is 1e-4 instead of 1e-5, which suits random weights better;
    and batch norm is not frozen in fine-tuning, because random weights have no useful statistics.
    """
    c.data.image_size = 224
    c.data.stored_size = 256
    c.model.name = "resnet50"
    c.model.dtype = "bfloat16"
    c.pretrain.objective = "ntxent"
    c.pretrain.options.hidden = 2048
    c.pretrain.options.projection = 128
    c.pretrain.options.temperature = 0.1
    c.pretrain.epochs = 200
    c.pretrain.batch_size = 160
    o = c.pretrain.optimizer
    o.name = "adam"
    o.learning_rate = 1e-3
    o.weight_decay = 1e-6
    o.warmup_epochs = 10
    a = c.pretrain.augment
    a.crop_area = (0.08, 1.0)
    a.flip_horizontal = True
    a.jitter_probability = 0.8
    a.brightness, a.contrast, a.saturation, a.hue = 0.8, 0.8, 0.8, 0.2
    a.grey_probability = 0.2
    a.blur_probability = (0.5,)
    c.transfer.epochs = 100
    c.transfer.freeze_epochs = 10
    c.transfer.optimizer.name = "adam"
    c.transfer.optimizer.learning_rate = 1e-4
    c.transfer.augment.crop_area = (0.5, 1.0)
    c.transfer.augment.flip_horizontal = True


def simclr_on_two_cores(c: ConfigDict) -> None:
    """Reduce `simclr` to two cores: smaller images, network and batches, and weak colour jitter."""
    two_cores(c)
    c.pretrain.options.hidden = 512
    c.pretrain.options.temperature = 0.2
    c.pretrain.batch_size = 256
    c.pretrain.optimizer.name = "adamw"
    c.pretrain.optimizer.weight_decay = 1e-4


def simclr_of_few_on_two_cores(c: ConfigDict) -> None:
    """As `simclr_on_two_cores`, with smaller batches and more epochs for a few hundred images."""
    simclr_on_two_cores(c)
    c.pretrain.epochs = 60
    c.pretrain.batch_size = 64
    c.transfer.epochs = 30


def byol(c: ConfigDict) -> None:
    """BYOL as a student project used it: 50 epochs in batches of 64 with Adam 3e-4.

    The project never updated the target network and scored an untrained head. Here the moving average rises from 0.99
    to 1, and each arm is evaluated by linear probe, kNN and fine-tuning.
    """
    c.data.image_size = 224
    c.data.stored_size = 256
    c.model.name = "resnet18"
    c.model.dtype = "bfloat16"
    c.pretrain.objective = "byol"
    c.pretrain.options.hidden = 4096
    c.pretrain.options.projection = 256
    c.pretrain.options.ema = 0.99
    c.pretrain.epochs = 50
    c.pretrain.batch_size = 64
    o = c.pretrain.optimizer
    o.name = "adam"
    o.learning_rate = 3e-4
    o.weight_decay = 1e-6
    o.warmup_epochs = 5
    a = c.pretrain.augment
    a.crop_area = (0.2, 1.0)
    a.flip_horizontal = True
    a.jitter_probability = 0.8
    a.brightness, a.contrast, a.saturation, a.hue = 0.4, 0.4, 0.2, 0.1
    a.grey_probability = 0.2
    a.blur_probability = (1.0, 0.1)
    a.solarize_probability = (0.0, 0.2)
    c.transfer.epochs = 50
    c.transfer.optimizer.learning_rate = 1e-4
    c.transfer.augment.crop_area = (0.5, 1.0)
    c.transfer.augment.flip_horizontal = True


def byol_on_two_cores(c: ConfigDict) -> None:
    """Reduce `byol` to two cores: smaller images and network, and LARS, the best optimizer for few epochs.

    In a few thousand steps the predictor does not keep up with the encoder, and features collapse to few directions:
    of 1, 10, 30 and 100 times the learning rate for it, 30 was the best on validation images of HAM10000.
    """
    two_cores(c)
    c.pretrain.options.predictor_rate = 30.0
    c.pretrain.options.hidden = 512
    c.pretrain.options.projection = 128
    c.pretrain.options.ema = 0.98
    c.pretrain.batch_size = 64
    o = c.pretrain.optimizer
    o.name = "lars"
    o.learning_rate = 1.0
    o.weight_decay = 1.5e-6
    c.pretrain.augment.solarize_probability = (0.0,)


def two_cores(c: ConfigDict) -> None:
    """Train a ResNet-18 with 16 channels at 64 px for ten epochs of at most 7,000 images."""
    c.data.image_size = 64
    c.data.stored_size = 0
    c.model.name = "resnet18"
    c.model.dtype = "float32"
    c.model.options.width = 16
    c.pretrain.epochs = 10
    c.pretrain.images_per_epoch = 7000
    c.pretrain.optimizer.warmup_epochs = 1
    a = c.pretrain.augment
    a.crop_area = (0.3, 1.0)
    for change, most in (("brightness", 0.4), ("contrast", 0.4), ("saturation", 0.2), ("hue", 0.02)):
        a[change] = min(a[change], most)
    a.grey_probability = 0.0
    a.blur_probability = (0.0,)
    c.transfer.epochs = 10
    c.transfer.images_per_epoch = 7000
    c.transfer.freeze_epochs = 0
    c.transfer.optimizer.name = "adamw"
    c.transfer.optimizer.learning_rate = 1e-3


def one_channel(c: ConfigDict) -> None:
    """Switch off colour augmentation, for images with one channel."""
    a = c.pretrain.augment
    a.saturation = a.hue = a.grey_probability = 0.0


def images_as_in_0_1(c: ConfigDict) -> None:
    """Read images as version 0.1.0, whose scores we give, did: cropped to squares, copies in groups of their own."""
    c.data.fit = "crop"
    c.data.group_copies = False


def simulated_lenses(c: ConfigDict, images_per_class: int) -> None:
    """Simulated gravitational lenses of 64 px in three classes of dark substructure.

    Substructure has 20 % of the lens mass, far more than in nature, so that a small network learns it in minutes; with
    2 % it stays at chance.
    """
    c.data.name = "lenses"
    c.data.image_size = 64
    c.data.options = ConfigDict({"images_per_class": images_per_class, "substructure": 0.2})


def lens_crops(c: ConfigDict) -> None:
    """Simulated lenses, 2,000 of each class, in small crops: ResNet-18 with 16 channels, 24 epochs in batches of 128.

    Small crops make pretraining look at the arcs: with views of the whole ring it learns the size and place of the
    ring, and a linear probe is then worse than with random weights.
    """
    simulated_lenses(c, images_per_class=2000)
    c.model.name = "resnet18"
    c.model.options.width = 16
    c.pretrain.options.hidden = 512
    c.pretrain.options.projection = 128
    c.pretrain.epochs = 24
    c.pretrain.batch_size = 128
    c.pretrain.augment.crop_area = (0.15, 0.5)
    c.pretrain.augment.rotate90 = True
    c.pretrain.augment.noise = 0.05
    c.transfer.epochs = 6
    c.transfer.augment.rotate90 = True


def quarter_of_lens_crops(c: ConfigDict) -> None:
    """Reduce `lens_crops` to a quarter of the images and four epochs."""
    c.data.options.images_per_class = 500
    c.pretrain.epochs = 4
    c.transfer.epochs = 4


def brain_tumor(c: ConfigDict) -> None:
    """Brain MRI slices at 96 px, convolutional autoencoder, Adam 1e-3, batches of 32, 20 epochs: a student project.

    The project split by slice, which put patients on both sides; here the split is by patient. Its small head on a
    frozen encoder is the linear probe; fine-tuning is added.
    """
    c.data.name = "brain_tumor"
    c.data.image_size = 96
    c.model.name = "autoencoder"
    c.pretrain.epochs = 20
    c.pretrain.batch_size = 32
    c.pretrain.optimizer.name = "adam"
    c.pretrain.optimizer.weight_decay = 0.0
    c.transfer.epochs = 10
    c.transfer.batch_size = 32
    c.transfer.optimizer.name = "adam"
    c.transfer.optimizer.weight_decay = 0.0
    c.transfer.augment.crop_area = (0.6, 1.0)
    c.transfer.augment.flip_horizontal = True


def brain_tumor_on_two_cores(c: ConfigDict) -> None:
    """Reduce `brain_tumor` to two cores: 64 px and half the channels."""
    c.data.image_size = 64
    c.model.options.widths = (16, 32, 64, 64)


def lens_views(c: ConfigDict, dataset: str) -> None:
    """Student projects on gravitational lenses: contrast an image with one transformed version of itself.

    Batches of 64. Unlike there, results are for images that neither pretraining nor the classifier has seen.
    """
    c.data.name = dataset
    c.data.image_size = 150
    c.model.name = "resnet18"
    c.pretrain.objective = "ntxent"
    c.pretrain.options.hidden = 512
    c.pretrain.options.projection = 128
    c.pretrain.batch_size = 64
    c.transfer.epochs = 20
    c.transfer.batch_size = 64
    c.transfer.optimizer.name = "adam"
    c.transfer.optimizer.learning_rate = 1e-4
    c.transfer.augment.rotate90 = True


def lens_views_on_two_cores(c: ConfigDict) -> None:
    """Reduce `lens_views` to two cores: simulated lenses (no download), ResNet-18 with 16 channels, six epochs."""
    simulated_lenses(c, images_per_class=1000)
    c.model.options.width = 16
    c.pretrain.epochs = 6
    c.transfer.epochs = 6
    c.transfer.optimizer.learning_rate = 1e-3


def mae(c: ConfigDict, patch: int) -> None:
    """MAE with a ViT-Ti: AdamW 6e-4, weight decay 0.05, 20 epochs of warm-up (5 in fine-tuning)."""
    c.model.name = "vit_tiny"
    c.model.options.patch = patch
    c.pretrain.objective = "mae"
    c.pretrain.options.mask_ratio = 0.75
    o = c.pretrain.optimizer
    o.learning_rate = 6e-4
    o.weight_decay = 0.05
    o.warmup_epochs = 20
    o = c.transfer.optimizer
    o.learning_rate = 5e-4
    o.weight_decay = 0.05
    o.warmup_epochs = 5


def finetune_mae(c: ConfigDict) -> None:
    """Fine-tune as MAE's code does ViT-B on ImageNet (github.com/facebookresearch/mae, FINETUNE.md; without erasing).

    Its learning rate is 5e-4 for a batch of 256; ViT-L has 1e-3, layer decay .75, drop path .2 and 50 epochs.
    """
    _finetune_vit(c, epochs=100, batch_size=1024, learning_rate=5e-4, weight_decay=0.05)
    c.transfer.optimizer.scale_learning_rate = True
    c.transfer.optimizer.layer_decay = 0.65
    c.transfer.drop_path = 0.1


def finetune_dinov2(c: ConfigDict) -> None:
    """Fine-tune as DINOv2 (arXiv:2304.07193, section 7.1): by the recipe of DeiT III, here that of its ViT-B.

    It is that of github.com/facebookresearch/deit, README_revenge.md; ViT-L has drop path .45.
    """
    _finetune_vit(c, epochs=20, batch_size=512, learning_rate=1e-5, weight_decay=0.1)
    c.transfer.drop_path = 0.2


def _finetune_vit(c: ConfigDict, epochs: int, batch_size: int, learning_rate: float, weight_decay: float) -> None:
    """Fine-tune by AdamW with RandAugment, MixUp, CutMix and label smoothing, and a warm-up of 5 epochs."""
    t = c.transfer
    t.epochs, t.batch_size = epochs, batch_size
    t.optimizer.name = "adamw"
    t.optimizer.learning_rate, t.optimizer.weight_decay = learning_rate, weight_decay
    t.optimizer.warmup_epochs = 5
    t.label_smoothing, t.mixup, t.cutmix = 0.1, 0.8, 1.0
    a = t.augment
    a.crop_area = (0.08, 1.0)
    a.flip_horizontal = True
    a.randaugment_operations, a.randaugment_magnitude = 2, 9.0


def mae_on_two_cores(c: ConfigDict) -> None:
    """Reduce `mae` to two cores: fewer epochs."""
    c.pretrain.epochs = 20
    c.pretrain.optimizer.warmup_epochs = 2
    c.transfer.epochs = 6
    c.transfer.optimizer.warmup_epochs = 1


def cifar(c: ConfigDict) -> None:
    """Comparison with lightly: CIFAR-10 images, a ResNet-18 with 16 channels, four epochs of Adam 1e-3."""
    c.data.name = "folder"
    c.data.dir = "data/cifar10"
    c.data.image_size = 32
    c.model.name = "resnet18"
    c.model.stem = "small"
    c.model.options.width = 16
    c.pretrain.options.hidden = 512
    c.pretrain.options.projection = 128
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
