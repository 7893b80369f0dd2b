"""PyTorch's `.pth` files of weights, read without PyTorch and without running code.

`torch.save` pickles a dictionary and stores the numbers next to it: in a zip archive since PyTorch 1.6, in one file
after the pickles before. The pickle is read by `jaxssl.safe_pickle.unpickle`, where it may name a function that
rebuilds a tensor, `OrderedDict`, and the types of storages. Arrays are built from what it records; each lies within
its storage and has no more numbers than that.

Arrays are views of the bytes read, so memory is bounded by the size of the file. Time is not: a malicious file can keep
its reader busy, and nothing else.
"""

import io
import math
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxssl import files, safe_pickle

MAX_BYTES = 2**32
MAX_OPCODES = 200_000
MAX_DEPTH = 3
"""Dictionaries around the state dicts of a file."""

_OPCODES = frozenset(
    {"PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"}
    | {"BINFLOAT"}
    | {"EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1"}
    | {"TUPLE2", "TUPLE3", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "GLOBAL", "REDUCE", "BUILD", "BINPERSID"}
)
_STORAGES = {"FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16", "LongStorage": "int64"}
_DTYPES = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(jnp.bfloat16),
    "int64": np.dtype("<i8"),
}
# The first of the pickles in a file that is no archive: a number that PyTorch chose.
_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)


