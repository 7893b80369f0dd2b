"""All config fields: path, default, meaning, allowed values and role, each declared once in `FIELDS`.

`base()` builds the default config from the declarations, `jaxssl.config.checks` validates a config against them, and
whoever needs a group of fields (those that may differ between machines, say) asks for a role.
"""

import math
from typing import Any

from ml_collections import ConfigDict

from jaxssl import data, models, objectives
from jaxssl.config.field import Field, Role
from jaxssl.config.training_fields import training_fields
from jaxssl.data.io import loading, resize
from jaxssl.data.source import TASKS
from jaxssl.evaluation import tasks
from jaxssl.results import words
from jaxssl.training import trackers

PROTOCOLS = ("probe", "knn", "finetune")


FIELDS: tuple[Field, ...] = (
    Field(
        "seed",
        0,
        "Seed of the split, the weights, the order of the images and the augmentation.",
        "repeat",
        range=f"[0, {2**32})",
    ),
    Field("logger", "", "Service that receives the metrics too, if its package is installed.", "place", trackers.NAMES),
    Field(
        "on_collapse", "warn", "What to do when pretraining collapses; 'stop': exit code 3.", "record", ("warn", "stop")
    ),
    Field(
        "deterministic",
        False,
        "Whether GPUs, too, give the same bytes in each run; slower. CPUs always do.",
    ),
    # Data.
    Field("data.name", "folder", "Dataset; `jaxssl data list` lists them.", choices=tuple(data.names())),
    Field("data.dir", "", "Folder of 'folder', archive of 'npz'.", "place"),
    Field("data.manual_dir", "", "Folder of the downloaded files of a public dataset.", "place"),
    Field("data.cache_dir", "~/.cache/jaxssl/data", "Folder for prepared datasets and cached images.", "place"),
    Field(
        "data.memory_mib",
        1024,
        "MiB of images from files to hold in memory; larger datasets are read from cache_dir.",
        "place",
        range="[0, inf)",
    ),
    Field("data.workers", 0, "Processes that read images from cache_dir; 0: threads.", "place", range="[0, inf)"),
    Field("data.image_size", 64, "Side in pixels of the encoder's input.", range="[1, 10000]"),
    Field(
        "data.stored_size",
        0,
        "Side in pixels at which images are held and from which they are cropped; 0: image_size.",
        range="[0, 10000]",
    ),
    Field(
        "data.enlarge",
        True,
        "Whether images of 'folder' that are smaller than image_size are enlarged to it; False: it becomes their "
        "median side.",
    ),
    Field("data.use_official_split", True, "Whether to keep the dataset's own split, if it has one."),
    Field(
        "data.validation",
        0.1,
        "Share of the groups for validation, where there is no official validation split.",
        range="(0, 0.9]",
    ),
    Field("data.test", 0.2, "Share of the groups for the test split.", range="(0, 0.9]"),
    Field(
        "data.label_fraction",
        1.0,
        "Share of the training groups whose labels the transfer may use.",
        "repeat",
        range="(0, 1]",
    ),
    Field(
        "data.labels_per_class",
        0,
        "Labelled images per class, instead of label_fraction; 0: label_fraction holds.",
        "repeat",
        range="[0, inf)",
    ),
    Field(
        "data.validation_labels",
        "all",
        "Labels that choose epochs, rates and the probe's C: 'all' of the validation images, or 'few', those of the "
        "training images alone, by cross-validation; fine-tuning then takes its last epoch.",
        choices=("all", "few"),
    ),
    Field("data.folds", 0, "Folds of a cross-validation; 0: one split.", range="[0, inf)"),
    Field("data.fold", 0, "Fold that is the test split, from 0; each fold is a run.", "repeat", range="[0, inf)"),
    Field("data.on_bad_file", "stop", "What to do when a file cannot be read.", choices=loading.ON_BAD_FILE),
    Field(
        "data.percentiles",
        (0.1, 99.9),
        "Percentiles of 16-bit and float values that become 0 and 1; 8-bit images keep 0 and 255.",
        range="[0, 100]",
        lengths=(2, 2),
    ),
    Field(
        "data.asinh",
        0.0,
        "Strength a of the stretch asinh(a x) / asinh(a), which brightens faint structure; 0: linear.",
        range="[0, inf)",
    ),
    Field("data.nan", "refuse", "What to do with values that are not finite.", choices=loading.NAN),
    Field(
        "data.fit",
        "pad",
        "How images that are not square are fitted: pad to a square, crop its centre, or squash.",
        choices=resize.FITS,
        before="crop",
    ),
    Field(
        "data.group_copies",
        True,
        "Whether images that are exact copies count as one group of the split.",
        before=False,
    ),
    Field(
        "data.task",
        "auto",
        "What labels are: one class an image ('single'), any number of labels ('multi'), one of ordered classes "
        "('ordinal'), or a number ('value'); 'auto': 'multi' where several label columns or a separator are given, or "
        "an archive has several labels an image, else 'single'.",
        choices=("auto", *TASKS),
    ),
    Field("data.options", ConfigDict(), "Options of the dataset."),
    # Encoder.
    Field("model.name", "resnet18", "Encoder.", choices=tuple(models.available())),
    Field("model.stem", "imagenet", "First layers; 'small' for images below 64 pixels.", choices=("imagenet", "small")),
    Field(
        "model.dtype",
        "auto",
        "Precision: 'float32'; 'mixed', with bfloat16 operands of products; 'bfloat16', with such activations, too. "
        "'auto': 'bfloat16' on accelerators, 'mixed' for ViTs of width 192 or more on CPUs with AMX or AVX-512 BF16, "
        "'float32' for others. Parameters, statistics, losses and the optimizer are always float32.",
        choices=("auto", "float32", "mixed", "bfloat16"),
        before="float32",
    ),
    Field("model.options", ConfigDict(), "Options of the encoder."),
    Field(
        "init.weights",
        "",
        "Initial weights: '' for random, 'imagenet' for those of efficientnet_lite0, a .safetensors, .pth or .pt file, "
        "the workdir of a finished run, or 'hf:owner/name@revision' for a file of the Hugging Face hub.",
        "method",
    ),
    Field("init.name", "", "What tables call these weights; '': the name in the file, else its stem.", "method"),
    Field("init.prefix", "", "Prefix of the names of the tensors to use; '' if the file holds one network.", "method"),
    Field(
        "init.mean",
        (),
        "Mean by channel of the images in [0, 1] on which the weights were trained; (): that of the family that "
        "init.name is of, such as 'dinov2', else that of these images.",
        "method",
    ),
    Field("init.std", (), "Standard deviation, likewise.", "method", range="(0, inf)"),
    # Pretraining.
    *training_fields("pretrain", epochs=100, batch_size=256),
    Field(
        "pretrain.objective",
        "byol",
        "Pretraining objective.",
        "method",
        tuple(name for name in objectives.available() if name != "supervised"),
    ),
    Field("pretrain.options", ConfigDict(), "Options of the objective.", "method"),
    Field(
        "pretrain.on",
        "train",
        "Images to pretrain on: 'train+unlabelled' adds those without a label; never validation or test images.",
        choices=("train", "train+unlabelled"),
    ),
    # Evaluation of the encoder.
    *training_fields("transfer", epochs=50, batch_size=128),
    Field(
        "transfer.protocols",
        PROTOCOLS,
        "Evaluation protocols; 'attentive' is a probe that reads tokens or map by cross-attention, 'segment_linear' "
        "and 'segment' need images with masks.",
        "record",
        tuple(words.PROTOCOL_NAMES),
        item=str,
        distinct=True,
    ),
    Field(
        "transfer.inits",
        (),
        "Initialisations to evaluate; (): all that the run has.",
        "record",
        item=str,
        distinct=True,
    ),
    Field(
        "transfer.shots",
        (),
        "Labels per class of few-shot episodes on frozen features, such as (1, 5); (): no episodes.",
        "record",
        range="[1, inf)",
        item=int,
        distinct=True,
    ),
    Field("transfer.episodes", 600, "Draws of these labels.", "record", range="[2, inf)"),
    Field(
        "transfer.learning_rates",
        (),
        "Learning rates of which the best on validation is kept; (): only optimizer.learning_rate.",
        range="[0, inf)",
        distinct=True,
    ),
    Field("transfer.freeze_epochs", 0, "Epochs that train the head alone, at the start.", range="[0, inf)"),
    Field(
        "transfer.patience",
        0,
        "Epochs without a better validation score after which fine-tuning ends; 0: it never ends early.",
        range="[0, inf)",
    ),
    Field(
        "transfer.ema",
        0.0,
        "Decay of a moving average of the weights, which is evaluated instead of the last ones; 0: off.",
        range="[0, 1)",
    ),
    Field(
        "transfer.drop_path",
        0.0,
        "Rate of stochastic depth in fine-tuning, at the last block; for ViT and ConvNeXt.",
        range="[0, 1)",
    ),
    Field(
        "transfer.head",
        (),
        "Widths of the hidden layers of the head in fine-tuning; (): linear.",
        range="[1, inf)",
        item=int,
    ),
    Field(
        "transfer.probe_features",
        ("pooled",),
        "Features of the linear probe, of several the best on validation: what the encoder pools, the mean over its "
        "tokens or map, the class token, or both.",
        "method",
        ("pooled", "mean", "cls", "cls+mean"),
        item=str,
        lengths=(1, math.inf),
        distinct=True,
    ),
    Field(
        "transfer.batch_norm",
        "train",
        "Batch statistics in fine-tuning; 'frozen' keeps those of the encoder.",
        choices=("train", "frozen"),
    ),
    Field(
        "transfer.class_weights",
        "none",
        "Weights of the classes in the losses of probe and fine-tuning; 'balanced': inverse to their frequency.",
        "method",
        ("none", "balanced"),
    ),
    Field(
        "transfer.sampling",
        "uniform",
        "How fine-tuning draws images; 'balanced': all classes equally often, of several labels, or in segmentation of "
        "the classes in its mask, by the rarest that an image has; images without any are one more class.",
        "method",
        ("uniform", "balanced"),
    ),
    Field("transfer.label_smoothing", 0.0, "Share of the target spread over all classes.", range="[0, 1)"),
    Field("transfer.mixup", 0.0, "Alpha of MixUp's Beta distribution; 0: off.", range="[0, inf)"),
    Field("transfer.cutmix", 0.0, "Alpha of CutMix's Beta distribution; 0: off.", range="[0, inf)"),
    Field(
        "transfer.select",
        "auto",
        "Validation score that selects the epoch and the probe's C; 'auto': that of the task, which is 'auc_macro', or "
        "'r2' for values.",
        choices=("auto", *tasks.SELECTABLE),
    ),
    Field(
        "transfer.specificity",
        0.9,
        "Specificity at which sensitivity is reported; its threshold is chosen on validation.",
        "record",
        range="(0, 1]",
    ),
    # Checkpoints.
    Field(
        "checkpoints.keep",
        2,
        "Checkpoints of a phase that are kept while it runs: older ones replace damaged ones.",
        "record",
        range="[1, inf)",
    ),
    Field(
        "checkpoints.optimizer_state",
        False,
        "Whether finished phases keep the state of the optimizer, and checkpoints before the last one.",
        "record",
    ),
    # Devices.
    Field("mesh.data", -1, "Devices along which the batch is split; -1: all that fsdp leaves.", "place"),
    Field("mesh.fsdp", 1, "Devices along which large parameters are split.", "place", range="[1, inf)"),
)
BY_PATH = {field.path: field for field in FIELDS}


