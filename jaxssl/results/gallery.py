"""Reads gallery.npz, the images that a run keeps for its page."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from jaxssl import files
from jaxssl.errors import UserError

Gallery = dict[str, np.ndarray]


def read_gallery(workdir: Path) -> Gallery:
    """Return the content of gallery.npz, {} if the run has none. UserError if it is damaged."""
    file = Path(workdir) / "gallery.npz"
    if not file.exists():
        return {}
    try:
        with files.open_regular(file) as stream:
            return dict(np.load(stream, allow_pickle=False))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{file} cannot be read ({error}): delete it, and run the command of the run again to make it",
            code="damaged",
            field=str(file),
        ) from error


def get_about(gallery: Gallery) -> dict[str, Any]:
    """Return the objective, the initialization, the number of channels and the kind of heat map of a gallery."""
    return files.parse_json(str(gallery["about"]))
