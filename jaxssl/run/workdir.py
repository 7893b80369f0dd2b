"""The workdir of a run: its lock, and config.json, splits.json and audit.json, which the first start writes."""

import contextlib
import hashlib
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
import numpy as np
from ml_collections import ConfigDict

from jaxssl import data, files
from jaxssl.config.fields import PRETRAINING_LENGTH, changes_pretraining, with_role
from jaxssl.config.stored import config_to_json, read_config
from jaxssl.data.audit.report import audit_source
from jaxssl.data.copies import hash_image
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.results import description, schema
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
    stored = read_intact(workdir / "config.json")
    if stored:
        difference = list(differences(as_requested(stored), config_to_json(config)))
    else:
        difference = check_config_by_hash(config, workdir)
    if difference:
        changed = {line.partition(" is ")[0] for line in difference}
        reuse = f"--from={workdir} to take over its pretraining or to go on with it"
        if any(changes_pretraining(path) for path in changed - {*PRETRAINING_LENGTH}):
            reuse = f"--config.init.weights={workdir} to train its encoder further"
        raise UserError(
            f"{workdir} belongs to another config: {'; '.join(difference)}; {OTHER_WORKDIR}, and {reuse}, or set "
            "--config.FIELD=VALUE as it is there to resume it",
            code="conflict",
            field="--workdir",
        )


def check_config_by_hash(config: ConfigDict, workdir: Path) -> list[str]:
    """Return how the config differs from that of a run whose config.json is missing or damaged; [] if it does not.

    Raises:
      UserError: the run has other files, and none of them tells which config is its own.
    """
    split = read_intact(workdir / "splits.json")
    if split:
        other = split["config_sha256"] != hash_config(config_to_json(config))
        return ["config.json is missing or damaged, and splits.json has the hash of another config"] * other
    if any(any(workdir.glob(name)) for name in ("config.json", "evaluations/*", "checkpoints/pretrain")):
        raise UserError(
            f"{workdir} has files of another program or a run, but neither an intact config.json nor an intact "
            f"splits.json that tell to which config they belong: copy one of the two back, or {OTHER_WORKDIR}",
            code="damaged",
            field="--workdir",
        )
    return []


def read_intact(file: Path) -> Any:
    """Return the content of config.json, splits.json or audit.json; None if it is missing or damaged.

    Raises:
      UserError: another version of jaxssl wrote it.
    """
    if not file.exists():
        return None
    try:
        of_config = file.name == "config.json"
        content = read_config(file.parent, OTHER_WORKDIR) if of_config else results.read(file, OTHER_WORKDIR)
        if not description.find_faults(content, description.FILES[file.name]):
            return content
    except UserError as error:
        if error.code == "mismatch":
            raise
    log.warning("%s is damaged; it is written again if the rest shows that it is the same run", file)
    return None