def load(file: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict that `torch.save` wrote, by name.

    Args:
      file: of at most `MAX_BYTES`, in either format. A training checkpoint may hold state dicts by name: if there is
        only `{"state_dict": ...}` or `{"model": ...}`, it is read as that; otherwise the entry is the prefix of names.

    Returns:
      Read-only arrays of float32, float16, bfloat16 or int64.

    Raises:
      ValueError: in one line, for a file that is broken, in an older format, or holds or asks for anything else.
      OSError: the file cannot be opened.
    """
    with files.open_regular(file) as opened:
        size = os.fstat(opened.fileno()).st_size
        content = opened.read(size) if size <= MAX_BYTES else b""
    with safe_pickle.single_error("a state dict"):
        if size > MAX_BYTES:
            raise ValueError(f"larger than the limit of {MAX_BYTES} bytes")
        stated, raw = (_archive if content.startswith(b"PK\x03\x04") else _single_file)(content)
        return _tensors(stated, raw)


class _Storage(NamedTuple):
    key: str
    dtype: str
    size: int


class _Tensor(NamedTuple):
    """The arguments of `torch._utils._rebuild_tensor_v2`; strides and offset are in numbers, not bytes."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any
    requires_grad: Any = None
    hooks: Any = None
    metadata: Any = None


class _Dict(dict):
    """Stands in for `OrderedDict`. What a module's state dict has besides, the versions of its layers, is dropped."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


_NAMES: dict[tuple[str, str], safe_pickle.Name | str] = {
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
    ("collections", "OrderedDict"): safe_pickle.Name("OrderedDict", _Dict),
    ("torch._utils", "_rebuild_tensor_v2"): safe_pickle.Name("_rebuild_tensor_v2", _Tensor),
    ("torch._utils", "_rebuild_parameter"): safe_pickle.Name("_rebuild_parameter", lambda tensor, *rest: tensor),
}


def _unpickle(opened: io.BytesIO) -> tuple[Any, dict[str, _Storage]]:
    """Return the next pickle of a file and the storages that it names, by key."""
    storages: dict[str, _Storage] = {}

    def storage(pid: Any) -> _Storage:
        match pid:
            # After the device a single file has None, or the part of another storage that this one is.
            case ("storage", str(dtype), str(key), str(), int(count), *part) if part in ([], [None]):
                found = _Storage(key, dtype, count)
                if dtype in _DTYPES and count >= 0 and storages.setdefault(key, found) == found:
                    return found
        # The id is not printed: nested tuples may be endless as text.
        raise ValueError("a persistent id that is no storage of known dtype is refused")

    read = safe_pickle.unpickle(opened, _OPCODES, _NAMES, persistent_load=storage, max_opcodes=MAX_OPCODES)
    return read, storages


def _archive(content: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        records = archive.infolist()
        # PyTorch compresses nothing. What is larger unpacked, or lies in several records, was made to fill the memory.
        size = sum(r.file_size for r in records)
        if size > len(content) or any(r.compress_type != zipfile.ZIP_STORED for r in records):
            raise ValueError("an archive that is compressed, or larger inside than outside")
        names = {r.filename for r in records}
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("a zip archive with no data.pkl, so not one of torch.save")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("its byte order is not little-endian")
        stated, storages = _unpickle(io.BytesIO(archive.read(pickles[0])))
        raw = {s.key: np.frombuffer(archive.read(f"{folder}data/{s.key}"), _DTYPES[s.dtype]) for s in storages.values()}
    for s in storages.values():
        if len(raw[s.key]) != s.size:
            raise ValueError(f"storage {s.key!a} has {len(raw[s.key])} numbers and states {s.size}")
    return stated, raw


def _single_file(content: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    """Before 1.6: pickles of a number, the version, the machine, the dictionary, and the order of the storages."""
    if not content.startswith(_MAGIC):
        raise ValueError("neither a zip archive nor the format before it; load and save it again with PyTorch")
    opened = io.BytesIO(content)
    (_, _), (version, _), (machine, _), (stated, storages), (order, _) = [_unpickle(opened) for _ in range(5)]
    if version != 1001 or machine["little_endian"] is not True:
        raise ValueError("a format version other than 1001, or a byte order that is not little-endian")
    raw = {}
    for key in order:
        if not isinstance(key, str) or key not in storages:
            raise ValueError("the order of the storages names one that no tensor has")
        s = storages[key]
        count = int.from_bytes(opened.read(8), "little")
        if count != s.size:
            raise ValueError(f"storage {key!a} has {count} numbers and states {s.size}")
        raw[key] = np.frombuffer(content, _DTYPES[s.dtype], count, opened.tell())
        opened.seek(raw[key].nbytes, io.SEEK_CUR)
    return stated, raw


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, dict) and len(value) > 0 and all(isinstance(tensor, _Tensor) for tensor in value.values())


def _merge_entries(entries: dict[Any, dict]) -> dict:
    """Return the state dicts of a training checkpoint as one; names get the entry's as a prefix, unless it is usual."""
    if len(entries) == 1 and next(iter(entries)) in ("state_dict", "model"):
        return next(iter(entries.values()))
    return {f"{entry}.{name}": tensor for entry, tensors in entries.items() for name, tensor in tensors.items()}


def _tensors(stated: Any, raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    for _ in range(MAX_DEPTH):  # Such as {"checkpoint": {"state_dict": ..., "args": ...}}.
        inner = [v for v in stated.values() if isinstance(v, dict) and v] if isinstance(stated, dict) else []
        if len(inner) == 1 and not _is_state_dict(inner[0]):
            stated = inner[0]
    if isinstance(stated, dict):
        stated = _merge_entries({key: value for key, value in stated.items() if _is_state_dict(value)}) or stated
    if not isinstance(stated, dict) or not all(isinstance(name, str) for name in stated):
        raise ValueError("it holds no dictionary of names; save model.state_dict()")
    for name, tensor in stated.items():
        if not isinstance(tensor, _Tensor):
            raise ValueError(f"{name!a} is no tensor; save model.state_dict() alone")
    return {name: _array(tensor, raw) for name, tensor in stated.items()}


def _array(stated: _Tensor, raw: dict[str, np.ndarray]) -> np.ndarray:
    match stated:
        case _Tensor(_Storage(key=key), int(offset), tuple(shape), tuple(strides)):
            values = raw[key]
            counts = (offset, *shape, *strides)
            if len(shape) == len(strides) <= 32 and all(type(n) is int and 0 <= n <= MAX_BYTES for n in counts):
                if 0 in shape:
                    return values[:0].reshape(shape)
                last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
                # A tensor may repeat numbers by a stride of 0, and a file of few bytes so become an array of many.
                if last < len(values) and math.prod(shape) <= len(values):
                    steps = [stride * values.itemsize for stride in strides]
                    return np.lib.stride_tricks.as_strided(values[offset:], shape, steps, writeable=False)
    raise ValueError("a tensor that does not lie within its storage")
