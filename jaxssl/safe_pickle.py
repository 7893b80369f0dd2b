"""Arrays of arrays in `.npy` files, read without running anything.

`np.save` pickles an array of dtype object, and `np.load(allow_pickle=True)` runs whatever functions such a file names.
Here a pickle can do no more than to write down plain data, on three grounds of which each would do against most files:

- Its opcodes are listed first, which runs nothing, and all but those that `np.save` needs are refused: persistent ids,
  the extension registry, `INST`, `OBJ` and `NEWOBJ`, dictionaries, sets, buffers.
- The names it may ask for are four, and what it gets is never NumPy's function but a stand-in that keeps its arguments.
  So it does not matter what the real ones would do with arguments made to harm, such as a subtype for `_reconstruct`,
  a dtype whose fields lie outside its memory, or the bytes of a pointer as a scalar of dtype object. Nothing else that
  can be called ever reaches the stack, and a stand-in has no attribute that `BUILD` could set.
- From what was written down, arrays are built here: dtypes from a fixed list, shapes that agree with the bytes.

Memory is bounded by the size of the file, as no length or index that it states is trusted, and time by its opcodes.
"""

import io
import math
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

MAX_BYTES = 2**26
MAX_OPCODES = 100_000

# What np.save writes under Python 3, in protocol 3 and of late in 4. Python 2's byte strings are not among it.
_OPCODES = frozenset(
    {"PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1"}
    | {"BINFLOAT", "BINBYTES", "SHORT_BINBYTES", "BINUNICODE", "SHORT_BINUNICODE", "EMPTY_LIST", "APPEND", "APPENDS"}
    | {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET"}
    | {"LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"}
)
_NAMES = frozenset(
    {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
    }
)
_NUMBERS = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})
_OBJECTS = frozenset({"O", "O4", "O8"})


def load(file: Path | bytes) -> np.ndarray:
    """Reads a `.npy` file of numbers, or of objects that are arrays of numbers or single numbers.

    Args:
      file: a path, or the bytes of a file; at most `MAX_BYTES`.

    Returns:
      The array as `np.load(file, allow_pickle=True)` has it, for files that `np.save` wrote under Python 3; arrays
      within one of objects are read-only and in the byte order of the file.

    Raises:
      ValueError: in one line, for a file that is broken or too large, or a pickle that holds or asks for anything else.
      OSError: the file cannot be opened.
    """
    content = file if isinstance(file, bytes) else _content(file)
    if len(content) > MAX_BYTES:
        raise ValueError(f"larger than the limit of {MAX_BYTES} bytes")
    # Both parsers raise nearly anything at broken bytes.
    try:
        return _load(content)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"not an array that can be read without running code: {reason[:150]}") from error


def _content(path: Path) -> bytes:
    with open(path, "rb") as opened:
        return opened.read(MAX_BYTES + 1)


def _load(content: bytes) -> np.ndarray:
    opened = io.BytesIO(content)
    version = np.lib.format.read_magic(opened)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"npy version {version}")
    shape, _, dtype = readers[version](opened)
    if dtype.kind in "biuf":
        # np.load takes the memory that the header states before it reads.
        if math.prod(shape) * dtype.itemsize > len(content):
            raise ValueError(f"the header states shape {shape}, more than the file holds")
        return np.load(io.BytesIO(content), allow_pickle=False)
    if dtype.kind != "O":
        raise ValueError(f"holds {dtype}, neither numbers nor arrays")
    pickled = content[opened.tell() :]
    _check_opcodes(pickled)
    array = _objects(_Unpickler(io.BytesIO(pickled)).load())
    if array.shape != shape:
        raise ValueError(f"the header states shape {shape}, and the pickle {array.shape}")
    return array


def _check_opcodes(pickled: bytes) -> None:
    # genops checks each length against the bytes that are left, which the unpickler does only after taking the memory.
    for count, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
        if opcode.name not in _OPCODES:
            raise ValueError(f"opcode {opcode.name} is refused")
        # The unpickler's memo is an array as long as the highest index.
        if count > MAX_OPCODES or (opcode.name == "LONG_BINPUT" and argument > MAX_OPCODES):
            raise ValueError(f"more than {MAX_OPCODES} opcodes or memo entries")


class _Name:
    """Stands in for a function or class of NumPy: calling it writes down the arguments."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __call__(self, *args: Any) -> "_Call":
        return _Call(self.name, args)

    def __setstate__(self, state: Any) -> None:
        raise ValueError(f"BUILD on {self.name} itself is refused")


class _Call:
    """A call as the pickle states it, with the state it would set on the result; it cannot be called itself."""

    __match_args__ = ("name", "args", "state")
    __slots__ = ("args", "name", "state")

    def __init__(self, name: str, args: tuple):
        self.name, self.args, self.state = name, args, None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> _Name:
        if (module, name) not in _NAMES:
            raise ValueError(f"the name {f'{module}.{name}'!a} is refused")
        return _Name(name)

    def persistent_load(self, pid: Any) -> None:
        raise ValueError("persistent ids are refused")


def _objects(stated: Any) -> np.ndarray:
    """The array of objects at the top. Its elements are not looked into further, so that nothing here recurses."""
    shape, dtype, _, items = _array_state(stated)
    if dtype.kind != "O" or not isinstance(items, list) or len(items) != math.prod(shape):
        raise ValueError("the pickle is not an array of objects with one element a place")
    array = np.empty(len(items), object)
    for i, item in enumerate(items):
        array[i] = _element(item)
    # NumPy lists objects in C order, whatever the order in memory.
    return array.reshape(shape)


def _element(stated: Any) -> np.ndarray | np.generic | int | float:
    if type(stated) in (bool, int, float):
        return stated
    match stated:
        case _Call("scalar", (dtype, bytes(raw)), None):
            return _numbers(raw, _dtype(dtype), (1,), "C")[0]
    shape, dtype, order, raw = _array_state(stated)
    if dtype.kind == "O" or not isinstance(raw, bytes):
        raise ValueError("an array of objects within one of objects")
    return _numbers(raw, dtype, shape, order)


def _array_state(stated: Any) -> tuple[tuple[int, ...], np.dtype, str, Any]:
    match stated:
        case _Call(
            "_reconstruct", (_Name(name="ndarray"), (0,), b"b"), (1, tuple(shape), dtype, bool(fortran), content)
        ):
            if len(shape) <= 32 and all(type(side) is int and 0 <= side <= MAX_BYTES for side in shape):
                return shape, _dtype(dtype), "F" if fortran else "C", content
    raise ValueError("holds something other than numbers and arrays of numbers")


def _dtype(stated: Any) -> np.dtype:
    match stated:
        # Strings, times, fields, metadata and what else a dtype may have are in other codes, or in place of a None.
        case _Call("dtype", (str(code), _, _), (3, "<" | ">" | "|" as order, None, None, None, -1, -1, _)):
            if code in _OBJECTS:
                return np.dtype(object)
            if code in _NUMBERS:
                return np.dtype(order + code)
    raise ValueError("a dtype other than plain numbers")


def _numbers(raw: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    if dtype.kind == "O" or math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError(f"{len(raw)} bytes for shape {shape} of {dtype}")
    # A view: one array may stand in many places, and copies would take more memory than the file has.
    return np.frombuffer(raw, dtype).reshape(shape, order=order)
