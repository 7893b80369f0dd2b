"""Weights of the Hugging Face hub, pinned to a revision: `hf:owner/name@revision`."""

import importlib
import re
from pathlib import Path

from jaxssl import files
from jaxssl.errors import UserError

PREFIX = "hf:"
FILE = "model.safetensors"
SPEC = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{7,40})(?:/(?P<file>[\w./-]+))?")


def find_file(spec: str) -> Path:
    """Return the local path of a file or folder, which is downloaded if it is one of the hub."""
    return download(spec) if spec.startswith(PREFIX) else files.expand_user(spec)


def download(spec: str) -> Path:
    """Return the local copy of a file of the hub, which is downloaded if it is not in the cache.

    Args:
      spec: "hf:owner/name@revision" with a commit, for `model.safetensors`, or "hf:owner/name@revision/file".

    Raises:
      UserError: the spec has another form, `huggingface_hub` is not installed, or the file cannot be downloaded.
    """
    match = SPEC.fullmatch(spec)
    if match is None:
        raise UserError(
            f"init.weights={spec!r} is not of the form hf:owner/name@revision: the revision must be a commit, since "
            "branches move; the hub lists them",
            code="out-of-range",
            field="init.weights",
        )
    by_hand = f"or download {match['file'] or FILE} by hand and set init.weights to its path"
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise UserError(
            f"init.weights={spec!r} needs the package huggingface_hub: pip install 'jaxssl[hub]', {by_hand}",
            code="missing",
            field="init.weights",
        ) from error
    try:
        return Path(hub.hf_hub_download(match["repository"], match["file"] or FILE, revision=match["revision"]))
    except Exception as error:  # Of the network, the hub or the cache: their types differ between versions.
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"init.weights={spec!r} cannot be downloaded ({reason}): check name, revision and network, {by_hand}",
            code="unreadable",
            field="init.weights",
        ) from error
