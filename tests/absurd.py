"""Files that state far more than a machine holds, or inflate a thousandfold, and take no space themselves."""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

ZEROS = bytes(2**20)


def npy_header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    """The head of a .npy file of this shape."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"shape": shape, "fortran_order": False, "descr": dtype})
    return stream.getvalue()


def write_sparse(path: Path, head: bytes, size: int) -> None:
    """Write a file that begins with `head` and goes on with zeros that take no space."""
    with open(path, "wb") as opened:
        opened.write(head)
        opened.truncate(size)


def write_npy_header_only(path: Path) -> None:
    path.write_bytes(npy_header((40_000, 40_000, 3)))


def write_npy_sparse(path: Path) -> None:
    """5 GB."""
    write_sparse(path, npy_header((40_000, 42_000, 3)), 128 + 40_000 * 42_000 * 3)


def write_npy_wide(path: Path) -> None:
    """5 GB with few pixels: 16 channels of 8 bytes."""
    write_sparse(path, npy_header((6_250, 6_250, 16), "<f8"), 128 + 6_250**2 * 16 * 8)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _deflate(megabytes: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(ZEROS) for _ in range(megabytes)) + packer.flush()


def write_png_header(
    path: Path, width: int = 60_000, height: int = 60_000, megabytes: int = 1, extra: bytes = b""
) -> None:
    """A PNG that states so many pixels in RGBA, and holds so many MiB of zeros."""
    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    parts = [_chunk(b"IHDR", head), extra, _chunk(b"IDAT", _deflate(megabytes)), _chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def write_png_below_limit(path: Path) -> None:
    """81 million pixels, 309 MiB from 300 kB."""
    write_png_header(path, 9_000, 9_000, 310)


def write_png_inflating(path: Path) -> None:
    """64 x 64 pixels, whose data inflate to 1 GiB."""
    write_png_header(path, 64, 64, 1024)


def write_png_text(path: Path) -> None:
    """A comment that inflates to 1 GiB."""
    write_png_header(path, 64, 64, 1, _chunk(b"zTXt", b"Comment\0\0" + _deflate(1024)))


def write_png_sparse(path: Path) -> None:
    """5 GB."""
    write_png_header(path, 64, 64)
    with open(path, "r+b") as opened:
        opened.truncate(5 * 10**9)


def write_tiff(path: Path) -> None:
    """9,000 x 9,000 pixels of 16 float64, 10 GB from some MB."""
    import tifffile

    shape = (9_000, 9_000, 16)
    strip = zlib.compress(bytes(100 * 9_000 * 16 * 8))
    tifffile.imwrite(
        path,
        iter([strip] * 90),
        shape=shape,
        dtype=np.float64,
        compression="zlib",
        rowsperstrip=100,
        photometric="minisblack",
        planarconfig="contig",
    )


def write_npz_inflating(path: Path) -> None:
    """2 GiB of zeros."""
    count = 2**31 // (32 * 32 * 3)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("images.npy", "w") as opened:
            opened.write(npy_header((count, 32, 32, 3)))
            left = count * 32 * 32 * 3
            while left:
                left -= opened.write(ZEROS[: min(left, len(ZEROS))])
        with archive.open("labels.npy", "w") as opened:
            np.save(opened, np.arange(count) % 2)


def write_npz_stated(path: Path) -> None:
    """The array states 30 GB and the archive holds 1 MiB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", npy_header((10**7, 32, 32, 3)) + ZEROS)
        archive.writestr("labels.npy", npy_header((10**7,)))


def write_npz_directory(path: Path) -> None:
    """The directory of the archive states 3.9 GB, too, in which the archive lies."""
    size = 1_270_000 * 32 * 32 * 3
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", npy_header((1_270_000, 32, 32, 3)) + ZEROS)
    content = bytearray(path.read_bytes())
    for mark, at in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
        place = content.index(mark) + at
        content[place : place + 4] = struct.pack("<I", size + 128)
    path.write_bytes(content)


def write_safetensors(
    path: Path, dtype: str = "F32", shape: tuple[int, ...] = (4,), offsets: object = (0, 16), size: int = 16
) -> None:
    header = json.dumps({"conv1.weight": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()
    write_sparse(path, struct.pack("<Q", len(header)) + header, 8 + len(header) + size)


def write_safetensors_overlapping(path: Path) -> None:
    part = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    header = json.dumps({"a": part, "b": part}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))


def write_safetensors_header(path: Path) -> None:
    """A header of 5 GB."""
    write_sparse(path, struct.pack("<Q", 5 * 10**9) + b"{", 5 * 10**9)


SAFETENSORS: dict[str, Callable[[Path], None]] = {
    "unknown dtype": lambda path: write_safetensors(path, "Q7"),
    "dtype of 8 bits": lambda path: write_safetensors(path, "F8_E4M3", (16,)),
    "overlapping tensors": write_safetensors_overlapping,
    "offsets beyond the file": lambda path: write_safetensors(path, shape=(2**40,), offsets=(0, 2**42)),
    "negative offsets": lambda path: write_safetensors(path, offsets=(-16, 0)),
    "offsets that are text": lambda path: write_safetensors(path, offsets="all"),
    "header of 5 GB": write_safetensors_header,
    "20 GB of zeros": lambda path: write_safetensors(
        path, shape=(5 * 10**9,), offsets=(0, 2 * 10**10), size=2 * 10**10
    ),
}
IMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "npy whose header states 5 GB": ("x.npy", write_npy_header_only),
    "npy of 5 GB of zeros": ("x.npy", write_npy_sparse),
    "npy of 5 GB in 16 channels": ("x.npy", write_npy_wide),
    "PNG that states 3.6 billion pixels": ("x.png", write_png_header),
    "PNG of 81 million pixels in 0.3 MB": ("x.png", write_png_below_limit),
    "PNG of 64 pixels that inflates to 1 GiB": ("x.png", write_png_inflating),
    "PNG with a comment that inflates to 1 GiB": ("x.png", write_png_text),
    "PNG of 5 GB": ("x.png", write_png_sparse),
    "TIFF of 10 GB in some MB": ("x.tif", write_tiff),
}
ARCHIVES: dict[str, Callable[[Path], None]] = {
    "npz that inflates to 2 GiB": write_npz_inflating,
    "npz whose array states 30 GB": write_npz_stated,
    "npz whose directory states 3.9 GB": write_npz_directory,
}


def write_long_line(path: Path) -> None:
    """A table of one line of 2 GB, with no space on the disk."""
    write_sparse(path, b"path,label\nbright/00.png,", 2 * 10**9)


def nested(depth: int = 100_000) -> str:
    """JSON of lists within lists."""
    return "[" * depth + "]" * depth
