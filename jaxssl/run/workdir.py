"""The workdir of a run: its lock, and config.json, splits.json and audit.json, which the first start writes."""

import contextlib
import json
import logging
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxssl import files
from jaxssl.config.fields import with_role
from jaxssl.data.audit.report import audit_source
from jaxssl.errors import UserError
from jaxssl.results import schema
from jaxssl.results import workdir as results
from jaxssl.run.setup import Setup

log = logging.getLogger(__name__)
PACKAGES = ("jaxssl", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-learn")
OTHER_WORKDIR = "choose another --workdir"


@contextlib.contextmanager
def open_workdir(workdir: Path) -> Iterator[None]:
    """Create the workdir and lock it. UserError if it cannot be written or another process uses it."""
    with files.lock(workdir / f".lock{jax.process_index()}", "--workdir"), files.disk_errors(workdir):
        yield


def check_config(config: ConfigDict, workdir: Path) -> None:
    """Raise UserError if the workdir belongs to a run with another config. Changes nothing."""
    file = workdir / "config.json"
    if not file.exists():
        return
    stored = as_requested(results.read_config(workdir, OTHER_WORKDIR))
    if difference := list(differences(stored, config_to_json(config))):
        raise UserError(
            f"{workdir} belongs to another config: {'; '.join(difference)}; {OTHER_WORKDIR}",
            code="conflict",
            field="--workdir",
        )


def as_requested(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config in a config.json with the values that were requested, before `plan.fit_batches`."""
    config = {section: dict(v) if isinstance(v, dict) else v for section, v in stored["config"].items()}
    for path, value in stored.get("requested", {}).items():
        section, _, name = path.partition(".")
        config[section][name] = value
    return config


def config_to_json(config: ConfigDict) -> dict[str, Any]:
    """Return the config as it reads back from JSON: tuples as lists."""
    return json.loads(json.dumps(files.nan_to_null(config.to_dict())))


def differences(stored: dict, given: dict) -> Iterator[str]:
    """Yield "FIELD is A there and B here" for each field that differs, except for folders and devices.

    A run may go on in other folders, on other devices, and with another logger.
    """
    stored, given = dict(files.flatten(stored)), dict(files.flatten(given))
    for name in sorted((stored.keys() | given.keys()) - with_role("place")):
        if stored.get(name) != given.get(name):
            yield f"{name} is {stored.get(name)!r} there and {given.get(name)!r} here"


def claim(setup: Setup) -> None:
    """Write config.json and splits.json. UserError if the images or their split changed since the run began."""
    source, workdir, split = setup.source, setup.workdir, describe_split(setup)
    file = workdir / "splits.json"
    if not file.exists():
        pixels = {"pixels": setup.pixels._asdict(), "dtype": str(source.images.dtype)}
        config = {"config": config_to_json(setup.config)} | pixels | describe_environment()
        if setup.requested:
            config["requested"] = dict(setup.requested)
        files.write_json(workdir / "config.json", schema.with_version("config.json", config))
        files.write_json(file, split)
    elif results.read_splits(workdir, OTHER_WORKDIR) != split:
        raise UserError(
            f"{file}: the images or the split changed since this run began; {OTHER_WORKDIR}",
            code="mismatch",
            field=str(file),
        )


def describe_split(setup: Setup) -> dict[str, Any]:
    """Return the content of splits.json."""
    source = setup.source
    ids = {name: source.ids[rows].tolist() for name, rows in setup.splits.items()}
    content = ids | {"groups_known": source.groups_known, "fingerprint": source.fingerprint}
    return schema.with_version("splits.json", content)


def describe_environment() -> dict[str, Any]:
    """Return the command, package versions, git revision and devices."""
    return {
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "versions": {name: version(name) for name in PACKAGES},
        "git": find_git_revision(),
        "devices": [str(device) for device in jax.devices()],
    }


def find_git_revision() -> str | None:
    """Return the revision of this code, "-dirty" if it was changed since; None without git or its history."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        ended = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return ended.stdout.strip() or None


def audit_images(setup: Setup) -> Any:
    """Return the content of audit.json; at the first start, audit the images and log what was found."""
    file = setup.workdir / "audit.json"
    if not file.exists():
        report = audit_source(setup.source, setup.splits)
        files.write_json(file, schema.with_version("audit.json", report))
        for line in report["findings"]:
            log.warning("images: %s", line)
    return results.read_audit(setup.workdir, "delete it, and the run makes it again")


def describe_dataset(setup: Setup) -> dict[str, Any]:
    """Return the "dataset" of results.json."""
    source, report = setup.source, audit_images(setup)
    sizes = {
        name: {"images": len(rows), "groups": len(set(source.groups[rows].tolist()))}
        for name, rows in setup.splits.items()
    }
    return {
        "name": setup.config.data.name,
        "classes": list(source.classes),
        "splits": sizes,
        "groups_known": source.groups_known,
        "fingerprint": source.fingerprint,
        "test_images_copied_in_train": report["exact"]["leaked"]["test"],
        "findings": report["findings"],
        "unread": report["unread"],
    }
