"""Every default, what each field means, what values it may have, and the arithmetic of epochs and steps."""

import inspect
import logging
import math
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from jaxssl import files, models, objectives
from jaxssl.augment import views
from jaxssl.data.io import images
from jaxssl.errors import UserError, did_you_mean
from jaxssl.evaluation import scores
from jaxssl.training import optimizers, trackers

log = logging.getLogger(__name__)

NAMES = ("transfer.protocols", "transfer.inits")  # Fields that hold names and no numbers.
PROTOCOLS = ("probe", "knn", "finetune")
INITS = ("random", "imagenet", "ssl", "supervised", "imagenet+ssl", "imagenet+supervised")


def base() -> ConfigDict:
    """The configuration that every file of `configs/` starts from."""
    c = ConfigDict()
    c.seed = 0  # Of the split, the weights, the order of the images and the augmentation.
    c.logger = ""  # "wandb" or "mlflow": metrics go there, too, where the package is installed.
    c.on_collapse = "warn"  # "warn" or "stop" (exit code 3) when pretraining collapses.

    c.data = ConfigDict()
    c.data.name = "folder"  # "folder", "npz", "lenses", or a dataset of jaxssl/data/builders.
    c.data.dir = ""  # The folder of "folder", the archive of "npz".
    c.data.manual_dir = ""  # Where the download of a dataset lies.
    c.data.cache_dir = "~/.cache/jaxssl/data"  # Where prepared datasets are kept, and images beyond `memory_mib`.
    c.data.memory_mib = 1024  # MiB up to which the images of files are held in memory; more are read from cache_dir.
    c.data.workers = 0  # Processes that read those; 0: threads.
    c.data.image_size = 64  # Side in pixels of what the encoder sees.
    c.data.stored_size = 0  # Side at which images are held and cropped from; 0: image_size.
    c.data.use_official_split = True  # Whether a dataset's own split is kept, where it has one.
    c.data.validation = 0.1  # Share of the groups to choose C, epoch and the like on; where there is no official one.
    c.data.test = 0.2  # Share of the groups that is looked at once.
    c.data.label_fraction = 1.0  # Share of the training groups whose labels the transfer may use.
    c.data.labels_per_class = 0  # Or so many images of each class; 0: the share holds.
    c.data.folds = 0  # Parts of a cross-validation, of which one is the test split; 0: one split.
    c.data.fold = 0  # Which part, from 0 on; each is a run of its own, from fresh weights.
    c.data.on_bad_file = "stop"  # "stop" or "skip" when a file cannot be read.
    c.data.percentiles = (0.1, 99.9)  # Of 16-bit and float values: these become 0 and 1; 8 bits keep 0 and 255.
    c.data.asinh = 0.0  # Then x becomes asinh(a x) / asinh(a) with this a, which lifts what is faint; 0: linear.
    c.data.nan = "refuse"  # "refuse", "zero" or "median" for values that are not finite.
    c.data.options = ConfigDict()  # What this dataset takes besides.

    c.model = ConfigDict()
    c.model.name = "resnet18"  # An encoder of jaxssl/models.
    c.model.stem = "imagenet"  # "imagenet" or "small", for images under 64 px.
    c.model.dtype = "float32"  # Or "bfloat16": of the computation, on accelerators.
    c.model.options = ConfigDict()  # What this encoder takes besides.

    c.init = ConfigDict()
    c.init.weights = ""  # "": random; "imagenet": those of efficientnet_lite0; or a .safetensors or .pth file.
    c.init.mean = ()  # Of images in [0, 1] by channel, on which a file's weights were trained; (): of these images.
    c.init.std = ()  # Likewise.

    c.pretrain = training(epochs=100, batch_size=256)
    c.pretrain.objective = "byol"  # An objective of jaxssl/objectives.
    c.pretrain.options = ConfigDict()  # What this objective takes besides.
    c.pretrain.on = "train"  # Or "train+unlabelled": also those without a label. Never those of validation and test.

    c.transfer = training(epochs=50, batch_size=128)
    c.transfer.protocols = PROTOCOLS  # Any of "probe", "knn", "finetune".
    c.transfer.inits = ()  # Of "ssl", "random", "imagenet", "imagenet+ssl", ...: what is evaluated; (): all there are.
    c.transfer.learning_rates = ()  # Each is tried, and the best on validation kept; (): optimizer.learning_rate alone.
    c.transfer.freeze_epochs = 0  # So long the head is trained alone.
    c.transfer.batch_norm = "train"  # "train", or "frozen": statistics stay those of the encoder.
    c.transfer.label_smoothing = 0.0  # Share of the target that goes to all classes alike.
    c.transfer.mixup = 0.0  # Alpha of the Beta distribution by which two images are blended; 0: none are.
    c.transfer.cutmix = 0.0  # Alpha of that by which a part of one image is put into another; 0: none is.
    c.transfer.select = "auc_macro"  # What chooses C and the epoch on validation; any of evaluate/scores.py but "ece".
    c.transfer.specificity = 0.9  # At which the sensitivity is given; its threshold is chosen on validation.

    c.mesh = ConfigDict()
    c.mesh.data = -1  # Devices along which the batch is split; -1: all that fsdp leaves.
    c.mesh.fsdp = 1  # Devices among which large parameters are split.
    return c


