"""A finished pretraining in another run: reused with other settings of the transfer, or gone on with."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from jaxssl import files
from jaxssl.config import checks, fields
from jaxssl.config.stored import config_to_json, read_config
from jaxssl.errors import UserError
from jaxssl.results import workdir as results
from jaxssl.run.setup import Setup
from jaxssl.run.workdir import as_requested, describe_split
from jaxssl.training import metrics

ENCODER = Path("checkpoints") / "encoder"
REMEDY = "give the workdir of a finished run"


def go_on(config: ConfigDict, donor: Path) -> ConfigDict:
    """Return a config that pretrains from the encoder of `donor` if it asks for another length, else the same config.

    Raises:
      UserError: the config is invalid, or `donor` is not the workdir of a run.
    """
    checks.check(config)
    longer = config.copy_and_resolve_references()
    fields.fill_options(longer)
    difference = dict(_differences(config_to_json(longer), donor))
    if not difference or not difference.keys() <= {*fields.PRETRAINING_LENGTH}:
        return config
    logging.warning("--from=%s: %s: its encoder is pretrained further", donor, "; ".join(difference.values()))
    longer.init.weights = str(donor)
    return longer


def reuse_pretraining(setup: Setup, donor: Path) -> None:
    """Copy the pretrained encoder of another run, which `check` has passed, into a workdir that has none yet."""
    if not (setup.workdir / ENCODER).is_dir():
        copy_encoder(donor, setup.workdir)


def check(setup: Setup, donor: Path) -> None:
    """Raise UserError if the pretraining of `donor` is another than this run would do, unless it was taken over before.

    Before anything is written: a run that is refused leaves no workdir with its config.
    """
    if (setup.workdir / ENCODER).is_dir():
        return
    difference = dict(_differences(config_to_json(setup.config), donor, setup.requested))
    if difference:
        raise UserError(
            f"--from={donor}: it was pretrained with other settings: {'; '.join(difference.values())}. To train its "
            f"encoder further, set --config.init.weights={donor} instead",
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


def _differences(
    config: dict[str, Any], donor: Path, requested: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, str]]:
    """Yield (path, "path is A there and B here") for each field that changes the pretraining."""
    stored = dict(files.flatten(as_requested(read_config(donor, REMEDY))))
    wanted = dict(files.flatten(config)) | dict(requested or {})
    for path in sorted(stored.keys() | wanted.keys()):
        there, here = stored.get(path), wanted.get(path)
        if fields.changes_pretraining(path) and not fields.has_role(path, "place", "record") and there != here:
            yield path, f"{path} is {there!r} there and {here!r} here"


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
