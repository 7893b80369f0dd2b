"""Images of one size in an array_record file, for sets that memory should not hold.

A record is one image, its values as they are in memory. Grey images among RGB ones are kept grey, and become RGB when
they are read. The last record is JSON with the "shape" and "dtype" of all images together, and what else the writer
wants to find again.
"""

import fcntl
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
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from jaxssl import files
from jaxssl.errors import UserError

VERSION = 1  # Goes up when the same files give other records.
_CHUNK = 2**22  # Bytes that are read at once by what goes through all images.


class Cache(NamedTuple):
    """Where images go that memory should not hold.

    Attributes:
      folder: `data.cache_dir`.
      memory_mib: `data.memory_mib`, up to which images are held in memory.
      state: of the files that the images are made from, in a word that changes when they do.
    """

    folder: Path
    memory_mib: float
    state: str

    def file(self, *options: Any) -> Path:
        """The place of the images that these files give with these options."""
        digest = hashlib.sha256(repr((VERSION, self.state, options)).encode()).hexdigest()[:16]
        return self.folder / "records" / f"{digest}.array_record"

    def holds(self, nbytes: int) -> bool:
        """Whether images of so many bytes are for the memory."""
        return nbytes <= self.memory_mib * 2**20


@dataclass(frozen=True)
class Images:
    """What stands for an array [N, H, W, C] and reads an image when it is asked for; a copy is good in any process.

    Attributes:
      file: the array_record file, whole as of `write`.
      shape: [N, H, W, C].
      dtype: of the values.
    """

    file: str
    shape: tuple[int, int, int, int]
    dtype: np.dtype

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """The images of these rows, as NumPy would index them along the first axis.

        Raises:
          UserError: the file is damaged, or gone.
        """
        chosen = np.arange(len(self))[rows]
        _, height, width, channels = self.shape
        images = np.empty((chosen.size, height, width, channels), self.dtype)
        try:
            for i, record in enumerate(self._records(chosen.ravel())):
                # A grey record is spread over the channels.
                images[i] = np.frombuffer(record, self.dtype).reshape(height, width, -1)
        except Exception as error:
            raise _damaged(self.file, error) from error
        return images.reshape(*chosen.shape, height, width, channels)

    def _records(self, rows: np.ndarray) -> Iterator[bytes]:
        reader, some = _reader(self.file), _rows_at_once(self)
        for start in range(0, len(rows), some):
            yield from reader.read(rows[start : start + some].tolist())

    def __iter__(self) -> Iterator[np.ndarray]:
        return (image for some in chunks(self) for image in some)


def chunks(images: np.ndarray | Images) -> Iterator[np.ndarray]:
    """All images in order, some [M, H, W, C] at a time."""
    some = _rows_at_once(images)
    return (images[start : start + some] for start in range(0, len(images), some))


