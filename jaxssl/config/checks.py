"""Validation of a config before any data is read: against the declarations, then what several fields must agree on."""

import logging
from collections.abc import Collection
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxssl.config import fields, schedule
from jaxssl.config.field import PHASES, Field
from jaxssl.errors import UserError, check_range, did_you_mean
from jaxssl.results.words import SEGMENTATION_PROTOCOLS
from jaxssl.training import trackers

log = logging.getLogger(__name__)

# Names under which people know a name that is allowed.
ALIASES = {
    "simclr": "ntxent",
    "simsiam": "byol",
    "infonce": "ntxent",
    "siamese": "pairs",
    "rotnet": "rotation",
    "distillation": "distill",
    "masked_autoencoder": "mae",
    "vit": "vit_small",
    "resnet": "resnet18",
    "ham": "ham10000",
    "linear": "probe",
    "linear_probe": "probe",
    "fine-tune": "finetune",
    "finetuning": "finetune",
    "fine-tuning": "finetune",
    "segmentation": "segment",
    "unet": "segment",
    "bf16": "bfloat16",
}


def check(c: ConfigDict) -> None:
    """Validate a config.

    Raises:
      UserError: at the first value that cannot work. Its `field` is the path of the field.
    """
    for field in fields.FIELDS:
        if not isinstance(field.default, ConfigDict):
            check_field(field, c[field.path])
    for name_path in fields.OPTIONS_OF:
        check_options(c, name_path)
    trackers.import_package(c.logger)
    check_init(c)
    check_split(c)
    for phase in PHASES:
        check_training(phase, c[phase])
    check_rotation(c)
    check_phases(c)


def check_field(field: Field, value: Any) -> None:
    """Check one value against its declaration: type, length, choices, range."""
    check_type(field.path, value, field.default)
    items = value if isinstance(field.default, tuple) else (value,)
    if isinstance(field.default, tuple):
        check_items(field, value)
    for item in items:
        if field.choices is not None:
            check_choice(field.path, item, field.choices)
        elif field.range:
            check_range(field.path, item, field.range, value)
        elif isinstance(item, float):
            check_range(field.path, item, "(-inf, inf)", value)


def check_items(field: Field, value: tuple[Any, ...]) -> None:
    """Check the length and the types of the items of a tuple, and that a pair is (smallest, largest)."""
    low, high = field.lengths
    if not low <= len(value) <= high:
        wanted = f"{low} values" if low == high else f"{low} value or more"
        raise UserError(f"{field.path}={value} must hold {wanted}", code="out-of-range", field=field.path)
    for item in value:
        if field.item is float and (isinstance(item, bool) or not isinstance(item, int | float)):
            raise UserError(f"{field.path}={value}: {item!r} is not a number", code="out-of-range", field=field.path)
        if field.item is int and (isinstance(item, bool) or not isinstance(item, int)):
            raise UserError(f"{field.path}={value}: {item!r} is not an integer", code="out-of-range", field=field.path)
    if field.lengths == (2, 2) and value[0] > value[1]:
        raise UserError(f"{field.path}={value}: give the smaller value first", code="out-of-range", field=field.path)
    if field.distinct and len(set(value)) < len(value):
        raise UserError(f"{field.path}={value} holds a value twice: remove one", code="conflict", field=field.path)


TYPE_NAMES = {bool: "True or False", int: "an integer", float: "a number", str: "a string", tuple: "a tuple"}


def check_type(path: str, value: Any, default: Any) -> None:
    """Check that a value has the type of the default; an integer is a float, too, and None allows any type."""
    wanted = type(default)
    accepted = {float: (int, float), tuple: (tuple, list)}.get(wanted, wanted)
    if wanted not in TYPE_NAMES or (isinstance(value, accepted) and (wanted is bool or not isinstance(value, bool))):
        return
    raise UserError(f"{path}={value!r} must be {TYPE_NAMES[wanted]}", code="out-of-range", field=path)


