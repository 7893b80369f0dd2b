"""DICOM files of one frame, decoded by pydicom (the extra "dicom").

Grey values are float32 in the units of the modality LUT, or of rescale slope and intercept. Padding is set to the
lowest other value. The window of a file is not applied: the
range of the values is measured on the training images.
"""

import importlib
import logging
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxssl.data.io import arrays, optional
from jaxssl.files import open_regular

EXTENSIONS = (".dcm", ".dicom", ".ima")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_DEFLATED = b"1.2.840.10008.1.2.1.99"


def matches(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is of this format, with or without the preamble."""
    return has_preamble(head) or _has_bare_element(head)


def has_preamble(head: bytes) -> bool:
    """Return whether a file begins with the preamble of DICOM."""
    return head[128:132] == b"DICM"


def _has_bare_element(head: bytes) -> bool:
    """Return whether the first bytes are an element of the groups 0002 or 0008, as in files without a preamble."""
    group, element = (int.from_bytes(head[i : i + 2], "little") for i in (0, 2))
    if group not in (2, 8) or element > 0x20 or len(head) < 132:
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    return explicit or int.from_bytes(head[4:8], "little") < 256


def read(opened: BinaryIO, size: int | None = None) -> np.ndarray:
    """Read one image. See `images.read`."""
    del size
    pydicom = optional.load_package("pydicom", "dicom")
    pixels = importlib.import_module("pydicom.pixels")
    # pydicom logs what it also raises, and what it repairs.
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    if _DEFLATED in opened.read(1024):
        raise ValueError("deflated DICOM has no limit to its size and is refused: save it as Explicit VR Little Endian")
    opened.seek(0)
    data = _read_dataset(pydicom, opened)
    if "Rows" not in data or "Columns" not in data:
        raise ValueError(f"a DICOM file without an image ({data.get('Modality') or 'of no modality'})")
    arrays.check_pixels(data.Columns, data.Rows)
    frames = int(data.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ValueError(f"{frames} frames are not one image: set data.options.slices=True, or save each as a file")
    return arrays.as_image(_decode(data, pixels))


def read_frames(path: Path, pydicom: Any) -> np.ndarray:
    """Return the frames [N, H, W] or [N, H, W, C] of a file of several."""
    with open_regular(path) as opened:
        data = _read_dataset(pydicom, opened)
        arrays.check_volume(data.Columns * data.Rows * int(data.get("NumberOfFrames") or 1))
        return _decode(data, importlib.import_module("pydicom.pixels"))


def _decode(data: Any, pixels: Any) -> np.ndarray:
    """Return the output values of all frames of a `pydicom.Dataset`."""
    syntax = data.file_meta.TransferSyntaxUID
    if not pixels.get_decoder(syntax).is_available:
        raise ValueError(
            f"{syntax.name} needs a plugin of pydicom: pip install 'jaxssl[dicom]', or save the file uncompressed"
        )
    colours, array = data.PhotometricInterpretation, pixels.pixel_array(data)
    if colours == "PALETTE COLOR":
        return pixels.apply_color_lut(array, data)
    if colours in _COLOUR:
        return array
    if colours not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError(f"photometric interpretation '{colours}' is not known")
    return _grey(array, data)


def _read_dataset(pydicom: Any, opened: BinaryIO) -> Any:
    data = pydicom.dcmread(opened, force=True)
    if "TransferSyntaxUID" not in data.file_meta:
        implicit, little = data.original_encoding
        names = pydicom.uid
        explicit = names.ExplicitVRLittleEndian if little else names.ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = names.ImplicitVRLittleEndian if implicit else explicit
    return data


def _grey(array: np.ndarray, data: Any) -> np.ndarray:
    """Convert the stored values of a `pydicom.Dataset` to output values (DICOM PS3.3, C.7.6.3.1.2 and C.11.1)."""
    bits, padding = data.get("BitsStored"), _find_padding(array, data)
    if data.get("ModalityLUTSequence"):
        array = importlib.import_module("pydicom.pixels").apply_modality_lut(array, data)
        bits = 8 * array.itemsize
    if data.PhotometricInterpretation == "MONOCHROME1":
        # The lowest and the highest value that so many bits can hold change places: with a sign their sum is -1.
        array = (-1 if array.dtype.kind == "i" else 2**bits - 1) - array
    if data.get("BitsAllocated") == 1:
        return array.astype(bool)
    slope, intercept = _rescale(data)
    if data.get("BitsAllocated") == 8 and (slope, intercept) == (1, 0) and array.dtype == np.uint8:
        return array
    # float32 also if slope and intercept are 1 and 0: other files of the series may have others.
    return _fill_padding((array * slope + intercept).astype(np.float32), padding)


def _find_padding(array: np.ndarray, data: Any) -> np.ndarray:
    """Return where the stored values are padding (PS3.3, C.7.5.1.1.2): one value, or a range."""
    first = data.get("PixelPaddingValue")
    last = data.get("PixelPaddingRangeLimit", first)
    if not isinstance(first, int) or not isinstance(last, int):
        return np.zeros(array.shape, bool)
    return (array >= min(first, last)) & (array <= max(first, last))


def _fill_padding(values: np.ndarray, padding: np.ndarray) -> np.ndarray:
    """Set padding to the lowest other value, so that it takes no part in the scaling."""
    if padding.any() and not padding.all():
        values[padding] = values[~padding].min()
    return values


def _rescale(data: Any) -> tuple[float, float]:
    """Return rescale slope and intercept, (1, 0) by default; enhanced files hold them in nested sequences."""
    nested = [data.get(f"{which}FunctionalGroupsSequence") for which in ("PerFrame", "Shared")]
    found = [groups[0].get("PixelValueTransformationSequence") for groups in nested if groups]
    holder = next((sequence[0] for sequence in found if sequence), data)
    slope, intercept = holder.get("RescaleSlope"), holder.get("RescaleIntercept")
    return 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)
