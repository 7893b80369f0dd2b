"""Checks that initial weights and teachers have not seen the images that this run tests on."""

import logging
from pathlib import Path

from jaxssl.config.stored import read_config
from jaxssl.errors import UserError
from jaxssl.results import workdir as results
from jaxssl.run.setup import Setup
from jaxssl.run.workdir import describe_split
from jaxssl.weights.provenance import describe_origin, read_notes, short_hash

log = logging.getLogger(__name__)


def read_origin(weights: Path) -> dict[str, str]:
    """Return what is known of the images that a file, a workdir or a checkpoint was trained on; {} if nothing is."""
    if not weights.is_dir():
        return read_notes(weights)
    workdir = find_workdir(weights)
    if workdir is None:
        return {}
    config, splits = read_config(workdir)["config"], results.read_splits(workdir)
    return describe_origin(config["data"], splits)


def find_workdir(folder: Path) -> Path | None:
    """Return the workdir that a folder is, or lies in as a checkpoint; None if it is of no run."""
    folders = (folder, *folder.absolute().parents[:3])
    return next((f for f in folders if (f / "config.json").is_file() and (f / "splits.json").is_file()), None)


def check_weights(setup: Setup, weights: Path, field: str) -> None:
    """Raise UserError if weights come from a run on the same images that trained on test images of this run.

    If the folder of the images is another one, equal image ids may be coincidence: then a warning is logged.

    Args:
      setup: of this run.
      weights: a file, or the workdir of a run.
      field: of the config that names it.
    """
    notes = read_origin(weights)
    known = {*notes.get("known", "").split()}
    seen = [i for i in setup.source.ids[setup.splits["test"]].tolist() if short_hash(i) in known]
    if not seen:
        return
    origin = describe_origin(setup.config.data, describe_split(setup))
    name = f"{field}={str(weights)!r}"
    remedy = "export them from a run with the same seed and data.*"
    if notes["data"] == origin["data"] or (notes["place"] and notes["place"] == origin["place"]):
        raise UserError(
            f"{name}: a run with another split of these images trained them, on {len(seen)} of the test images of this "
            f"run, such as {seen[0]}: {remedy}",
            code="leakage",
            field=field,
        )
    log.warning(
        "%s: the run that trained them used images with the ids of %d test images of this run, such as %s: if they are "
        "the same images, %s",
        *(name, len(seen), seen[0], remedy),
    )


def check_teacher(setup: Setup, teacher: Path) -> None:
    """Raise UserError if the teacher has other classes, or trained on test images of this run."""
    if not teacher.is_dir():
        return check_weights(setup, teacher, "pretrain.options.teacher")
    dataset, split = results.read_results(teacher)["dataset"], results.read_splits(teacher)
    field, classes = "pretrain.options.teacher", list(setup.source.classes)
    if setup.config.pretrain.options.get("on") == "logits" and dataset["classes"] != classes:
        raise UserError(
            f"{field}={str(teacher)!r} has the classes {', '.join(dataset['classes'])}, these images have "
            f"{', '.join(classes)}: choose a teacher with the same classes in the same order, or set "
            "pretrain.options.on='features'",
            code="mismatch",
            field=field,
        )
    task = dataset.get("task", "single")
    if setup.config.pretrain.options.get("on") == "logits" and task in ("multi", "value"):
        raise UserError(
            f"{field}={str(teacher)!r} is of the task {task!r}, and pretrain.options.on='logits' needs one class an "
            "image: set it to 'features'",
            code="conflict",
            field=field,
        )
    if dataset["name"] != setup.config.data.name:
        return
    seen = {*split["train"], *split["validation"]} & {*setup.source.ids[setup.splits["test"]].tolist()}
    if seen:
        raise UserError(
            f"{field}={str(teacher)!r} trained on {len(seen)} of the test images of this run, such as {min(seen)}: "
            "train the teacher with the seed and the data.* of this run",
            code="leakage",
            field=field,
        )
