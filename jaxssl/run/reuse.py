"""Reuse of a finished pretraining by another run, with other settings of the transfer."""

import json
import shutil
from pathlib import Path

from jaxssl import files
from jaxssl.config.fields import changes_pretraining, has_role
from jaxssl.config.stored import config_to_json, read_config
from jaxssl.errors import UserError
from jaxssl.results import workdir as results
from jaxssl.run.setup import Setup
from jaxssl.run.workdir import as_requested, describe_split
from jaxssl.training import metrics

ENCODER = Path("checkpoints") / "encoder"
REMEDY = "give the workdir of a finished run"


def reuse_pretraining(setup: Setup, donor: Path) -> None:
    """Copy the pretrained encoder of another run into a workdir that has none yet.

    Raises:
      UserError: the other run was pretrained with other settings or on other images, or read labels.
    """
    if (setup.workdir / ENCODER).is_dir():
        return
    check(setup, donor)
    copy_encoder(donor, setup.workdir)


def check(setup: Setup, donor: Path) -> None:
    """Raise UserError unless the pretraining of `donor` is the one that this run would do."""
    stored = dict(files.flatten(as_requested(read_config(donor, REMEDY))))
    wanted = dict(files.flatten(config_to_json(setup.config))) | dict(setup.requested)
    difference = [
        f"{path} is {stored.get(path)!r} there and {wanted.get(path)!r} here"
        for path in sorted(stored.keys() | wanted.keys())
        if changes_pretraining(path) and not has_role(path, "place", "record") and stored.get(path) != wanted.get(path)
    ]
    if difference:
        raise UserError(
            f"--from={donor}: it was pretrained with other settings: {'; '.join(difference)}. To train its encoder "
            f"further, set --config.init.weights={donor} instead",
            code="conflict",
            field="--from",
        )
    theirs, split = results.read_splits(donor, REMEDY), describe_split(setup)
    if {name: theirs.get(name) for name in split} != split:
        raise UserError(
            f"--from={donor}: its images, or their split, are others than here: pretrain again",
            code="mismatch",
            field="--from",
        )
    pretraining = results.read_results(donor)["pretrain"]
    if not pretraining or pretraining["supervised"] or not (donor / ENCODER).is_dir():
        raise UserError(
            f"--from={donor}: it has no encoder that was pretrained without labels: {REMEDY}",
            code="missing",
            field="--from",
        )


def copy_encoder(donor: Path, workdir: Path) -> None:
    """Copy the checkpoint of a pretrained encoder, and the rows of its pretraining in metrics.jsonl."""
    rows = metrics.read(donor, "pretrain")
    files.write_text(workdir / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    part = workdir / ".encoder.part"
    shutil.rmtree(part, ignore_errors=True)
    shutil.rmtree(workdir / ENCODER, ignore_errors=True)
    shutil.copytree(donor / ENCODER, part)
    (workdir / ENCODER).parent.mkdir(exist_ok=True)
    part.rename(workdir / ENCODER)