def base() -> ConfigDict:
    """Return the default config, from which every file of `configs/` starts."""
    c = ConfigDict()
    for field in FIELDS:
        section = c
        *sections, name = field.path.split(".")
        for part in sections:
            if part not in section:
                section[part] = ConfigDict()
            section = section[part]
        section[name] = ConfigDict() if isinstance(field.default, ConfigDict) else field.default
    return c


def find(path: str) -> Field:
    """Return the declaration of a field; for an option ("pretrain.options.ema"), that of its set of options.

    Raises:
      KeyError: no field has this path.
    """
    section, found, _ = path.partition(".options.")
    return BY_PATH[f"{section}.options" if found else path]


def has_role(path: str, *roles: Role) -> bool:
    """Return whether a field has one of these roles; False for fields that this version does not have."""
    try:
        return find(path).role in roles
    except KeyError:
        return False


def with_role(*roles: Role) -> set[str]:
    """Return the paths of all fields with one of these roles."""
    return {field.path for field in FIELDS if field.role in roles}


PRETRAINING_LENGTH = ("pretrain.epochs", "pretrain.images_per_epoch", "pretrain.min_steps_per_epoch")


def changes_pretraining(path: str) -> bool:
    """Return whether the pretrained encoder depends on a field, for objectives that do not read labels."""
    labels = ("data.label_fraction", "data.labels_per_class", "data.validation_labels")
    return not path.startswith("transfer.") and path not in labels


# Options, which depend on the name of a dataset, encoder or objective.

OPTIONS_OF = {"data.name": data, "model.name": models, "pretrain.objective": objectives}
"""Field that holds a name -> the room whose `options(name)` gives {option: default}."""


def options_path(name_path: str) -> str:
    """Return "pretrain.options" for "pretrain.objective"."""
    return f"{name_path.partition('.')[0]}.options"


def options(name_path: str, name: str) -> dict[str, Any]:
    """Return {option: default} of a dataset, encoder or objective, such as `options("model.name", "resnet18")`."""
    return OPTIONS_OF[name_path].options(name)


def fill_options(c: ConfigDict) -> None:
    """Add the defaults of the options that a config does not set; unknown names are left to `checks.check`."""
    for name_path in OPTIONS_OF:
        if c[name_path] in (find(name_path).choices or ()):
            section = c[options_path(name_path)]
            with section.unlocked():
                for option, default in options(name_path, c[name_path]).items():
                    if option not in section:
                        section[option] = default
