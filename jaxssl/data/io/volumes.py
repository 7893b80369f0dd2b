"""Slices of files that hold several images: NIfTI, DICOM of several frames, and stacks in npy or TIFF.

A slice is named by the path of its file and its number, such as "brain.nii.gz:012".
"""

import functools
import importlib
import re
import threading
from pathlib import Path

import numpy as np
import tifffile

from jaxssl.data.io import arrays, dicom, images, nifti, npy, optional, tiff
from jaxssl.errors import UserError

_SLICE = re.compile(r"(.+):(\d+)")
_LOCK = threading.Lock()


def name_slices(root: Path, path: str, axis: int, extent: tuple[float, float]) -> list[str]:
    """Return the names of the slices of a file, or its path alone if it holds one image.

    Args:
      root: folder of the path.
      path: relative to it.
      axis: axis of NIfTI and npy volumes along which they are cut; frames and pages are along their own.
      extent: share of the slices to take, from and to, in [0, 1].

    Raises:
      UserError: the axis or the extent is out of its range.
    """
    if not (root / path).is_file():  # A FIFO would block.
        return [path]
    first, last = extent
    if axis not in (0, 1, 2) or not 0 <= first < last <= 1:
        field = "data.options.slice_axis" if axis not in (0, 1, 2) else "data.options.slice_range"
        raise UserError(
            f"data.options.slice_axis={axis} must be 0, 1 or 2, and slice_range={tuple(extent)} rise within [0, 1]",
            code="out-of-range",
            field=field,
        )
    # A file that cannot be read is reported when it is decoded.
    try:
        count = _count(root / path, axis)
    except UserError:
        raise
    except Exception:
        return [path]
    if count < 2:
        return [path]
    return [f"{path}:{i:03d}" for i in range(int(first * count), max(int(first * count) + 1, round(last * count)))]


def split_name(name: str) -> tuple[str, int | None]:
    """Return the path of a file, and the number of the slice that a name of `name_slices` means, or None."""
    match = _SLICE.fullmatch(name)
    return (match[1], int(match[2])) if match else (name, None)


def read(root: Path, name: str, size: int | None, axis: int, fits_extension: str = "") -> np.ndarray:
    """Decode an image or a slice. See `images.read`.

    Args:
      root: folder of the files.
      name: a path relative to it, or a name of `name_slices`.
      size: see `images.read`.
      axis: as in `name_slices`.
      fits_extension: see `fits.read`.
    """
    path, number = split_name(name)
    if number is None or (root / name).is_file():
        return images.read(root / name, size, fits_extension)
    with _LOCK:  # Threads read neighbouring slices: one loads the volume for all.
        volume = _load(root / path, axis)
    return arrays.as_image(np.ascontiguousarray(volume[number]))


def check_same_grid(image: Path, mask: Path, axis: int) -> None:
    """Raise ValueError unless the slices of a mask along an axis are those of its image, in number, size and place."""
    if all(path.name.lower().endswith(nifti.EXTENSIONS) for path in (image, mask)):
        return nifti.check_same_grid(image, mask)
    with _LOCK:
        shapes = [_load(path, axis).shape[:3] for path in (mask, image)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"is a volume of {shapes[0]}, and its image one of {shapes[1]}: they do not show the same")


def _count(path: Path, axis: int) -> int:
    name = path.name.lower()
    if name.endswith(nifti.EXTENSIONS):
        return nifti.shape(path)[axis]
    if name.endswith(npy.EXTENSIONS):
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
        return shape[axis] if len(shape) == 3 and min(shape) > arrays.MAX_CHANNELS else 1
    if name.endswith(tiff.EXTENSIONS):
        with tifffile.TiffFile(path) as opened:
            pages = len(opened.series[0].pages)
        return pages if pages > arrays.MAX_CHANNELS else 1
    if name.endswith(dicom.EXTENSIONS) or images.is_image(path):
        pydicom = optional.load_package("pydicom", "dicom")
        data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["NumberOfFrames"], force=True)
        return int(data.get("NumberOfFrames") or 1)
    return 1


@functools.lru_cache(maxsize=2)
def _load(path: Path, axis: int) -> np.ndarray:
    """Return the slices [N, H, W] or [N, H, W, C] of a file."""
    name = path.name.lower()
    if name.endswith(nifti.EXTENSIONS):
        return nifti.load_slices(path, axis)
    if name.endswith(npy.EXTENSIONS):
        return np.moveaxis(np.load(path, mmap_mode="r", allow_pickle=False), axis, 0)
    if name.endswith(tiff.EXTENSIONS):
        with tifffile.TiffFile(path) as opened:
            arrays.check_volume(opened.series[0].size)
            return opened.series[0].asarray()
    return dicom.read_frames(path, importlib.import_module("pydicom"))
