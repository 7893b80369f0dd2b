"""Preparation of an experiment: load and split the images, make encoder and objective, check that they fit together."""

import logging
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from jaxssl import data, objectives
from jaxssl.augment import views
from jaxssl.config import checks, fields, schedule
from jaxssl.data import splits
from jaxssl.data.copies import group_copies
from jaxssl.data.source import UNLABELLED, Source
from jaxssl.errors import UserError, did_you_mean
from jaxssl.evaluation import tasks
from jaxssl.inference import trained
from jaxssl.objectives import Objective, supervised
from jaxssl.results.words import SEGMENTATION_PROTOCOLS
from jaxssl.run import adaptation, leakage
from jaxssl.run.initial import load_initial
from jaxssl.run.plan import count_transferred, fit_batches, fit_image_size, list_protocols
from jaxssl.run.precision import choose_precision
from jaxssl.run.setup import Setup, every_nth, init_names, mask_rows, transfer_rows
from jaxssl.run.teacher import load_teacher
from jaxssl.run.workdir import check_config
from jaxssl.training import distributed, sharding
from jaxssl.weights import hub, imagenet
from jaxssl.weights.families import find_scaling
from jaxssl.weights.provenance import PACKAGED

Tree = Any
log = logging.getLogger(__name__)
# The scaling of the stored values is estimated from at most so many images, and so many values (200 MB).
MAX_MEASURED_IMAGES = 2000
MAX_MEASURED_VALUES = 25_000_000


def prepare(config: ConfigDict, workdir: Path) -> Setup:
    """Load the data, split it, and make the networks. Writes nothing into the workdir.

    Raises:
      UserError: the config is invalid, does not fit the images, or is another one than that of the workdir.
    """
    checks.check(config)
    config = config.copy_and_resolve_references()
    fields.fill_options(config)
    check_config(config, workdir)
    config, chosen = choose_precision(config, workdir)
    mesh = sharding.make_mesh(config.mesh.data, config.mesh.fsdp)
    for phase in schedule.trained_phases(config):
        sharding.check_batch_size(f"{phase}.batch_size", config[phase].batch_size, mesh)
    encoder = make_encoder(config)
    adaptation.check(config, encoder)
    config, resized = fit_image_size(config, encoder.smallest_image)  # pyright: ignore
    # What the objective refuses of encoder and options is reported before an image is read.
    reads_labels = bool(config.pretrain.epochs) and make_objective(config, encoder, classes=0, steps=1).supervised
    check_inits(config, reads_labels)
    source = load_source(config)
    divided = labels_or_masks(source, config)
    rows = split(divided, config)
    labelled = choose_labelled(divided, rows["train"], config)
    pixels = measure_pixels(source, rows["train"], config.data.percentiles, config.data.asinh)
    pixels = pixels_of_weights(config, pixels, source.channels)
    initial = load_initial(config, encoder, source.channels)
    variables = jax.device_put(initial.variables, sharding.replicated(mesh)) if initial else None

    @jax.jit
    def encode(variables: Tree, batch: dict) -> jax.Array:
        image = views.eval_transform(batch["image"], pixels, config.data.image_size)
        return encoder.apply(variables, image, train=False)["pooled"]  # pyright: ignore

    objective, seen = None, labelled
    if config.pretrain.epochs:
        seen = choose_pretraining_rows(source, rows["train"], labelled, config, reads_labels)
    counts = {"pretrain": len(seen), "transfer": count_transferred(source, labelled, config)}
    config, requested = fit_batches(config, {p: counts[p] for p in schedule.trained_phases(config)}, mesh.size)
    requested = chosen | resized | requested
    if config.pretrain.epochs:
        steps = config.pretrain.epochs * schedule.steps_per_epoch(len(seen), config.pretrain, "pretrain")
        objective = make_objective(config, encoder, max(1, len(source.classes)), steps, pixels)
    networks = (objective, pixels, encoder, variables, encode)
    setup = Setup(
        config, workdir, mesh, source, rows, labelled, seen, *networks, requested, initial and initial.description
    )
    check_against_data(setup)
    return setup


# Networks.


