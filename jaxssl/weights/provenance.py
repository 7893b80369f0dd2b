"""Name and origin of pretrained weights: what a file says of itself, and of the images that it was trained on."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors

from jaxssl import files
from jaxssl.errors import UserError
from jaxssl.weights import hub

OWN = ("random", "ssl", "supervised")
"""Initializations that a run names itself."""
PACKAGED = "imagenet"
"""Spec and name of the weights that `jaxssl[imagenet]` installs. No other weights have this name."""


def read_notes(file: str | Path) -> dict[str, str]:
    """Return the metadata of a `.safetensors` file, such as `jaxssl export` writes; {} for other files."""
    file = Path(file)
    if file.suffix != ".safetensors" or not file.is_file():
        return {}
    try:
        with safetensors.safe_open(file, "numpy") as opened:
            return opened.metadata() or {}
    except safetensors.SafetensorError:  # Loading it says what is wrong.
        return {}


def name_weights(spec: str, name: str = "") -> str:
    """Return what tables call `init.weights`: `init.name`, else the name in the file's metadata, else its stem.

    >>> name_weights("~/models/dinov2_vits14.pth"), name_weights("imagenet"), name_weights("runs/imagenet.pth")
    ('dinov2_vits14', 'imagenet', 'imagenet-file')

    Args:
      spec: `init.weights`; not "".
      name: `init.name`.

    Raises:
      UserError: `name` is reserved, or not of letters, digits, "_", "-" and ".".
    """
    if name:
        if name.lower() in (*OWN, *([PACKAGED] * (spec != PACKAGED))) or not re.fullmatch(r"[\w.-]+", name):
            raise UserError(
                f"init.name={name!r} must be of letters, digits, '_', '-' and '.', and not one of "
                f"{', '.join(map(repr, (*OWN, PACKAGED)))} in any case of letters",
                code="out-of-range",
                field="init.name",
            )
        return name
    if spec == PACKAGED:
        return PACKAGED
    if match := hub.SPEC.fullmatch(spec):
        return match["repository"].partition("/")[2]
    file = files.expand_user(spec)
    found = re.sub(r"[^\w.-]+", "-", read_notes(file).get("name") or file.stem).strip("-") or "weights"
    return f"{found}-file" if found.lower() in (*OWN, PACKAGED) else found


def count_groups(names: Iterable[str]) -> dict[str, int]:
    """Return how many tensors there are by the first part of their names; a single one has its whole name.

    >>> count_groups(["head.weight", "head.bias", "embeddings.mask_token"])
    {'head': 2, 'embeddings.mask_token': 1}
    """
    names = list(names)
    counts = Counter(name.split(".")[0] for name in names)
    return {
        name if counts[name.split(".")[0]] == 1 else name.split(".")[0]: counts[name.split(".")[0]] for name in names
    }


def describe_origin(data: Mapping[str, Any], splits: Mapping[str, Any]) -> dict[str, str]:
    """Return metadata about the images behind the weights of a run. Names are hashed.

    Args:
      data: the "data" of a config.
      splits: {"train": ids, "validation": ids, "fingerprint": of the images}.

    Returns:
      {"data": the fingerprint, "place": hash of the folder or the published dataset, "" for simulated images, "known":
      hashes of all images that the weights were trained on or selected by, separated by spaces}.
    """
    place = ""
    if data["dir"] or data["manual_dir"]:
        # A published dataset is the same wherever it is stored.
        where = "" if data["manual_dir"] else str(files.expand_user(data["dir"]).resolve())
        place = short_hash(f"{data['name']} {where}")
    known = " ".join(sorted(short_hash(i) for i in (*splits["train"], *splits["validation"])))
    return {"data": splits["fingerprint"], "place": place, "known": known}


def short_hash(text: str) -> str:
    """Return the first twelve hexadecimal digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
