"""Image files: which files are images, and one image from a file to an array.

How a file becomes an array, so that all images of a dataset are arrays of one kind:

| in the file | in the array |
|---|---|
| 8 or 16 bits unsigned | uint8 or uint16, never scaled |
| any other number | float32 |
| one bit | uint8, 0 and 255 |
| palette, CMYK, YCbCr, Lab | RGB |
| alpha | dropped where opaque everywhere, otherwise composited on black, the background of medical images |
| EXIF orientation | applied |
| TIFF of several pages or samples | channels |
| [C, H, W] | [H, W, C], where the first axis is at most 16 and smaller than both others |
| DICOM in grey | float32 after modality LUT, or rescale slope and intercept; 8 bits stay uint8 if these are 1 and 0 |
| padding of DICOM | the lowest other value |
| DICOM in MONOCHROME1 | inverted within its stored bits, before it is rescaled |
| DICOM in palette or YBR colour | RGB |
| FITS | float32: its first image of two or three axes, or extensions by name, BSCALE and BZERO applied; BLANK is NaN |

A 16-bit PNG with colour or alpha is refused, as Pillow reads 8 of its bits. Files of several frames or slices (NIfTI,
DICOM, stacks) are not one image: `volumes` cuts them.

Each format is a module with `EXTENSIONS`, `matches(head)` and `read(opened, size)`; a new one is added to `FORMATS`.
"""

import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from jaxssl.data.io import arrays, dicom, fits, nifti, npy, pillow, tiff
from jaxssl.errors import UserError, escape_controls
from jaxssl.files import open_regular

# DICOM first, since the bytes ahead of its mark can be the head of a TIFF. Pillow last: it names what is no image.
FORMATS = (dicom, npy, tiff, nifti, fits, pillow)
PICTURES = tuple(sorted(npy.EXTENSIONS + pillow.EXTENSIONS + tiff.EXTENSIONS))
EXTENSIONS = tuple(sorted(extension for module in FORMATS for extension in module.EXTENSIONS))


def find(root: Path) -> list[str]:
    """List all files under `root` as sorted relative paths with "/", without hidden ones and `__MACOSX`.

    Linked folders are followed, each once, but for those that hold `root` themselves; see `describe_links`.
    """
    base = Path(os.path.realpath(root))
    seen, found = {str(one) for one in base.parents}, []
    for folder, inner, files in os.walk(root, followlinks=True):
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name != "__MACOSX")
        real = os.path.realpath(folder)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        found += [Path(folder, name).relative_to(root).as_posix() for name in files if not name.startswith(".")]
    return sorted(found)


def describe_links(root: Path, paths: Iterable[str]) -> list[str]:
    """Return a line on those of the paths that are links out of `root`, or in linked folders; none without them."""
    base, paths = Path(os.path.realpath(root)), sorted(paths)

    def leads_out(path: Path) -> bool:
        return not Path(os.path.realpath(path)).is_relative_to(base)

    linked = {parent: leads_out(root / parent) for parent in {path.rpartition("/")[0] for path in paths}}
    outside = [p for p in paths if (leads_out(root / p) if os.path.islink(root / p) else linked[p.rpartition("/")[0]])]
    if not outside:
        return []
    return [
        f"{len(outside)} files are links that lead out of {root}, such as {outside[0]}: they are read, and change with "
        "their targets; move them away if they are not meant"
    ]


def check_names(root: Path, paths: Sequence[str]) -> None:
    """Raise UserError for a path that a table cannot hold: not UTF-8, or with control characters such as a newline."""
    for path in paths:
        if "\t" in path or escape_controls(path) != path:
            raise UserError(
                f"{root}: the name {path!a} is not UTF-8 text in one line without control characters: rename the file",
                code="unsupported",
                field=str(root),
            )


def is_image(path: Path) -> bool:
    """Return whether a file is an image, by its extension or, if it has none, by the mark of DICOM.

    A number at the end of a name is not an extension: names of DICOM files are often made of numbers and points.
    """
    name = path.name.lower()
    if name.endswith(EXTENSIONS):
        return True
    if name == "dicomdir" or not (path.suffix[1:].isdecimal() or not path.suffix) or not path.is_file():
        return False
    try:
        with open_regular(path) as opened:
            return dicom.has_preamble(opened.read(132))
    except OSError:
        return False


def read(file: Path | bytes, size: int | None = None, fits_extension: str = "") -> np.ndarray:
    """Decode an image file. Its format is recognised by its content, not by its name.

    Args:
      file: a path, or the bytes of a file.
      size: if given, a JPEG may be decoded at a fraction of its size, both sides at least twice `size`.
      fits_extension: see `fits.read`.

    Returns:
      [H, W, C] uint8, uint16 or float32; see the table of this module.

    Raises:
      UserError: the package that reads DICOM or FITS is not installed.
      Exception: of many types, as the decoders raise them, for a file that is broken or not one image.
    """
    with io.BytesIO(file) if isinstance(file, bytes) else open_regular(file) as opened:
        arrays.check_bytes(opened.seek(0, os.SEEK_END))
        opened.seek(0)
        head = opened.read(1024)
        opened.seek(0)
        module = next((module for module in FORMATS if module.matches(head)), pillow)
        return fits.read(opened, size, fits_extension) if module is fits else module.read(opened, size)