def make_encoder(config: ConfigDict) -> nn.Module:
    """Return the encoder. UserError if its options or the size of the images do not fit it."""
    encoder = trained.encoder_of(config.to_dict())
    if config.data.image_size < encoder.smallest_image:
        raise UserError(
            f"data.image_size={config.data.image_size} is below {encoder.smallest_image}, the smallest that "
            f"{config.model.name} takes: increase it, or set model.stem='small' (ResNet, EfficientNet) or a smaller "
            "model.options.patch (ViT)",
            code="out-of-range",
            field="data.image_size",
        )
    return encoder


def make_objective(
    config: ConfigDict, encoder: nn.Module, classes: int, steps: int, pixels: views.Pixels | None = None
) -> Objective:
    """Return the objective of the pretraining on images of this scaling, which may be unknown before they are read."""
    c = config.pretrain
    has_teacher = objectives.has_teacher(c.objective)
    teacher = load_teacher(c.options, config.data.image_size, pixels) if has_teacher else None
    context = {"classes": classes, "steps": steps, "teacher": teacher}
    objective = objectives.make(c.objective, encoder, context, dict(c.options))
    check_negatives(config.pretrain, objective)
    return objective


def check_negatives(c: ConfigDict, objective: objectives.Objective) -> None:
    """Raise UserError if a part of a batch of pretraining holds too few images for the objective.

    Log how many it holds, if gradient accumulation leaves the objective fewer negatives.
    """
    images = c.batch_size // c.gradient_accumulation
    if images < objective.min_images:
        given = f"pretrain.batch_size={c.batch_size} and pretrain.gradient_accumulation={c.gradient_accumulation}"
        raise UserError(
            f"{given} leave parts of {images} image, and the negatives of {c.objective} are the other images of its "
            "part: raise the first or lower the second",
            code="too-few",
            field="pretrain.batch_size" if c.gradient_accumulation == 1 else "pretrain.gradient_accumulation",
        )
    if objective.min_images > 1 and c.gradient_accumulation > 1:
        log.warning(
            "pretrain.gradient_accumulation=%d: %s contrasts each image with the %d others of its part, not with the "
            "%d others of the batch",
            *(c.gradient_accumulation, c.objective, images - 1, c.batch_size - 1),
        )


def make_classifier(
    config: ConfigDict,
    encoder: nn.Module,
    classes: int,
    frozen: bool = False,
    **options: Any,
) -> Objective:
    """Return the objective of the fine-tuning; `frozen`: of its head alone. `options` are of `supervised.make`."""
    c = config.transfer
    return supervised.make(
        encoder,
        classes=classes,
        frozen=frozen,
        batch_norm=c.batch_norm,
        hidden=tuple(c.head),
        drop_path=c.drop_path,
        label_smoothing=c.label_smoothing,
        mixup=c.mixup,
        cutmix=c.cutmix,
        **options,
    )


def check_inits(config: ConfigDict, reads_labels: bool) -> None:
    """Raise UserError if `transfer.inits` asks for an initialization that this run does not have."""
    names = init_names(config, reads_labels)
    for name in config.transfer.inits:
        if name not in names:
            raise UserError(
                f"transfer.inits={config.transfer.inits}: this run has no {name!r}, but {', '.join(names)}",
                code="unknown-name",
                field="transfer.inits",
            )


# Images.


def load_source(config: ConfigDict) -> Source:
    """Load the images; with several processes, process 0 first, so that the others find its caches."""
    d = config.data
    source = distributed.main_first(
        lambda: data.load(
            d.name,
            seed=config.seed,
            dir=d.dir,
            manual_dir=d.manual_dir,
            cache_dir=d.cache_dir,
            size=d.stored_size or d.image_size,
            on_bad_file=d.on_bad_file,
            nan=d.nan,
            fit=d.fit,
            task=d.task,
            options=dict(d.options),
            memory_mib=d.memory_mib,
        )
    )
    return group_copies(source, _given_split(source, d)) if d.group_copies else source


def _given_split(source: Source, d: ConfigDict) -> np.ndarray | None:
    """Return the split or the folds of the dataset if they are kept."""
    if d.folds:
        return source.folds if source.folds is not None and len(np.unique(source.folds)) == d.folds else None
    return source.official if d.use_official_split else None


def split(source: Source, config: ConfigDict) -> dict[str, np.ndarray]:
    """Return the rows of the source by split."""
    d = config.data
    if d.folds:
        return splits.cross_validation(source, seed=config.seed, folds=d.folds, fold=d.fold, validation=d.validation)
    return splits.split(source, seed=config.seed, validation=d.validation, test=d.test, official=d.use_official_split)


