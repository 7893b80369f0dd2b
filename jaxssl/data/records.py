"""Images of one size in an array_record file, for datasets that exceed the memory.

A record is one image, its values as they are in memory. Grey images among RGB ones are stored grey, and become RGB when
they are read. The last record is JSON with the "shape" and "dtype" of all images, and further entries of the writer.
"""

import functools
import gc
import hashlib
import json
import multiprocessing
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from absl import flags
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from jaxssl import files
from jaxssl.errors import UserError

VERSION = 1  # Increased when the same files give other records.
_CHUNK = 2**22  # Bytes that are read at once when all images are read.


class Cache(NamedTuple):
    """Where images are kept that exceed the memory.

    Attributes:
      folder: `data.cache_dir`.
      memory_mib: `data.memory_mib`; images up to this size are held in memory.
      state: digest of the files that the images are made from.
    """

    folder: Path
    memory_mib: float
    state: str

    def file(self, *options: Any) -> Path:
        """Return the path of the images that these files give with these options."""
        digest = hashlib.sha256(repr((VERSION, self.state, options)).encode()).hexdigest()[:16]
        return self.folder / "records" / f"{digest}.array_record"

    def holds(self, nbytes: int) -> bool:
        """Return whether images of this size are held in memory."""
        return nbytes <= self.memory_mib * 2**20


@dataclass(frozen=True)
class Images:
    """An array [N, H, W, C] whose images are read on demand; it can be pickled and used in any process.

    Attributes:
      file: the array_record file, written by `write`.
      shape: [N, H, W, C]; of masks [N, H, W].
      dtype: of the values.
    """

    file: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """Return the images of these rows, as NumPy indexes the first axis.

        Raises:
          UserError: the file is damaged or missing.
        """
        chosen = np.arange(len(self))[rows]
        _, height, width, *channels = self.shape
        images = np.empty((chosen.size, *self.shape[1:]), self.dtype)
        try:
            for i, record in enumerate(self._records(chosen.ravel())):
                # A grey record is spread over the channels.
                images[i] = np.frombuffer(record, self.dtype).reshape(height, width, *(-1 for _ in channels))
        except Exception as error:
            raise _damaged(self.file, error) from error
        return images.reshape(*chosen.shape, *self.shape[1:])

    def _records(self, rows: np.ndarray) -> Iterator[bytes]:
        reader, some = _reader(self.file), _rows_at_once(self)
        for start in range(0, len(rows), some):
            yield from reader.read(rows[start : start + some].tolist())

    def __iter__(self) -> Iterator[np.ndarray]:
        return (image for some in chunks(self) for image in some)


def chunks(images: np.ndarray | Images) -> Iterator[np.ndarray]:
    """Return all images in order, some [M, H, W, C] at a time."""
    some = _rows_at_once(images)
    return (images[start : start + some] for start in range(0, len(images), some))


def _rows_at_once(images: np.ndarray | Images) -> int:
    return max(1, _CHUNK // max(1, images.nbytes // max(1, len(images))))


def digest(images: np.ndarray | Images) -> str:
    """Return the SHA-256 of all values in order; arrays and records of the same images have the same.

    For records it takes a pass over the file, and is then kept next to it, valid while the file has the same size and
    time of modification.

    Raises:
      UserError: the file is damaged or missing.
    """
    if not isinstance(images, Images):
        return _digest(images)
    try:
        seen = os.stat(images.file)
    except OSError as error:
        raise _damaged(images.file, error) from error
    state = {"bytes": seen.st_size, "modified_ns": seen.st_mtime_ns, "shape": list(images.shape)}
    sidecar = Path(images.file).with_suffix(".sha256.json")
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        kept = files.load_json(sidecar)
        found = kept.pop("sha256")
        if kept == state:
            return found
    found = _digest(images)
    # The cache of another user may be read-only.
    with suppress(OSError):
        files.write_json(sidecar, state | {"sha256": found})
    return found


def _digest(images: np.ndarray | Images) -> str:
    made = hashlib.sha256()
    for some in chunks(images):
        made.update(np.ascontiguousarray(some).data)
    return made.hexdigest()


def write(file: Path, images: Iterable[np.ndarray], about: Callable[[], Mapping[str, Any]]) -> None:
    """Write images [H, W, C] to a file atomically.

    Args:
      file: the file; its folder is created if missing.
      images: of one dtype and size; grey ones may be among RGB ones.
      about: called when all are written, returns the "shape" [N, H, W, C] and "dtype" of them all, and further entries
        for `load`, for JSON.

    Raises:
      UserError: the folder cannot be written or is full.
      Exception: as the iterator of the images raises.
    """
    # Processes of other machines may write the same file at the same time.
    aside = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    with _writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(file.parent)
        # The lock ends with the process and marks this file as being written.
        held = open(aside, "xb")  # noqa: SIM115
        _lock(held)
    try:
        with _writing(file):
            # Pixels hardly compress, and each image is read alone.
            writer = ArrayRecordWriter(str(aside), "group_size:1,uncompressed")
        for image in images:
            with _writing(file):
                writer.write(image.tobytes())
        with _writing(file):
            writer.write(json.dumps(about()).encode())
            writer.close()
            with open(aside, "rb") as written:
                os.fsync(written.fileno())
            os.replace(aside, file)
    finally:
        held.close()
        aside.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Delete the files of killed processes in `folder`, but not those that are being written."""
    for aside in folder.glob(".*.part"):
        with suppress(OSError), open(aside, "rb") as held:
            _lock(held)
            aside.unlink()


def _lock(stream: IO[bytes]) -> None:
    """Lock an open file. OSError if another process has locked it. Windows has no such locks, and needs none here: it
    does not delete a file that is open.
    """
    with suppress(ImportError):
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    """Turn errors of the writer into UserError; to be used around each call, so that errors of the images pass."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"data.cache_dir: {file} cannot be written ({_line(error)}): make room there, or set another folder",
            code="not-writable",
            field="data.cache_dir",
        ) from error


