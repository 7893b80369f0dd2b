"""Unpickling without running code: `unpickle` for any format, and `load_npy` for `.npy` files of objects.

Unpickling a file normally calls whatever functions the file names. `unpickle` returns only plain data and records of
calls, by three independent rules:

- The opcodes are listed first, which runs nothing, and all that the format does not need are refused: extension
  registry, `INST`, `OBJ`, `NEWOBJ`, buffers, ...
- Names are looked up in a short table of the caller. Its values are strings or `Name`s, which record their arguments
  and never call the real function. So it does not matter what the real one would do with malicious arguments, such as
  a subtype for `_reconstruct` or the bytes of a pointer as a scalar of dtype object. Nothing else that can be called
  reaches the stack.
- The caller builds arrays from these records: dtypes from a fixed list, shapes that agree with the number of bytes.

Memory is bounded by the size of the file, since no length or index that it states is trusted, and the number of opcodes
is limited.
"""

import contextlib
import io
import math
import pickle
import pickletools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

MAX_BYTES = 2**26
MAX_OPCODES = 100_000


class Call:
    """Record of a call: name, arguments, and the state that BUILD would set. It cannot be called itself."""

    __match_args__ = ("name", "args", "state")
    __slots__ = ("args", "name", "state")

    def __init__(self, name: str, args: tuple):
        self.name, self.args, self.state = name, args, None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Name:
    """Stand-in for a function or class. Calling it records the arguments; nothing can be set on it.

    Args:
      name: name of the function.
      record: makes the record from the arguments; `Call` by default.
    """

    __slots__ = ("_record", "name")

    def __init__(self, name: str, record: Callable | None = None):
        self.name, self._record = name, record

    def __call__(self, *args: Any) -> Any:
        return self._record(*args) if self._record else Call(self.name, args)

    def __setstate__(self, state: Any) -> None:
        raise ValueError(f"BUILD on {self.name} itself is refused")


class _Unpickler(pickle.Unpickler):
    def __init__(
        self, pickled: bytes, names: Mapping[tuple[str, str], Name | str], persistent_load: Callable[[Any], Any] | None
    ):
        super().__init__(io.BytesIO(pickled))
        self._names, self._persistent_load = names, persistent_load

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._names:
            raise ValueError(f"the name {f'{module}.{name}'!a} is refused")
        return self._names[module, name]

    def persistent_load(self, pid: Any) -> Any:
        if self._persistent_load is None:
            raise ValueError("persistent ids are refused")
        return self._persistent_load(pid)


def unpickle(
    stream: BinaryIO,
    opcodes: frozenset[str],
    names: Mapping[tuple[str, str], Name | str],
    *,
    persistent_load: Callable[[Any], Any] | None = None,
    max_opcodes: int = MAX_OPCODES,
) -> Any:
    """Read the next pickle of a stream without running code. See the module docstring.

    Args:
      stream: at the start of a pickle; afterwards at its end.
      opcodes: names of the allowed opcodes, as `pickletools` has them.
      names: (module, name) -> what the pickle gets for it.
      persistent_load: what a persistent id stands for; None refuses persistent ids.
      max_opcodes: limit of the number of opcodes and of the index of the memo.

    Raises:
      ValueError: an opcode or name is not allowed, or there are too many opcodes.
      Exception: of nearly any type, for broken bytes; use `single_error`.
    """
    start = stream.tell()
    # genops checks each length against the bytes that are left, which the unpickler does only after allocating them.
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if opcode.name not in opcodes:
            raise ValueError(f"opcode {opcode.name} is refused")
        # The unpickler's memo is an array as long as the highest index.
        if count > max_opcodes or (opcode.name == "LONG_BINPUT" and int(argument or 0) > max_opcodes):
            raise ValueError(f"more than {max_opcodes} opcodes or memo entries")
    end = stream.tell()
    stream.seek(start)
    return _Unpickler(stream.read(end - start), names, persistent_load).load()


