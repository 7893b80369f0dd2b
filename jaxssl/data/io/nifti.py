"""NIfTI volumes, read by nibabel (the extra "nifti") and cut into slices by `volumes`.

Axes are in the order of RAS+: slices along 0 are sagittal, along 1 coronal, along 2 axial. Rows go from the front or
the top of the body downwards. Values are float32 after the file's slope and intercept. A fourth axis of up to 16
entries is the channels.
"""

import functools
import itertools
import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxssl.data.io import arrays, optional

EXTENSIONS = (".nii", ".nii.gz")
_MAGIC = (b"n+1\0", b"ni1\0")
_MAX_EXTENSIONS = 2**26  # Bytes between header and values, which are read with the header.


def matches(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is of this format; compressed ones are known by their name."""
    return head[344:348] in _MAGIC


def read(opened: BinaryIO, size: int | None = None) -> np.ndarray:
    """Raise ValueError: a volume is not one image."""
    raise ValueError("a NIfTI volume is not one image: load its folder, which cuts it into slices")


def _load(path: Path) -> Any:
    """Return the image of nibabel. ValueError if its header states extensions that do not fit into memory."""
    nibabel = optional.load_package("nibabel", "nifti")
    with nibabel.openers.ImageOpener(path) as opened:
        head = opened.read(540)
    for kind in (nibabel.Nifti1Header, nibabel.Nifti2Header):
        if kind.may_contain_header(head):
            start = float(kind(head[: kind.template_dtype.itemsize], check=False)["vox_offset"])
            if start > _MAX_EXTENSIONS:
                raise ValueError(f"{start / 1e6:,.0f} MB of header, above the limit of {_MAX_EXTENSIONS / 1e6:.0f} MB")
    return nibabel.load(path)


def shape(path: Path) -> tuple[int, ...]:
    """Return the lengths of the axes in the order of RAS+, without reading the values.

    Raises:
      UserError: nibabel is not installed.
      ValueError: the volume is too large, or has more than three axes and channels.
    """
    nibabel = optional.load_package("nibabel", "nifti")
    image = nibabel.as_closest_canonical(_load(path))
    found = tuple(int(n) for n in image.shape)
    if len(found) not in (3, 4) or (len(found) == 4 and found[3] > arrays.MAX_CHANNELS):
        raise ValueError(f"a NIfTI file of shape {found} is not a volume")
    arrays.check_volume(math.prod(found))
    return found


@functools.lru_cache(maxsize=2)
def _grid(path: Path, changed: int) -> tuple[tuple[int, ...], np.ndarray]:
    """Return the lengths of the three axes in the order of RAS+, and where their voxels are in space, [4, 4].

    `changed` is when the file was: it is read once, as masks of many slices ask for it.
    """
    nibabel = optional.load_package("nibabel", "nifti")
    image = _load(path)
    turned = nibabel.orientations.io_orientation(image.affine)
    lengths = tuple(int(image.shape[i]) for i in np.argsort(turned[:, 0]))
    return lengths, image.affine @ nibabel.orientations.inv_ornt_aff(turned, image.shape[:3])


def check_same_grid(image: Path, mask: Path) -> None:
    """Raise ValueError unless the voxels of both volumes are at the same places, up to half a voxel."""
    (shape, place), (found, its_place) = (_grid(path, path.stat().st_mtime_ns) for path in (image, mask))
    if shape != found:
        raise ValueError(f"is a volume of {found}, and its image one of {shape}: they do not show the same")
    corners = np.array([*itertools.product(*((0, n - 1) for n in shape), [1])])
    if np.abs(corners @ (its_place - place).T).max() > np.linalg.norm(place[:3, :3], axis=0).min() / 2:
        raise ValueError("lies elsewhere in space than its image: resample it to the voxels of the image")


def load_slices(path: Path, axis: int) -> np.ndarray:
    """Return the slices [N, H, W] or [N, H, W, C] float32 of a volume along an axis of RAS+."""
    nibabel = optional.load_package("nibabel", "nifti")
    shape(path)
    volume = np.asarray(nibabel.as_closest_canonical(_load(path)).dataobj, np.float32)
    return np.rot90(np.moveaxis(volume, axis, 0), axes=(1, 2))


def encode_slices(slices: np.ndarray, axis: int, like: Path) -> bytes:
    """Return the content of a NIfTI file of slices [N, H, W] uint8, as `load_slices` gives them.

    Args:
      slices: of the whole volume.
      axis: along which they are cut.
      like: the volume whose orientation and place in space the file gets.
    """
    nibabel = optional.load_package("nibabel", "nifti")
    original, orientations = nibabel.load(like), nibabel.orientations
    volume = np.moveaxis(np.rot90(slices, -1, axes=(1, 2)), 0, axis)
    back = orientations.ornt_transform(orientations.axcodes2ornt("RAS"), orientations.io_orientation(original.affine))
    stored = np.ascontiguousarray(orientations.apply_orientation(volume, back))
    return nibabel.Nifti1Image(stored, original.affine).to_bytes()