def check_choice(path: str, value: Any, allowed: Collection[str]) -> None:
    """Check that a value is one of the allowed names."""
    if value not in allowed:
        raise UserError(
            f"{path}={value!r} is unknown: {suggest(str(value), allowed)}valid: {', '.join(map(repr, allowed))}",
            code="unknown-name",
            field=path,
        )


def suggest(name: str, allowed: Collection[str]) -> str:
    """Return "did you mean 'ntxent'? " for "simclr" or "ntxnet", "" if nothing is close."""
    alias = ALIASES.get(name.lower().replace(" ", "_"))
    return f"did you mean '{alias}'? " if alias in allowed else did_you_mean(name, allowed)


def check_options(c: ConfigDict, name_path: str) -> None:
    """Check that the dataset, encoder or objective takes its options, and that they have the type of the default."""
    known, path = fields.options(name_path, c[name_path]), fields.options_path(name_path)
    for option, value in c[path].items():
        if option not in known:
            raise unknown_option(f"{path}.{option}", c[name_path], known)
        check_type(f"{path}.{option}", value, known[option])
        check_numbers(f"{path}.{option}", value, known[option], name_path != "data.name")


def check_numbers(path: str, value: Any, default: Any, of_network: bool) -> None:
    """Check the numbers of an option: finite, not negative if the default is not; integers above 0 if the default is.

    The last is for encoders and objectives, whose integers are sizes and counts. Floats are as many as in the default.
    """
    defaults, items = (one if isinstance(one, tuple | list) else (one,) for one in (default, value))
    if not defaults or any(isinstance(one, bool) or not isinstance(one, int | float) for one in defaults):
        return
    if not items or (isinstance(defaults[0], float) and len(items) != len(defaults)):
        message = f"{path}={value} does not hold the numbers that it needs: give it such as {default}"
        raise UserError(message, code="out-of-range", field=path)
    least = min(0, *defaults) if isinstance(defaults[0], float) or not of_network else min(1, *defaults)
    for item in items:
        check_type(path, item, defaults[0])
        check_range(path, item, f"[{least}, inf)", value)


def unknown_option(path: str, name: str, known: dict[str, Any]) -> UserError:
    """Return the error for an option that a dataset, encoder or objective does not take."""
    section, _, option = path.partition(".options.")
    valid = ", ".join(f"{section}.options.{k}={v!r}" for k, v in known.items()) or "none"
    return UserError(
        f"{path} is not an option of '{name}': {did_you_mean(option, known)}valid (with defaults): {valid}",
        code="unknown-name",
        field=path,
    )


def check_init(c: ConfigDict) -> None:
    if len(c.init.mean) != len(c.init.std):
        raise UserError(
            f"init.mean={c.init.mean} and init.std={c.init.std} differ in length: give both by channel, or neither",
            code="conflict",
            field="init.mean",
        )


def check_split(c: ConfigDict) -> None:
    """Check that validation, test, folds and labels leave images to train on."""
    d = c.data
    if d.validation + d.test >= 1:
        raise UserError(
            f"data.validation={d.validation} and data.test={d.test} leave nothing to train on: reduce one",
            code="conflict",
            field="data.validation",
        )
    if d.folds == 1:
        raise UserError(
            "data.folds=1: set it to 2 or more, or to 0 for one split", code="out-of-range", field="data.folds"
        )
    if d.fold >= max(1, d.folds):
        raise UserError(
            f"data.fold={d.fold} is not below data.folds={d.folds}: folds count from 0",
            code="out-of-range",
            field="data.fold",
        )
    if d.folds and d.validation >= 1 - 1 / d.folds:
        raise UserError(
            f"data.validation={d.validation} leaves nothing of data.folds={d.folds} to train on: reduce it",
            code="conflict",
            field="data.validation",
        )
    if d.labels_per_class and d.label_fraction < 1:
        raise UserError(
            f"data.labels_per_class={d.labels_per_class} and data.label_fraction={d.label_fraction} are both set: "
            "choose one",
            code="conflict",
            field="data.labels_per_class",
        )
    if d.percentiles[0] == d.percentiles[1]:
        raise UserError(
            f"data.percentiles={d.percentiles} are equal: the first becomes 0 and the second 1",
            code="out-of-range",
            field="data.percentiles",
        )
    if c.mesh.data < 1 and c.mesh.data != -1:
        raise UserError(
            f"mesh.data={c.mesh.data}: set it to 1 or more, or to -1 for all devices",
            code="out-of-range",
            field="mesh.data",
        )