@contextlib.contextmanager
def single_error(what: str) -> Iterator[None]:
    """Turn any exception into a ValueError of one line: parsers raise nearly any type for broken bytes."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"not {what} that can be read without running code: {reason[:150]}") from error


# .npy files.

# What np.save writes under Python 3, in protocol 3 and since recently 4. Python 2's byte strings are not among it.
_OPCODES = frozenset(
    {"PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1"}
    | {"BINFLOAT", "BINBYTES", "SHORT_BINBYTES", "BINUNICODE", "SHORT_BINUNICODE", "EMPTY_LIST", "APPEND", "APPENDS"}
    | {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET"}
    | {"LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"}
)
_NAMES = {
    (module, name): Name(name)
    for module, names in {
        "numpy": ("ndarray", "dtype"),
        "numpy.core.multiarray": ("_reconstruct", "scalar"),
        "numpy._core.multiarray": ("_reconstruct", "scalar"),
    }.items()
    for name in names
}
_NUMBERS = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})
_OBJECTS = frozenset({"O", "O4", "O8"})


def load_npy(file: Path | bytes) -> np.ndarray:
    """Read a `.npy` file of numbers, or of objects that are numbers or arrays of numbers.

    Args:
      file: a path, or the bytes of a file; at most `MAX_BYTES`.

    Returns:
      The array of `np.load(file, allow_pickle=True)`, for files that `np.save` wrote under Python 3. Arrays inside an
      array of objects are read-only and in the byte order of the file.

    Raises:
      ValueError: in one line: the file is broken or too large, or its pickle contains anything else.
      OSError: the file cannot be opened.
    """
    if isinstance(file, bytes):
        content = file
    else:
        with open(file, "rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"larger than the limit of {MAX_BYTES} bytes")
    with single_error("an array"):
        return _load_npy(content)


def _load_npy(content: bytes) -> np.ndarray:
    opened = io.BytesIO(content)
    version = np.lib.format.read_magic(opened)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"npy version {version}")
    shape, _, dtype = readers[version](opened)
    if dtype.kind in "biuf":
        # np.load allocates what the header states before it reads.
        if math.prod(shape) * dtype.itemsize > len(content):
            raise ValueError(f"the header states shape {shape}, more than the file holds")
        return np.load(io.BytesIO(content), allow_pickle=False)
    if dtype.kind != "O":
        raise ValueError(f"holds {dtype}, neither numbers nor arrays")
    array = _objects(unpickle(opened, _OPCODES, _NAMES))
    if array.shape != shape:
        raise ValueError(f"the header states shape {shape}, and the pickle {array.shape}")
    return array


def _objects(record: Any) -> np.ndarray:
    """Build the outer array of objects. Its elements cannot be such arrays again, so that nothing recurses."""
    shape, dtype, _, items = _array_state(record)
    if dtype.kind != "O" or not isinstance(items, list) or len(items) != math.prod(shape):
        raise ValueError("the pickle is not an array of objects, or the number of elements differs from its shape")
    array = np.empty(len(items), object)
    for i, item in enumerate(items):
        array[i] = _element(item)
    # NumPy lists objects in C order, whatever the order in memory.
    return array.reshape(shape)


def _element(record: Any) -> np.ndarray | np.generic | int | float:
    if type(record) in (bool, int, float):
        return record
    match record:
        case Call("scalar", (dtype, bytes(raw)), None):
            return _numbers(raw, _dtype(dtype), (1,), "C")[0]
    shape, dtype, order, raw = _array_state(record)
    if dtype.kind == "O" or not isinstance(raw, bytes):
        raise ValueError("an array of objects within one of objects")
    return _numbers(raw, dtype, shape, order)


def _array_state(record: Any) -> tuple[tuple[int, ...], np.dtype, Literal["C", "F"], Any]:
    match record:
        case Call("_reconstruct", (Name(name="ndarray"), (0,), b"b"), (1, tuple(shape), dtype, bool(fortran), content)):
            if len(shape) <= 32 and all(type(side) is int and 0 <= side <= MAX_BYTES for side in shape):
                return shape, _dtype(dtype), "F" if fortran else "C", content
    raise ValueError("holds something other than numbers and arrays of numbers")


def _dtype(record: Any) -> np.dtype:
    match record:
        # Strings, times, fields, metadata and the like have other codes, or a value where None is here.
        case Call("dtype", (str(code), _, _), (3, "<" | ">" | "|" as order, None, None, None, -1, -1, _)):
            if code in _OBJECTS:
                return np.dtype(object)
            if code in _NUMBERS:
                return np.dtype(order + code)
    raise ValueError("a dtype other than plain numbers")


def _numbers(raw: bytes, dtype: np.dtype, shape: tuple[int, ...], order: Literal["C", "F"]) -> np.ndarray:
    if dtype.kind == "O" or math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError(f"{len(raw)} bytes for shape {shape} of {dtype}")
    # A view: the same array may occur in many elements, and copies could take more memory than the file.
    return np.frombuffer(raw, dtype).reshape(shape, order=order)