def labels_or_masks(source: Source, config: ConfigDict) -> Source:
    """Return the source by which images are divided: where masks alone are asked for, an image with one is labelled.

    Splits are stratified by the labels as far as there are any.
    """
    asked = {*config.transfer.protocols}
    if source.masked is None or (source.classes and not asked <= {*SEGMENTATION_PROTOCOLS}):
        return source
    known = source.labels if source.task in ("single", "ordinal") else np.full(len(source.ids), UNLABELLED)
    labels = np.where(source.masked, np.maximum(known, 0), UNLABELLED).astype(np.int32)
    return source._replace(labels=labels, classes=source.classes or ("image",), task="single")


def choose_labelled(source: Source, train: np.ndarray, config: ConfigDict) -> np.ndarray:
    """Return the rows of the training split whose labels may be used."""
    d = config.data
    if d.labels_per_class:
        return splits.labels_per_class(source, train, d.labels_per_class, seed=config.seed)
    return splits.label_fraction(source, train, d.label_fraction, seed=config.seed)


def choose_pretraining_rows(
    source: Source, train: np.ndarray, labelled: np.ndarray, config: ConfigDict, reads_labels: bool
) -> np.ndarray:
    """Return the rows that pretraining sees; an objective that reads labels sees those whose labels may be used."""
    if reads_labels:
        if not source.classes:
            raise UserError(
                f"pretrain.objective={config.pretrain.objective!r} reads labels here, and the images have none",
                code="missing",
                field="pretrain.objective",
            )
        check_reads_labels(source, f"pretrain.objective={config.pretrain.objective!r}", "pretrain.objective")
        return labelled
    known = source.known[train]
    return train[known] if config.pretrain.on == "train" and known.any() else train


