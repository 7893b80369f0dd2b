"""Arrays of an npz archive, whose sizes are known before any is loaded."""

import contextlib
import lzma
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxssl.data.io import npy
from jaxssl.errors import UserError
from jaxssl.files import open_regular

_SUFFIX = ".npy"
# Errors of a broken archive. RuntimeError: encrypted, or compressed in a way that this Python does not know.
BROKEN = (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
MAX_INFLATION = 200  # Of arrays above MIN_INFLATED bytes: images compress to a half or a tenth, zeros to a thousandth.
MIN_INFLATED = 2**26


class Header(NamedTuple):
    """Shape and dtype of an array of an archive, and its size in bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype
    nbytes: int


def read_headers(path: Path) -> dict[str, Header]:
    """Return shape and dtype of each array of an archive, without loading any.

    Raises:
      UserError: it is not an archive, is damaged or holds objects.
    """
    try:
        with open_regular(path) as opened, zipfile.ZipFile(opened) as archive:
            names = [name for name in archive.namelist() if name.endswith(_SUFFIX)]
            return {name.removesuffix(_SUFFIX): _read_header(archive, name) for name in names}
    except (OSError, *BROKEN) as error:
        raise _error(path, error) from error


def read_array(path: Path, key: str) -> np.ndarray:
    """Load an array. UserError if it is damaged or holds objects."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive[key]
    except (OSError, *BROKEN) as error:
        raise _error(path, error) from error


def map_array(path: Path, key: str, to: Path) -> np.ndarray:
    """Unpack an array to a file, and return it as a memory map.

    Args:
      path: the archive.
      key: of the array.
      to: the file.

    Raises:
      UserError: the array is damaged, or the file cannot be written.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(key + _SUFFIX) as source, open(to, "wb") as target:
            shutil.copyfileobj(source, target, 2**20)
        return np.load(to, mmap_mode="r", allow_pickle=False)
    except BROKEN as error:
        raise _error(path, error) from error
    except OSError as error:
        raise UserError(
            f"data.cache_dir: {to} cannot be written ({error.strerror}): make room there, or set another folder",
            code="not-writable",
            field="data.cache_dir",
        ) from error


def total_bytes(headers: Mapping[str, Header], keys: list[str]) -> int:
    """Return the size of these arrays together."""
    return sum(headers[key].nbytes for key in keys)


def _read_header(archive: zipfile.ZipFile, name: str) -> Header:
    with archive.open(name) as opened:
        shape, _, dtype = npy.read_header(opened)
    if dtype.hasobject:
        raise ValueError("Object arrays")
    # The directory of the archive states the size, whatever the header of the array says.
    info = archive.getinfo(name)
    held = info.file_size
    if held > max(MIN_INFLATED, MAX_INFLATION * info.compress_size):
        raise ValueError(
            f"'{name}' inflates {held // max(1, info.compress_size):,}-fold, to {held / 1e6:,.0f} MB; if that is "
            "meant, save it with np.savez, uncompressed"
        )
    if int(np.prod(shape, dtype=object)) * dtype.itemsize > held:
        raise ValueError(f"the array '{name}' states shape {shape}, more than it holds")
    return Header(tuple(shape), dtype, held)


def _error(path: Path, error: Exception) -> UserError:
    if "Object arrays" in str(error):
        return UserError(
            f"{path} holds an object array, which would run code: save plain numbers",
            code="unsupported",
            field=str(path),
        )
    with contextlib.suppress(OSError), open_regular(path) as opened:
        if opened.read(6) == b"\x93NUMPY":
            return UserError(
                f"{path} holds a single array: save it as npz with the key 'images'",
                code="unsupported",
                field=str(path),
            )
    return UserError(
        f"{path} is not an npz archive, or is broken: {' '.join(str(error).split())}",
        code="unreadable",
        field=str(path),
    )
