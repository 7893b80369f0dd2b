"""Before the first phase: data loaded, split and scaled, the config held against them, the workdir claimed."""

import functools
import json
import logging
import math
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxssl import data, files, objectives
from jaxssl.augment import views
from jaxssl.config import checks, fields, schedule
from jaxssl.data import splits
from jaxssl.data.audit import audit
from jaxssl.data.source import UNLABELLED, Source
from jaxssl.errors import UserError
from jaxssl.inference import trained
from jaxssl.objectives import Objective
from jaxssl.training import distributed, sharding
from jaxssl.weights import weights

Tree = Any
log = logging.getLogger(__name__)
MEASURED = 2000  # Images from which the scaling of the stored values is found, at most,
MEASURED_VALUES = 25_000_000  # and so many values of them, which take 200 MB.
PACKAGES = ("jaxssl", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-learn")


class Setup(NamedTuple):
    """What every phase of one experiment shares."""

    config: ConfigDict
    workdir: Path
    mesh: Mesh
    source: Source
    splits: dict[str, np.ndarray]  # Rows of the source by split.
    labelled: np.ndarray  # Rows of the training split whose labels may be used.
    seen: np.ndarray  # Rows that pretraining sees.
    pretext: Objective | None  # Of the pretraining.
    pixels: views.Pixels
    encoder: nn.Module
    given: Tree | None  # Weights of `init.weights` to start from instead of random ones.
    encode: Callable[[Tree, dict], jax.Array]  # (variables, batch) -> pooled features.


def prepare(config: ConfigDict, workdir: Path) -> Setup:
    """Loads the data, splits it, and makes sure that the config fits them; writes nothing."""
    checks.check(config)
    refuse_other_config(config, workdir)
    mesh = sharding.make_mesh(config.mesh.data, config.mesh.fsdp)
    encoder = make_encoder(config)
    for phase in schedule.trained_phases(config):
        sharding.check_batch(f"{phase}.batch_size", config[phase].batch_size, mesh)
    supervised = False
    if config.pretrain.epochs:
        # What the objective refuses of encoder and options is said before an image is read.
        supervised = make_objective(config, encoder, classes=0, steps=1).supervised
    check_inits(config, supervised)
    d = config.data
    load = functools.partial(
        data.load,
        d.name,
        seed=config.seed,
        dir=d.dir,
        manual_dir=d.manual_dir,
        cache_dir=d.cache_dir,
        size=d.stored_size or d.image_size,
        on_bad_file=d.on_bad_file,
        nan=d.nan,
        options=dict(d.options),
        memory_mib=d.memory_mib,
    )
    source = distributed.main_first(load)
    rows = split(source, config)
    if d.labels_per_class:
        labelled = splits.labels_per_class(source, rows["train"], d.labels_per_class, seed=config.seed)
    else:
        labelled = splits.label_fraction(source, rows["train"], d.label_fraction, seed=config.seed)
    pixels = measure_pixels(source, rows["train"], d.percentiles, d.asinh)
    pixels = as_trained(config, pixels, source.channels)
    given = None
    if config.init.weights:
        given = jax.device_put(weights.load(config.init.weights, encoder, source.channels), sharding.replicated(mesh))

    @jax.jit
    def encode(variables: Tree, batch: dict) -> jax.Array:
        image = views.plain(batch["image"], pixels, d.image_size)
        return encoder.apply(variables, image, train=False)["pooled"]

    pretext, seen = (
        make_pretext(config, encoder, source, rows, labelled, supervised)
        if config.pretrain.epochs
        else (None, labelled)
    )
    setup = Setup(config, workdir, mesh, source, rows, labelled, seen, pretext, pixels, encoder, given, encode)
    check_against_data(setup)
    return setup


def split(source: Source, config: ConfigDict) -> dict[str, np.ndarray]:
    """Rows of the source by split."""
    d = config.data
    if d.folds:
        return splits.cross_validation(source, seed=config.seed, folds=d.folds, fold=d.fold, validation=d.validation)
    return splits.split(source, seed=config.seed, validation=d.validation, test=d.test, official=d.use_official_split)


def make_encoder(config: ConfigDict) -> nn.Module:
    m = config.model
    try:
        encoder = trained.encoder_of(config)
    except (TypeError, ValueError) as error:
        raise UserError(f"model.options={dict(m.options)} does not fit {m.name}: {error}") from error
    if config.data.image_size < encoder.smallest_image:
        raise UserError(
            f"data.image_size={config.data.image_size} is below the reach of {m.name}, {encoder.smallest_image}: "
            f"enlarge it, or lessen the reach by model.stem='small' (ResNet, EfficientNet) or model.options.patch (ViT)"
        )
    return encoder


def make_objective(config: ConfigDict, encoder: nn.Module, classes: int, steps: int) -> Objective:
    c = config.pretrain
    return objectives.load(c.objective)(encoder, classes=classes, steps=steps, **c.options)


def make_classifier(config: ConfigDict, encoder: nn.Module, classes: int, frozen: bool = False) -> Objective:
    """The objective of the fine-tuning; `frozen`: of its head alone."""
    c = config.transfer
    return objectives.load("supervised")(
        encoder,
        classes=classes,
        steps=0,  # It asks for none.
        frozen=frozen,
        batch_norm=c.batch_norm,
        label_smoothing=c.label_smoothing,
        mixup=c.mixup,
        cutmix=c.cutmix,
    )


def inits(config: ConfigDict, supervised: bool) -> list[str]:
    """The initialisations that this run has, those of its own pretraining first."""
    start = ["imagenet"] if config.init.weights else []
    own = ["+".join([*start, "supervised" if supervised else "ssl"])] if config.pretrain.epochs else []
    return [*own, *start, "random"]


def check_inits(config: ConfigDict, supervised: bool) -> None:
    """UserError where one is asked for that this run does not have."""
    has = inits(config, supervised)
    for init in config.transfer.inits:
        if init not in has:
            raise UserError(f"transfer.inits={config.transfer.inits}: this run has no {init!r}, but {', '.join(has)}")


def make_pretext(
    config: ConfigDict,
    encoder: nn.Module,
    source: Source,
    rows: dict[str, np.ndarray],
    labelled: np.ndarray,
    supervised: bool,
) -> tuple[Objective, np.ndarray]:
    """The objective of the pretraining and the rows that it sees; of labels it reads no more than transfer may use."""
    c = config.pretrain
    seen, known = rows["train"], source.labels[rows["train"]] != UNLABELLED
    if supervised:
        if not source.classes:
            raise UserError(f"pretrain.objective={c.objective!r} reads labels here, and the images have none")
        seen = labelled
    elif c.on == "train" and known.any():
        seen = seen[known]
    steps = c.epochs * schedule.steps_per_epoch(len(seen), c, "pretrain")
    return make_objective(config, encoder, max(1, len(source.classes)), steps), seen


def check_against_data(setup: Setup) -> None:
    """UserError where the config asks for more than the data have, or given weights know what is to be tested."""
    c, source = setup.config, setup.source
    if not c.pretrain.epochs and not source.classes:
        raise UserError("pretrain.epochs=0 on images without labels leaves nothing to do")
    if c.pretrain.epochs and len(setup.splits["train"]) < 2:
        raise UserError("there is one image to train on: pretraining needs two at least, to tell whether they differ")
    if source.classes and c.transfer.protocols:
        for side, rows in (setup.splits | {"train": setup.labelled}).items():
            if not len(rows):
                raise UserError(
                    f"no image of the {side} split has a label: data.use_official_split=False splits those that have one, and "
                    "transfer.protocols=() leaves the evaluation out"
                )
    if source.classes and "transfer" in schedule.trained_phases(c):
        schedule.steps_per_epoch(len(setup.labelled), c.transfer, "transfer")
    if c.init.weights:
        refuse_weights_that_know_the_test(setup)
    if "teacher" in c.pretrain.options and c.pretrain.epochs:
        refuse_teacher_of_others(setup, Path(c.pretrain.options.teacher).expanduser())


def refuse_weights_that_know_the_test(setup: Setup) -> None:
    """UserError where another run exported these weights that has seen images that are tested on here.

    Where a folder is another one, its images may be others of the same names: then it is said, no more.
    """
    notes = weights.notes(Path(setup.config.init.weights).expanduser())
    known = {*notes.get("known", "").split()}
    seen = [i for i in setup.source.ids[setup.splits["test"]].tolist() if weights.short(i) in known]
    if not seen:
        return
    mine = weights.origin(setup.config.data, described_split(setup))
    field = f"init.weights={setup.config.init.weights!r}"
    mend = "export them from a run with the seed and the data.* of this one"
    if notes["data"] == mine["data"] or (notes["place"] and notes["place"] == mine["place"]):
        raise UserError(
            f"{field} were trained on these images with another split and have seen {len(seen)} of those to be tested "
            f"on here, such as {seen[0]}: {mend}"
        )
    log.warning(
        "%s were trained on images of which %d are called as images to be tested on here, such as %s: if they are the "
        "same ones, %s",
        *(field, len(seen), seen[0], mend),
    )


def refuse_teacher_of_others(setup: Setup, teacher: Path) -> None:
    """UserError where a teacher tells other classes, or one of this dataset has seen images that this run tests on."""
    results, theirs = (json.loads((teacher / name).read_text()) for name in ("results.json", "splits.json"))
    taught, mine = results["dataset"]["classes"], list(setup.source.classes)
    if setup.config.pretrain.options.get("on") == "logits" and taught != mine:
        raise UserError(
            f"pretrain.options.teacher={str(teacher)!r} tells the classes {', '.join(taught)}, and these images have "
            f"{', '.join(mine)}: take a teacher of the same, in the same order, or pretrain.options.on='features'"
        )
    if results["dataset"]["name"] != setup.config.data.name:
        return
    known = {*theirs["train"], *theirs["validation"]}
    seen = known & {*setup.source.ids[setup.splits["test"]].tolist()}
    if seen:
        raise UserError(
            f"pretrain.options.teacher={str(teacher)!r} has seen {len(seen)} of the test images, such as {min(seen)}: "
            "train the teacher with the seed and the data.* of this run"
        )


def refuse_other_config(config: ConfigDict, workdir: Path) -> None:
    """UserError where the workdir belongs to another config; changes nothing."""
    file = workdir / "config.json"
    if not file.exists():
        return
    try:
        theirs = json.loads(file.read_text())["config"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not of a jaxssl run; take another --workdir") from error
    difference = list(differences(theirs, plain(config)))
    if difference:
        raise UserError(f"{workdir} belongs to another config: {'; '.join(difference)}; take another --workdir")


def plain(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON has it."""
    return json.loads(json.dumps(files.nan_to_null(config.to_dict())))


def differences(theirs: dict, mine: dict, path: str = "") -> Iterator[str]:
    """Fields in which two configs differ, but for devices and folders: a run may go on elsewhere."""
    for key in sorted(theirs.keys() | mine.keys()):
        name, a, b = f"{path}{key}", theirs.get(key), mine.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from differences(a, b, f"{name}.")
        elif a != b and not fields.has_role(name, "place"):
            yield f"{name} is {a!r} there and {b!r} here"


def provenance() -> dict[str, Any]:
    """Command, package versions, git revision and devices."""
    return {
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "versions": {name: version(name) for name in PACKAGES},
        "git": git_revision(),
        "devices": [str(device) for device in jax.devices()],
    }


def described_split(setup: Setup) -> dict[str, Any]:
    """The content of splits.json."""
    source = setup.source
    ids = {name: source.ids[rows].tolist() for name, rows in setup.splits.items()}
    return ids | {"groups_known": source.groups_known, "fingerprint": source.fingerprint}


def claim(setup: Setup) -> None:
    """Writes config.json and splits.json. UserError where an earlier start of this run saw other images."""
    source, workdir, split = setup.source, setup.workdir, described_split(setup)
    file = workdir / "splits.json"
    if file.exists() and json.loads(file.read_text()) != split:
        raise UserError(f"{file}: the images or the split changed since this run began; take another --workdir")
    if not file.exists():
        pixels = setup.pixels._asdict()
        stored = {"pixels": pixels, "dtype": str(source.images.dtype)}
        files.write_json(workdir / "config.json", {"config": plain(setup.config), **stored, **provenance()})
        files.write_json(file, split)


def audit_images(setup: Setup) -> dict[str, Any]:
    """The cheap part of the audit, of audit.json; at the first start it is made, and its findings are said."""
    file = setup.workdir / "audit.json"
    if not file.exists():
        report = audit.source(setup.source, setup.splits)
        files.write_json(file, report)
        for line in report["findings"]:
            log.warning("images: %s", line)
    return json.loads(file.read_text())


def git_revision() -> str | None:
    """Of this code, with "-dirty" where it was changed since; None where git or its history is missing."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        ended = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return ended.stdout.strip() or None


def every_nth(rows: np.ndarray, most: int) -> np.ndarray:
    """Up to `most` rows, evenly spaced: the rows of one class often stand together."""
    return rows[:: -(-len(rows) // most)]


def measure_pixels(source: Source, train: np.ndarray, percentiles: tuple[float, float], asinh: float) -> views.Pixels:
    """Scaling of the stored values, from a sample of the training images."""
    most = MEASURED_VALUES // math.prod(source.images.shape[1:])
    images = source.images[every_nth(train, min(MEASURED, max(most, 1)))]
    if images.min() == images.max():
        raise UserError(f"the training images all hold one value, {images.min()}: nothing can be learnt from them")
    low, high = (0.0, 255.0) if images.dtype == np.uint8 else map(float, np.percentile(images, percentiles))
    if low == high:  # A few points on an even ground.
        low, high = float(images.min()), float(images.max())
    unit = (images.reshape(-1, source.channels).astype(np.float64) - low) / (high - low)
    if asinh:
        unit = np.arcsinh(asinh * unit) / math.asinh(asinh)
    mean, std = unit.mean(0), np.maximum(unit.std(0), 1e-3)
    return views.Pixels(low, high, tuple(mean.tolist()), tuple(std.tolist()), asinh)


def as_trained(config: ConfigDict, pixels: views.Pixels, channels: int) -> views.Pixels:
    """The same with mean and deviation of the images that weights were trained on, where these are known."""
    mean, std = tuple(config.init.mean), tuple(config.init.std)
    if not mean and config.init.weights == "imagenet":
        mean, std = weights.IMAGENET_PIXELS.mean, weights.IMAGENET_PIXELS.std
    if len(mean) not in (0, 1, channels):
        raise UserError(f"init.mean={mean} is not one number for each of {channels} channels, nor one for all")
    return pixels._replace(mean=mean, std=std) if mean else pixels


def describe_dataset(setup: Setup) -> dict[str, Any]:
    source, report = setup.source, audit_images(setup)
    return {
        "name": setup.config.data.name,
        "classes": list(source.classes),
        "splits": {
            name: {"images": len(rows), "groups": len(np.unique(source.groups[rows]))}
            for name, rows in setup.splits.items()
        },
        "groups_known": source.groups_known,
        "fingerprint": source.fingerprint,
        "test_images_copied_in_train": report["exact"]["leaked"]["test"],
        "findings": report["findings"],
    }
