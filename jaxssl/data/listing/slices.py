"""Slices listed instead of the volumes that hold them."""

from pathlib import Path
from typing import NamedTuple

from jaxssl.data.io import nifti, volumes
from jaxssl.data.listing.listed import Listing


class Cut(NamedTuple):
    """How volumes are cut into slices.

    Attributes:
      all: whether DICOM files of several frames, and stacks in npy or TIFF, are cut; NIfTI always is.
      axis: see `volumes.name_slices`.
      extent: share of the slices to take, from and to.
      fits_extension: see `fits.read`.
    """

    all: bool = False
    axis: int = 2
    extent: tuple[float, float] = (0.0, 1.0)
    fits_extension: str = ""


def cut_volumes(root: Path, listing: Listing, cut: Cut) -> Listing:
    """List the slices of volumes. Each volume is a group, unless groups are given."""
    named = [name_slices(root, path, cut) for path in listing.paths]
    rows = [i for i, names in enumerate(named) for _ in names]
    if len(rows) == len(named):
        return listing
    columns = [column and [column[i] for i in rows] for column in (listing.official, listing.labels, listing.groups)]
    official, labels, groups = columns
    if groups is None:
        groups = [listing.paths[i] for i in rows]
    paths = [name for names in named for name in names]
    return listing._replace(paths=paths, official=official, labels=labels, groups=groups)


def name_slices(root: Path, path: str, cut: Cut) -> list[str]:
    """Return the names of the slices of a file, or its path alone if it is not cut."""
    if not cut.all and not path.lower().endswith(nifti.EXTENSIONS):
        return [path]
    return volumes.name_slices(root, path, cut.axis, cut.extent)