def training(epochs: int, batch_size: int) -> ConfigDict:
    """What pretraining and fine-tuning have in common."""
    c = ConfigDict()
    c.epochs = epochs  # 0: left out.
    c.batch_size = batch_size  # Images a step, over all devices.
    c.images_per_epoch = 0  # So many of them, others in each epoch; 0: all.
    c.min_steps_per_epoch = (
        0  # Steps that an epoch has at least; where there are fewer images, they come several times in it.
    )
    c.gradient_accumulation = 1  # Parts in which a batch passes, to save memory.
    c.save_every = 0  # Steps between checkpoints within an epoch; 0: at its end alone.
    c.log_every = 1  # Steps between rows of metrics.jsonl; the first and the last of an epoch have one anyway.
    c.optimizer = ConfigDict()
    c.optimizer.name = "adamw"  # "sgd", "adam", "adamw" or "lars".
    c.optimizer.learning_rate = 1e-3  # The highest.
    c.optimizer.scale_learning_rate = False  # Whether it is that of a batch of 256, and scaled to this one.
    c.optimizer.warmup_epochs = 0  # Of linear growth.
    c.optimizer.decay = "cosine"  # Or "constant".
    c.optimizer.weight_decay = 1e-4  # Of kernels and matrices; biases and norms have none.
    c.optimizer.momentum = 0.9  # Of "sgd" and "lars".
    # Options of jaxssl.augment.views.make, where each is explained; the defaults change nothing.
    c.augment = ConfigDict(defaults(views.make, ("size", "views")))
    return c


def defaults(make: Callable, given: tuple[str, ...] = ()) -> dict[str, Any]:
    """Keyword options of a function and their defaults, but for those that are `given` to it anyway."""
    parameters = inspect.signature(make).parameters.values()
    return {p.name: p.default for p in parameters if p.kind == p.KEYWORD_ONLY and p.name not in given}


def trainings(c: ConfigDict) -> list[str]:
    """Which of "pretrain" and "transfer" train anything."""
    return ["pretrain"] * bool(c.pretrain.epochs) + ["transfer"] * ("finetune" in c.transfer.protocols)


