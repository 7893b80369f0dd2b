"""What a file of weights says about the images that it was trained on."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors


def read_notes(file: str | Path) -> dict[str, str]:
    """Return the metadata of a `.safetensors` file, such as `jaxssl export` writes; {} for other files."""
    if Path(file).suffix != ".safetensors":
        return {}
    with safetensors.safe_open(file, "numpy") as opened:
        return opened.metadata() or {}


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
        where = "" if data["manual_dir"] else str(Path(data["dir"]).expanduser().resolve())
        place = short_hash(f"{data['name']} {where}")
    known = " ".join(sorted(short_hash(i) for i in (*splits["train"], *splits["validation"])))
    return {"data": splits["fingerprint"], "place": place, "known": known}


def short_hash(text: str) -> str:
    """Return the first twelve hexadecimal digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