def measure_pixels(source: Source, train: np.ndarray, percentiles: tuple[float, float], asinh: float) -> views.Pixels:
    """Estimate the scaling of the stored values from a sample of the training images."""
    count = max(1, MAX_MEASURED_VALUES // math.prod(source.images.shape[1:]))
    images = source.images[every_nth(train, min(MAX_MEASURED_IMAGES, count))]
    if images.min() == images.max():
        raise UserError(
            f"all values of the training images are {images.min()}: check data.dir and how the files were written",
            code="damaged",
            field="data.dir",
        )
    low, high = (0.0, 255.0) if images.dtype == np.uint8 else map(float, np.percentile(images, percentiles))
    if low == high:  # A few bright pixels on a constant background.
        low, high = float(images.min()), float(images.max())
    unit = (images.reshape(-1, source.channels).astype(np.float64) - low) / (high - low)
    if asinh:
        unit = np.arcsinh(asinh * unit) / math.asinh(asinh)
    mean, std = unit.mean(0), np.maximum(unit.std(0), 1e-3)
    return views.Pixels(low, high, tuple(mean.tolist()), tuple(std.tolist()), asinh)


def pixels_of_weights(config: ConfigDict, pixels: views.Pixels, channels: int) -> views.Pixels:
    """Replace mean and standard deviation by those of the images that `init.weights` were trained on, if known."""
    mean, std = tuple(config.init.mean), tuple(config.init.std)
    if not mean and config.init.weights == PACKAGED:
        mean, std = imagenet.PIXELS.mean, imagenet.PIXELS.std
    elif not mean and config.init.weights and config.init.name:
        family = find_scaling(config.init.name, pixels)
        mean, std = (family.mean, family.std) if family else ((), ())
    if len(mean) not in (0, 1, channels):
        raise UserError(
            f"init.mean={mean} has {len(mean)} numbers: give one for each of the {channels} channels, or one for all",
            code="mismatch",
            field="init.mean",
        )
    return pixels._replace(mean=mean, std=std) if mean else pixels


def check_against_data(setup: Setup) -> None:
    """Raise UserError if the config asks for more than the images have, or a network has seen test images."""
    c, source = setup.config, setup.source
    check_masks(setup)
    if not c.pretrain.epochs and not list_protocols(setup):
        raise UserError(
            "pretrain.epochs=0 and the images have no labels: there is nothing to do",
            code="conflict",
            field="pretrain.epochs",
        )
    if c.pretrain.epochs and len(setup.splits["train"]) < 2:
        raise UserError("there is one training image: pretraining needs at least two", code="too-few", field="data.dir")
    if not {*list_protocols(setup)} <= {*SEGMENTATION_PROTOCOLS}:
        for name, rows in transfer_rows(setup).items():
            if not len(rows):
                had = f"label, and {source.known.sum()} of all", "label more images"
                raise lacking(setup, name, *had, "set transfer.protocols=() to skip the evaluation")
        check_task(setup)
        check_classes(setup)
    if count := count_transferred(source, setup.labelled, c):
        schedule.steps_per_epoch(count, c.transfer, "transfer")
    if c.init.weights and c.init.weights != PACKAGED:
        leakage.check_weights(setup, hub.find_file(c.init.weights), "init.weights")
    if c.pretrain.epochs and "teacher" in c.pretrain.options:
        leakage.check_teacher(setup, hub.find_file(c.pretrain.options.teacher))


def check_masks(setup: Setup) -> None:
    """Raise UserError if a protocol needs masks and a split has none."""
    asked = [name for name in setup.config.transfer.protocols if name in SEGMENTATION_PROTOCOLS]
    if not asked:
        return
    masked = setup.source.masked
    if masked is None:
        raise UserError(
            f"transfer.protocols has {asked[0]!r}, and the images come without masks: set data.options.masks, see "
            "docs/segmentation.md, or remove it",
            code="missing",
            field="transfer.protocols",
        )
    for name, rows in mask_rows(setup).items():
        if not len(rows):
            had = f"mask, and {masked.sum()} of all", "check data.options.masks, or draw more"
            raise lacking(setup, name, *had, f"remove {asked[0]!r} from transfer.protocols")


def lacking(setup: Setup, side: str, what: str, remedy: str, otherwise: str) -> UserError:
    """Return the error for a side of the split of which no image has what is evaluated."""
    if _given_split(setup.source, setup.config.data) is not None:
        remedy = "set data.use_official_split=False to split those"
    message = f"no image of the {side} split has a {what}: {remedy}, or {otherwise}"
    return UserError(message, code="missing", field="data.use_official_split")


def check_reads_labels(source: Source, what: str, field: str) -> None:
    """Raise UserError if images do not have one class each, which `what` needs."""
    if source.task in ("multi", "value"):
        raise UserError(
            f"{what} reads one class of each image, and the labels are of the task {source.task!r}: choose another",
            code="conflict",
            field=field,
        )


def check_task(setup: Setup) -> None:
    """Raise UserError if the transfer asks for what the task of the labels does not have."""
    c, source = setup.config.transfer, setup.source
    tasks.selection_metric(tasks.TASKS[source.task], c.select)
    if source.task != "value":
        return
    for name in ("class_weights", "label_smoothing"):
        if c[name] not in ("none", 0):
            raise UserError(
                f"transfer.{name}={c[name]!r} is for classes, and the labels are values: leave it at its default",
                code="conflict",
                field=f"transfer.{name}",
            )
    if len(np.unique(source.labels[setup.labelled])) < 2:
        raise UserError(
            f"all training images have the same {source.classes[0]}: there is nothing to predict",
            code="too-few",
            field="data.dir",
        )


def check_classes(setup: Setup) -> None:
    """Raise UserError if a class has test images and no training image: no network could ever name it."""
    source, rows = setup.source, transfer_rows(setup)
    if source.task in ("multi", "value"):  # A label that train lacks is a caution of the report.
        return
    trained_on = set(source.labels[rows["train"]].tolist())
    tested = np.bincount(source.labels[rows["test"]], minlength=len(source.classes))
    for c in np.flatnonzero(tested):
        if int(c) in trained_on:
            continue
        name, others = source.classes[c], [source.classes[k] for k in sorted(trained_on)]
        same = [other for other in others if other.casefold().strip() == name.casefold().strip()]
        hint = f"did you mean {same[0]!r}? " if same else did_you_mean(name, others)
        raise UserError(
            f"class {name!r} has {tested[c]} test images and no training image whose label may be used: {hint}correct "
            "the labels or the split, give it training images, or leave it out",
            code="missing",
            field="data.label_fraction" if setup.config.data.label_fraction < 1 else "data.dir",
        )