def check(c: ConfigDict) -> None:
    """UserError at the first value that cannot work, before any data is read."""
    if not 0 <= c.seed < 2**32:
        raise UserError(f"seed={c.seed} lies outside [0, 2**32), within which no two are the same")
    for field, value in files.flatten(c.to_dict()):
        if isinstance(value, tuple) and ".options." not in field and field not in NAMES:
            for number in value:
                if not isinstance(number, int | float):
                    raise UserError(f"{field}={value}: {number!r} is no number")
    check_choice("model.name", c.model.name, models.available())
    check_choice("model.stem", c.model.stem, ("imagenet", "small"))
    check_choice("model.dtype", c.model.dtype, ("float32", "bfloat16"))
    if len(c.init.mean) != len(c.init.std) or any(not std > 0 for std in c.init.std):
        raise UserError(
            f"init.mean={c.init.mean} and init.std={c.init.std}: give both by channel, std above 0, or neither"
        )
    check_choice("data.on_bad_file", c.data.on_bad_file, images.ON_BAD_FILE)
    check_choice("data.nan", c.data.nan, images.NAN)
    check_choice("logger", c.logger, trackers.NAMES)
    trackers.package(c.logger)
    check_choice("on_collapse", c.on_collapse, ("warn", "stop"))
    check_choice("pretrain.on", c.pretrain.on, ("train", "train+unlabelled"))
    check_choice("pretrain.objective", c.pretrain.objective, [o for o in objectives.available() if o != "supervised"])
    check_choice("transfer.batch_norm", c.transfer.batch_norm, ("train", "frozen"))
    check_choice("transfer.select", c.transfer.select, scores.SELECTABLE)
    for field, allowed in (("protocols", PROTOCOLS), ("inits", INITS)):
        for name in c.transfer[field]:
            check_choice(f"transfer.{field}", name, allowed)
    for field in ("protocols", "inits", "learning_rates"):
        if len(set(c.transfer[field])) < len(c.transfer[field]):
            raise UserError(f"transfer.{field}={c.transfer[field]} names one twice")
    for rate in c.transfer.learning_rates:
        check_minimum("transfer.learning_rates", rate, 0)
    check_range("transfer.specificity", c.transfer.specificity, 0, 1)
    check_minimum("transfer.mixup", c.transfer.mixup, 0)
    check_minimum("transfer.cutmix", c.transfer.cutmix, 0)
    if not 0 <= c.transfer.label_smoothing < 1:
        raise UserError(f"transfer.label_smoothing={c.transfer.label_smoothing} lies outside [0, 1)")
    check_range("data.label_fraction", c.data.label_fraction, 0, 1)
    check_range("data.validation", c.data.validation, 0, 0.9)
    check_range("data.test", c.data.test, 0, 0.9)
    if c.data.validation + c.data.test >= 1:
        raise UserError(f"data.validation={c.data.validation} and data.test={c.data.test} leave nothing to train on")
    if c.data.folds < 0 or c.data.folds == 1:
        raise UserError(f"data.folds={c.data.folds}: it takes 2 or more parts, and 0 for one split")
    if not 0 <= c.data.fold < max(1, c.data.folds):
        raise UserError(f"data.fold={c.data.fold} is none of data.folds={c.data.folds}: they count from 0")
    if c.data.folds and c.data.validation >= 1 - 1 / c.data.folds:
        raise UserError(f"data.validation={c.data.validation} leaves nothing of data.folds={c.data.folds} to train on")
    check_minimum("data.labels_per_class", c.data.labels_per_class, 0)
    if c.data.labels_per_class and c.data.label_fraction < 1:
        raise UserError("data.labels_per_class and data.label_fraction are both set: choose one")
    low, high = c.data.percentiles if len(c.data.percentiles) == 2 else (0, 0)
    if not 0 <= low < high <= 100:
        raise UserError(f"data.percentiles={c.data.percentiles}: give two numbers from 0 to 100, the lower first")
    check_minimum("data.asinh", c.data.asinh, 0)
    check_minimum("data.memory_mib", c.data.memory_mib, 0)
    check_minimum("data.workers", c.data.workers, 0)
    check_minimum("data.image_size", c.data.image_size, 1)
    check_minimum("data.stored_size", c.data.stored_size, 0)
    check_minimum("transfer.freeze_epochs", c.transfer.freeze_epochs, 0)
    check_minimum("mesh.fsdp", c.mesh.fsdp, 1)
    known_options(
        "pretrain.options", c.pretrain.options, defaults(objectives.load(c.pretrain.objective), ("classes", "steps"))
    )
    for name in ("pretrain", "transfer"):
        check_training(name, c[name])
    turns = [field for field in ("rotate90", "flip_vertical", "rotation") if c.pretrain.augment[field]]
    if c.pretrain.objective == "rotation" and turns:
        value = c.pretrain.augment[turns[0]]
        raise UserError(
            f"pretrain.augment.{turns[0]}={value} turns the images whose rotation is to be told; "
            f"set it to {type(value)(0)}"
        )
    if c.pretrain.epochs == 0 and not c.transfer.protocols:
        raise UserError("pretrain.epochs=0 and transfer.protocols=() leave nothing to do")
    for phase in trainings(c):
        tried = c.transfer.learning_rates if phase == "transfer" else ()
        if not any(tried or (c[phase].optimizer.learning_rate,)):
            raise UserError(f"{phase}.optimizer.learning_rate=0 leaves the network untrained: set it above 0")
    if c.transfer.epochs == 0 and "finetune" in c.transfer.protocols:
        raise UserError("transfer.epochs=0 leaves nothing of the fine-tuning; take it out of transfer.protocols")


