"""Reads gallery.npz, the images that a run keeps for its page."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxssl import files
from jaxssl.data.io import archive
from jaxssl.errors import UserError
from jaxssl.results.schema import Results

Gallery = dict[str, np.ndarray]


def read_gallery(workdir: Path) -> Gallery:
    """Return the content of gallery.npz, {} if the run has none. UserError if it is damaged."""
    file = Path(workdir) / "gallery.npz"
    if not file.exists():
        return {}
    try:
        archive.read_headers(file)  # Refuses what inflates a thousandfold.
        with files.open_regular(file) as stream:
            return dict(np.load(stream, allow_pickle=False))
    except (UserError, OSError, *archive.BROKEN) as error:
        raise UserError(
            f"{file} cannot be read ({error}): delete it, and run the command of the run again to make it",
            code="damaged",
            field=str(file),
        ) from error


def get_about(gallery: Gallery) -> dict[str, Any]:
    """Return the objective, the initialization, the number of channels and the kind of heat map of a gallery."""
    return files.parse_json(str(gallery["about"]))


def get_kinds(gallery: Gallery, results: Results) -> list[str]:
    """Return the names of the labels in a gallery: the classes, unless images do not have one class each."""
    kinds = get_about(gallery).get("kinds") if gallery else None
    return kinds or results["dataset"]["classes"]