def load(file: Path) -> tuple[Images, dict[str, Any]]:
    """Return the images of a file and the entries of its writer. UserError if the file is damaged."""
    _reader.cache_clear()  # The file may have been written again.
    try:
        reader = _reader(str(file))
        about = json.loads(reader.read([reader.num_records() - 1])[0])
        shape = tuple(about["shape"])
        if shape[0] != reader.num_records() - 1:
            raise ValueError(f"it holds {reader.num_records() - 1} of {shape[0]} images")
        return Images(str(file), shape, np.dtype(about["dtype"])), about
    except Exception as error:
        raise _damaged(str(file), error) from error


@functools.lru_cache(maxsize=4)
def _reader(file: str) -> ArrayRecordReader:
    # Options for random access.
    return ArrayRecordReader(file, options="readahead_buffer_size:0,max_parallelism:0", file_reader_buffer_size=2**15)


def _damaged(file: str, error: Exception) -> UserError:
    return UserError(
        f"{file} is damaged: {_line(error)}: delete it, and it is made again", code="damaged", field="data.cache_dir"
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:150]


def stream(images: Images, parts: Sequence[np.ndarray], workers: int) -> Iterator[np.ndarray]:
    """Yield the images of each part, in the order of the parts, read ahead.

    Args:
      images: to read from.
      parts: rows of each batch.
      workers: number of processes that read, each about four batches ahead; 0: two threads of this process, four
        batches ahead.

    Yields:
      [M, H, W, C] each.

    Raises:
      UserError: the file is damaged, or a process that read it ended.
    """
    # grain takes a second to import.
    import grain

    if not parts:
        return
    # grain has options among the flags of absl, which are not parsed here.
    flags.FLAGS.mark_as_parsed()
    reading = (
        {"num_threads": 0, "prefetch_buffer_size": 0} if workers else {"num_threads": 2, "prefetch_buffer_size": 4}
    )
    batches = grain.MapDataset.source(_Parts(images, parts)).to_iter_dataset(grain.ReadOptions(**reading))
    if workers:
        options = grain.MultiprocessingOptions(num_workers=min(workers, len(parts)), per_worker_buffer_size=1)
        batches = batches.mp_prefetch(options, worker_init_fn=_live_with_parent)
    iterator, read = iter(batches), None
    try:
        for _ in parts:
            read = _next(iterator)
            # A copy, so that the shared memory is released at once.
            yield np.array(read) if workers else read
    finally:
        iterator.close()
        if workers:
            # In grain, the last batch of each process is held by the exception that ended it, in a cycle.
            read = iterator = None
            gc.collect()


def _next(iterator: Iterator[np.ndarray]) -> np.ndarray:
    try:
        return next(iterator)
    except RuntimeError as error:
        if "Worker process" not in str(error):
            raise
        raise UserError(
            f"data.workers: a process that reads images was ended ({_line(error)}), perhaps because memory or "
            "/dev/shm is full: free some, or set data.workers=0",
            code="missing",
            field="data.workers",
        ) from error


@dataclass(frozen=True)
class _Parts:
    """Data source of grain: element i is the images of part i."""

    images: Images
    parts: Sequence[np.ndarray]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.images[self.parts[index]]


def _live_with_parent(index: int, count: int) -> None:
    """Prepare a reading process: it ignores signals, which the parent handles, and ends with the parent."""
    del index, count
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):  # Windows has no SIGUSR1.
            signal.signal(getattr(signal, name), signal.SIG_IGN)

    threading.Thread(target=_exit_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _exit_with(parent: Any) -> None:
    parent.join()
    os._exit(0)