def as_requested(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config in a config.json with the values that were requested, before `plan.fit_batches`."""
    config = {section: dict(v) if isinstance(v, dict) else v for section, v in stored["config"].items()}
    for path, value in stored.get("requested", {}).items():
        section, _, name = path.partition(".")
        config[section][name] = value
    return config


def differences(stored: dict, given: dict) -> Iterator[str]:
    """Yield "FIELD is A there and B here" for each field that differs, except for folders and devices.

    A run may go on in other folders, on other devices, and with another logger.
    """
    stored, given = dict(files.flatten(stored)), dict(files.flatten(given))
    for name in sorted((stored.keys() | given.keys()) - with_role("place")):
        unset = name not in given and not stored[name]  # A field of before that was empty.
        if stored.get(name) != given.get(name) and not unset:
            here = repr(given[name]) if name in given else "unknown to this version"
            yield f"{name} is {stored.get(name)!r} there and {here} here"


def hash_config(config: dict[str, Any]) -> str:
    """Return the SHA-256 of all fields of a config, except for folders and devices."""
    fields = {name: value for name, value in files.flatten(config) if name not in with_role("place")}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def claim(setup: Setup) -> None:
    """Write config.json and splits.json. UserError if the images or their split changed since the run began.

    Each of the two is written again if it is missing or damaged and the other shows that it is the same run.
    """
    source, workdir = setup.source, setup.workdir
    config = {"config": config_to_json(setup.config), "fingerprint": source.fingerprint}
    if setup.requested:
        config["requested"] = dict(setup.requested)
    split = describe_split(setup) | {"config_sha256": hash_config(as_requested(config))}
    stored_config, stored_split = (read_intact(workdir / name) for name in ("config.json", "splits.json"))
    if stored_config and stored_split:  # It may have been written before a field of today existed.
        before = hash_config(as_requested(results.read(workdir / "config.json")))
        split["config_sha256"] = before if stored_split["config_sha256"] == before else split["config_sha256"]
    if (stored_split and {name: stored_split.get(name) for name in split} != split) or (
        stored_config and stored_config["fingerprint"] != source.fingerprint
    ):
        file = workdir / ("splits.json" if stored_split else "config.json")
        raise UserError(
            f"{file}: the images or the split changed since this run began; {OTHER_WORKDIR}, and "
            f"--config.init.weights={workdir} to start from its encoder",
            code="mismatch",
            field=str(file),
        )
    if not stored_config:
        pixels = {"pixels": setup.pixels._asdict(), "dtype": str(source.images.dtype)}
        results.write(workdir / "config.json", config | pixels | describe_environment(workdir))
    if not stored_split:
        files.write_json(workdir / "splits.json", split | {"pixels": hash_seen_images(setup)})


def hash_seen_images(setup: Setup) -> list[str]:
    """Return the hashes of the training and validation images, by which `jaxssl predict` knows them."""
    rows = np.concatenate([setup.splits["train"], setup.splits["validation"]])
    parts = (setup.source.images[rows[i : i + 64]] for i in range(0, len(rows), 64))
    return [hash_image(image).hex() for part in parts for image in part]


def describe_split(setup: Setup) -> dict[str, Any]:
    """Return the content of splits.json."""
    source = setup.source
    ids = {name: source.ids[rows].tolist() for name, rows in setup.splits.items()}
    content = ids | {"groups_known": source.groups_known, "fingerprint": source.fingerprint}
    return schema.with_version("splits.json", content)


def describe_environment(workdir: Path) -> dict[str, Any]:
    """Return the command, package versions, git revision and devices."""
    return {
        "command": describe_command(workdir),
        "versions": {name: version(name) for name in PACKAGES},
        "git": find_git_revision(),
        "devices": [str(device) for device in jax.devices()],
    }


def describe_command(workdir: Path) -> str:
    """Return the command line of this process, with --workdir also where it was left to its default.

    The report changes and repeats this command in what it proposes to do next.
    """
    installed = Path(sys.argv[0]).name == "jaxssl"
    words = ["jaxssl", *sys.argv[1:]] if installed else ["python", *sys.orig_argv[1:]]
    if not any(word.split("=")[0] == "--workdir" for word in words):
        words.append(f"--workdir={workdir}")
    return shlex.join(words)


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
    if not read_intact(file):
        report = audit_source(setup.source, setup.splits)
        files.write_json(file, schema.with_version("audit.json", report))
        for line in report["findings"]:
            log.warning("images: %s", line)
    return results.read_audit(setup.workdir, "delete it, and the run makes it again")


def missing_classes(source: Source, rows: np.ndarray) -> list[str]:
    """Return the classes, or labels, that none of these images has."""
    if source.task == "value":
        return []
    counts = source.strata[rows].sum(axis=0)
    return sorted(name for name, count in zip(source.classes, counts, strict=False) if not count)


def describe_dataset(setup: Setup) -> dict[str, Any]:
    """Return the "dataset" of results.json."""
    source, report = setup.source, audit_images(setup)
    sizes = {
        name: {
            "images": len(rows),
            "groups": len(set(source.groups[rows].tolist())),
            "missing_classes": missing_classes(source, rows),
        }
        for name, rows in setup.splits.items()
    }
    name = setup.config.data.name
    title = data.title(name, setup.config.data.dir)
    return {
        "name": name,
        **({"title": title} if title != name else {}),
        "task": source.task,
        "classes": list(source.classes),
        **({"mask_classes": list(source.mask_classes)} if source.mask_classes else {}),
        "splits": sizes,
        "groups_known": source.groups_known,
        "fingerprint": source.fingerprint,
        "test_images_copied_in_train": report["exact"]["leaked"]["test"],
        "test_images_nearly_copied_in_train": report["near"]["leaked"]["test"],
        "findings": report["findings"],
        "unread": report["unread"],
    }