def check_training(phase: str, c: ConfigDict) -> None:
    """Check the batch and the warm-up of one phase."""
    if c.batch_size % c.gradient_accumulation:
        raise UserError(
            f"{phase}.batch_size={c.batch_size} is not divisible by {phase}.gradient_accumulation="
            f"{c.gradient_accumulation}",
            code="conflict",
            field=f"{phase}.gradient_accumulation",
        )
    if 0 < c.epochs <= c.optimizer.warmup_epochs:
        log.warning(
            "%s.optimizer.warmup_epochs=%d takes all of %s.epochs=%d: the learning rate never reaches its peak",
            *(phase, c.optimizer.warmup_epochs, phase, c.epochs),
        )


def check_rotation(c: ConfigDict) -> None:
    """Check that augmentation does not rotate images whose rotation is to be predicted."""
    if c.pretrain.objective != "rotation":
        return
    for name in ("rotate90", "flip_vertical", "rotation"):
        value = c.pretrain.augment[name]
        if value:
            path = f"pretrain.augment.{name}"
            raise UserError(
                f"{path}={value} turns the images whose rotation is predicted: set it to {type(value)(0)}",
                code="conflict",
                field=path,
            )


def check_phases(c: ConfigDict) -> None:
    """Check that there is something to do, and that each phase trains what it says it trains."""
    if c.pretrain.epochs == 0 and not c.transfer.protocols:
        raise UserError(
            "pretrain.epochs=0 and transfer.protocols=() leave nothing to do: set one",
            code="conflict",
            field="pretrain.epochs",
        )
    for phase in schedule.trained_phases(c):
        path = f"{phase}.optimizer.learning_rate"
        if phase == "transfer" and c.transfer.learning_rates:
            path = "transfer.learning_rates"
        if not np.any(c[path]):
            raise UserError(
                f"{path}={c[path]} leaves the network untrained: set it above 0", code="out-of-range", field=path
            )
    if "transfer" not in schedule.trained_phases(c):
        return
    check_masks(c)
    if c.transfer.epochs == 0:
        raise UserError(
            f"transfer.epochs=0 leaves no training for transfer.protocols={tuple(c.transfer.protocols)}: increase it, "
            "or choose 'probe' and 'knn' only",
            code="conflict",
            field="transfer.epochs",
        )
    if c.transfer.freeze_epochs >= c.transfer.epochs:
        raise UserError(
            f"transfer.freeze_epochs={c.transfer.freeze_epochs} keeps the encoder frozen in all of transfer.epochs="
            f"{c.transfer.epochs}: reduce it, or use transfer.protocols=probe",
            code="conflict",
            field="transfer.freeze_epochs",
        )


def check_masks(c: ConfigDict) -> None:
    """Check that no augmentation moves the images without their masks, and that crops can be placed by masks."""
    wanted = [protocol for protocol in c.transfer.protocols if protocol in SEGMENTATION_PROTOCOLS]
    if wanted and c.transfer.augment.randaugment_operations:
        path = "transfer.augment.randaugment_operations"
        raise UserError(
            f"{path}={c.transfer.augment.randaugment_operations} moves the images and not the masks of {wanted[0]!r}: "
            "set it to 0, and rotation and crop_area instead",
            code="conflict",
            field=path,
        )
    for phase in (c.pretrain, c.transfer):
        if phase.augment.crop_lesions and (phase is c.pretrain or tuple(phase.augment.crop_area) == (1.0, 1.0)):
            path = f"{'pretrain' if phase is c.pretrain else 'transfer'}.augment.crop_lesions"
            raise UserError(
                f"{path}={phase.augment.crop_lesions} places crops by masks: set it to 0 in pretraining, which has no "
                "masks, and in transfer set crop_area, such as (0.1, 0.5)",
                code="conflict",
                field=path,
            )