def _rows_at_once(images: np.ndarray | Images) -> int:
    return max(1, _CHUNK // max(1, images.nbytes // max(1, len(images))))


def digest(images: np.ndarray | Images) -> str:
    """sha256 of all values in order, which is that of an array where records hold the same.

    That of records takes a pass through their file, and is then kept beside it for as long as the file has the size and
    the time that it had then.

    Raises:
      UserError: the file is damaged, or gone.
    """
    if not isinstance(images, Images):
        return _digest(images)
    try:
        seen = os.stat(images.file)
    except OSError as error:
        raise _damaged(images.file, error) from error
    state = {"bytes": seen.st_size, "modified_ns": seen.st_mtime_ns, "shape": list(images.shape)}
    beside = Path(images.file).with_suffix(".sha256.json")
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        kept = json.loads(beside.read_text())
        found = kept.pop("sha256")
        if kept == state:
            return found
    found = _digest(images)
    # A cache that others have made may be for reading only.
    with suppress(OSError):
        files.write_json(beside, state | {"sha256": found})
    return found


def _digest(images: np.ndarray | Images) -> str:
    made = hashlib.sha256()
    for some in chunks(images):
        made.update(np.ascontiguousarray(some))
    return made.hexdigest()


def write(file: Path, images: Iterable[np.ndarray], about: Callable[[], Mapping[str, Any]]) -> None:
    """Writes images [H, W, C] into a file that is whole or not there.

    Args:
      file: where; its folder is made if missing.
      images: of one dtype and size; grey ones may be among RGB ones.
      about: asked once they are all written, for the "shape" [N, H, W, C] and "dtype" of them all, and what else
        `load` shall give back, as JSON has it.

    Raises:
      UserError: the folder cannot be written, or is full; besides, whatever the iterator of the images raises.
    """
    # Processes of other machines may write the same at the same time.
    aside = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    with _writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(file.parent)
        # The lock goes with the process and says that this file is being written.
        held = open(aside, "xb")  # noqa: SIM115
        fcntl.flock(held, fcntl.LOCK_EX)
    try:
        with _writing(file):
            # Values of images hardly shrink, and each is read alone.
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
    """Takes away what processes left in `folder` that were killed while they wrote; not what others write now."""
    for aside in folder.glob(".*.part"):
        with suppress(OSError), open(aside, "rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            aside.unlink()


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    """Around each call of the writer, and not around the images, whose errors are their own."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"data.cache_dir: {file} cannot be written ({_line(error)}): make room there, or set another folder",
            code="not-writable",
            field="data.cache_dir",
        ) from error


def load(file: Path) -> tuple[Images, dict[str, Any]]:
    """The images of a file, and what was said about them. UserError where the file is damaged."""
    _reader.cache_clear()  # The file may have been made again.
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
    # As made for random access.
    return ArrayRecordReader(file, options="readahead_buffer_size:0,max_parallelism:0", file_reader_buffer_size=2**15)


def _damaged(file: str, error: Exception) -> UserError:
    return UserError(
        f"{file} is damaged: {_line(error)}: delete it, and it is made again", code="damaged", field="data.cache_dir"
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:150]


def stream(images: Images, parts: Sequence[np.ndarray], workers: int) -> Iterator[np.ndarray]:
    """The images of each part, in the order of the parts, read ahead.

    Args:
      images: to read from.
      parts: rows of each batch.
      workers: processes that read; of each, about four batches are under way. 0: two threads of this process, and four
        batches.

    Yields:
      [M, H, W, C] each.

    Raises:
      UserError: the file is damaged, or a process that read it was ended.
    """
    # grain, which takes a second to import, is needed for this alone.
    import grain

    if not parts:
        return
    # grain has options among the flags of absl, which this program does not parse.
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
            # A copy, so that the memory which processes share goes back at once.
            yield np.array(read) if workers else read
    finally:
        iterator.close()
        if workers:
            # In grain, the last batch of each process hangs on the exception that ended it, in a cycle.
            read = iterator = None
            gc.collect()


def _next(iterator: Iterator[np.ndarray]) -> np.ndarray:
    try:
        return next(iterator)
    except RuntimeError as error:
        if "Worker process" not in str(error):
            raise
        raise UserError(
            f"data.workers: a process that reads images was ended ({_line(error)}), perhaps for want of memory or of "
            "room in /dev/shm: free some, or set data.workers=0",
            code="missing",
            field="data.workers",
        ) from error


@dataclass(frozen=True)
class _Parts:
    """What grain takes for a source: element i is the images of part i."""

    images: Images
    parts: Sequence[np.ndarray]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.images[self.parts[i]]


def _live_with_parent(index: int, count: int) -> None:
    """In a process that reads: signals to all processes are for the parent to act on, but its end is the end of all."""
    del index, count
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)

    def follow() -> None:
        multiprocessing.parent_process().join()
        os._exit(0)

    threading.Thread(target=follow, daemon=True).start()