def check_training(name: str, c: ConfigDict) -> None:
    check_choice(f"{name}.optimizer.name", c.optimizer.name, optimizers.OPTIMIZERS)
    check_choice(f"{name}.optimizer.decay", c.optimizer.decay, ("cosine", "constant"))
    least_of = {
        "epochs": 0,
        "batch_size": 1,
        "images_per_epoch": 0,
        "min_steps_per_epoch": 0,
        "gradient_accumulation": 1,
        "save_every": 0,
        "log_every": 1,
    }
    for field, least in least_of.items():
        check_minimum(f"{name}.{field}", c[field], least)
    check_minimum(f"{name}.optimizer.learning_rate", c.optimizer.learning_rate, 0)
    check_minimum(f"{name}.optimizer.weight_decay", c.optimizer.weight_decay, 0)
    if c.batch_size % c.gradient_accumulation:
        raise UserError(
            f"{name}.batch_size={c.batch_size} does not divide into {name}.gradient_accumulation={c.gradient_accumulation} parts"
        )
    if not 0 <= c.optimizer.momentum < 1:
        raise UserError(f"{name}.optimizer.momentum={c.optimizer.momentum} lies outside [0, 1)")
    check_minimum(f"{name}.optimizer.warmup_epochs", c.optimizer.warmup_epochs, 0)
    if 0 < c.epochs <= c.optimizer.warmup_epochs:
        log.warning(
            "%s.optimizer.warmup_epochs=%d takes all of %s.epochs=%d: the learning rate never reaches its peak",
            *(name, c.optimizer.warmup_epochs, name, c.epochs),
        )
    for field, most in (("crop_area", 1.0), ("crop_ratio", math.inf), ("blur_sigma", math.inf)):
        value = c.augment[field]
        if len(value) != 2 or not 0 < value[0] <= value[1] <= most:
            raise UserError(f"{name}.augment.{field}={value} should be two numbers in (0, {most}], the smaller first")
    for field, most in (("rotation", 180.0), ("randaugment_operations", math.inf), ("randaugment_magnitude", 10.0)):
        if not 0 <= c.augment[field] <= most:
            raise UserError(f"{name}.augment.{field}={c.augment[field]} lies outside [0, {most:g}]")
    for field, value in c.augment.items():
        probabilities = value if isinstance(value, tuple) else (value,)
        if field.endswith("probability") and not (probabilities and all(0 <= p <= 1 for p in probabilities)):
            raise UserError(f"{name}.augment.{field}={value}: a probability lies in [0, 1]")


def check_choice(field: str, value: str, allowed: Any) -> None:
    if value not in allowed:
        raise UserError(
            f"{field}={value!r} is not known: {did_you_mean(str(value), allowed)}It takes {', '.join(map(repr, allowed))}"
        )


def check_range(field: str, value: float, low: float, high: float) -> None:
    """UserError unless low < value <= high."""
    if not low < value <= high:
        raise UserError(f"{field}={value} lies outside ({low}, {high}]")


def check_minimum(field: str, value: float, least: float) -> None:
    if not value >= least or math.isinf(value):
        raise UserError(f"{field}={value} is too small: it is {least} or more")


def known_options(field: str, given: ConfigDict, known: dict[str, Any]) -> None:
    """UserError at an option that a function does not take."""
    for name in given:
        if name not in known:
            takes = ", ".join(f"{field}.{k} ({v})" for k, v in known.items()) or "none"
            raise UserError(f"{field}.{name} is not an option here; there are: {takes}")


def steps_per_epoch(images: int, c: ConfigDict, name: str) -> int:
    """Whole batches in one epoch of the training called `name`; UserError where not even one can be filled."""
    seen = min(images, c.images_per_epoch or images)
    if c.min_steps_per_epoch:
        return max(seen // c.batch_size, c.min_steps_per_epoch)
    if c.batch_size > seen:
        raise UserError(f"{name}.batch_size={c.batch_size} is larger than the {seen} images to train on")
    return seen // c.batch_size


def optimizer_options(c: ConfigDict, epochs: int, steps_per_epoch: int, batch_size: int) -> dict[str, Any]:
    """The arguments of `optim.make`, in steps."""
    scale = batch_size / 256 if c.scale_learning_rate else 1.0
    return {
        "name": c.name,
        "learning_rate": c.learning_rate * scale,
        "steps": epochs * steps_per_epoch,
        "warmup_steps": c.warmup_epochs * steps_per_epoch,
        "decay": c.decay,
        "weight_decay": c.weight_decay,
        "momentum": c.momentum,
    }
