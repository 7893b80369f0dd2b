"""Atomic writes, file locks, JSON, and one-line errors for files that cannot be written."""

import contextlib
import errno
import glob
import hashlib
import io
import json
import math
import os
import re
import shutil
import socket
import stat
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from jaxssl.errors import UserError

# Errors of a full disk and of one that forbids writing. Windows has no EDQUOT.
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
# Errors of a folder where a file should be, and of a file where a folder should be.
WRONG_KIND = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY)
MAX_JSON = 2**28  # Bytes: the splits of a million images take a third.
LOCK_TIMEOUT = 0.5  # Seconds; `is_locked` of another process holds a lock for far less.


def expand_user(path: str | Path) -> Path:
    """Expand "~", which a shell leaves as it is in `--to=~/file`. UserError if there is no such home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        message = f"{path}: '{Path(path).parts[0]}' has no home folder on this machine: write the whole path"
        raise UserError(message, code="missing", field=str(path)) from error


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, which replaces `path` at the end.

    If writing fails, the temporary file is deleted and `path` stays as it was. Those that killed processes left of the
    same file are deleted too.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path.parent, path.name)
    temporary = path.with_name(f".{path.name}.{_owner()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        # On a disk that forbids it, the first error is the informative one.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def temporary_folder(parent: Path, name: str) -> Iterator[Path]:
    """Yield a new folder in `parent`. It is deleted at the end, and so are those that killed processes left."""
    parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(parent, name)
    with tempfile.TemporaryDirectory(prefix=f".{name}.", suffix=f".{_owner()}.part", dir=parent) as folder:
        yield Path(folder)


def _owner() -> str:
    """Return this machine and process, for names of temporary files."""
    return f"{zlib.crc32(socket.gethostname().encode()):08x}-{os.getpid()}"


def _remove_stale(folder: Path, name: str) -> None:
    """Delete the temporary files of `name` whose process ran on this machine and does not run any more."""
    machine = _owner().partition("-")[0]
    for file in folder.glob(f".{glob.escape(name)}.*.part"):
        owner = re.search(r"\.([0-9a-f]{8})-(\d+)\.part$", file.name)
        if owner and owner[1] == machine and not _is_running(int(owner[2])):
            _remove(file)


def _is_running(process: int) -> bool:
    if os.name != "posix":
        return True  # Windows has no way to ask that does no harm.
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # It belongs to another user.
    return True


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file atomically: after a crash it has either the old content or the new one."""
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8 with `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON with `write_bytes`; numbers that are not finite become null."""
    write_text(path, json.dumps(nan_to_null(value), indent=1) + "\n")


def hash_file(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with open_regular(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def open_regular(path: str | Path) -> io.BufferedReader:
    """Open a file to read its bytes. OSError if it is a FIFO, a socket or a device: these block or never end."""
    opened = open(path, "rb", opener=_open_nonblocking)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
        opened.close()
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return opened


def open_text(path: Path) -> io.TextIOWrapper:
    """Open a regular file in UTF-8 for the module `csv`, see `open_regular`."""
    return io.TextIOWrapper(open_regular(path), encoding="utf-8", newline="")


def _open_nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def parse_json(content: str | bytes) -> Any:
    """Parse JSON in UTF-8. ValueError if it is none, is larger than `MAX_JSON` or nested too deep."""
    if len(content) > MAX_JSON:
        raise ValueError(f"larger than the limit of {MAX_JSON // 2**20} MiB")
    try:
        return json.loads(content if isinstance(content, str) else content.decode())
    except RecursionError:
        raise ValueError("nested too deep") from None


def load_json(file: Path) -> Any:
    """Read a JSON file. OSError or ValueError where it cannot be read; see `read_json` for the error of a user."""
    with open_regular(file) as opened:
        return parse_json(opened.read(MAX_JSON + 1))


def read_json(file: Path, remedy: str) -> Any:
    """Read a JSON file.

    Args:
      file: the file.
      remedy: what the user can do if it cannot be read, for the end of the message.

    Raises:
      UserError: the file is missing, cannot be read or is not JSON.
    """
    try:
        return load_json(file)
    except OSError as error:
        code = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
        raise UserError(f"{file} cannot be read ({error.strerror}): {remedy}", code=code, field=str(file)) from error
    except ValueError as error:
        raise UserError(f"{file} is not valid JSON ({error}): {remedy}", code="damaged", field=str(file)) from error


def remove_unfinished(folder: Path) -> None:
    """Delete the temporary files of killed processes below `folder`. No other process may be writing there."""
    for temporary in [*folder.rglob(".*.part")]:
        _remove(temporary)


@contextlib.contextmanager
def lock(path: Path, field: str = "") -> Iterator[None]:
    """Hold an exclusive lock on a lock file; its folder is created if missing.

    The lock belongs to the operating system, which releases it when the process ends, by SIGKILL too.

    Args:
      path: the lock file.
      field: flag that names its folder, for the message.

    Raises:
      UserError: another process holds the lock (code "in-use"), or the file cannot be created ("not-writable").
    """
    held, name = filelock.FileLock(path), f"{field}={path.parent}" if field else str(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held.acquire(timeout=LOCK_TIMEOUT)
    except filelock.Timeout:
        message = f"{name} is in use by another process: wait until it ends, or stop it"
        raise UserError(message, code="in-use", field=field or str(path)) from None
    except OSError as error:
        message = f"{name} cannot be written: {write_reason(error)}"
        raise UserError(message, code="not-writable", field=field or str(path)) from error
    try:
        yield
    finally:
        held.release()


@contextlib.contextmanager
def lock_to_pass(path: Path) -> Iterator[tuple[int, ...]]:
    """Yield file descriptors whose lock a child process holds that gets them, from its first moment until it ends.

    The lock outlives this process. None on Windows, which passes no descriptors.
    """
    try:
        import fcntl
    except ImportError:
        yield ()
        return
    with open(path, "w") as held:
        # Without waiting: a lock that is taken says the same, that the folder is in use.
        with contextlib.suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield (held.fileno(),)


def is_locked(folder: Path) -> bool:
    """Return whether a process holds a `lock` on one of the files ".lock*" of this folder."""
    return any(_is_held(file) for file in folder.glob(".lock*"))


def _is_held(file: Path) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        try:
            with filelock.FileLock(file).acquire(timeout=LOCK_TIMEOUT / 5):
                return False
        except filelock.Timeout:
            return True
    with open(file) as opened:
        try:
            # A shared lock needs no permission to write, and two processes that look do not see each other.
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def write_reason(error: OSError) -> str:
    """Return why a file cannot be written, in words."""
    if isinstance(error, FileExistsError | NotADirectoryError):  # Of a folder that is to be made.
        return f"{error.filename} is a file, not a folder: give another place, or move it away"
    return error.strerror or str(error)


@contextlib.contextmanager
def output_errors(to: Path) -> Iterator[None]:
    """Turn an OSError while the file of `--to` is written into a UserError."""
    try:
        yield
    except OSError as error:
        message = f"--to={to} cannot be written: {write_reason(error)}"
        raise UserError(message, code="not-writable", field="--to") from error


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn errors of a full or read-only disk, and of folders in the place of files, into a UserError.

    Args:
      folder: what is written to. Other errors pass through.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        # TensorStore, which orbax uses, raises ValueErrors.
        code = re.search(r"os_error_code='(\d+)'", str(error))
        number = int(code[1]) if code else getattr(error, "errno", None)
        if number is None or number not in FULL + FORBIDDEN + WRONG_KIND:
            raise
        remedy = "free some space" if number in FULL else "allow writing" if number in FORBIDDEN else "move it away"
        path = getattr(error, "filename", None) or folder
        raise UserError(
            f"{path} cannot be written: {os.strerror(number)}: {remedy}, then run the same command again; "
            f"it resumes from {folder}",
            code="not-writable",
            field=str(path),
        ) from error


def nan_to_null(value: Any) -> Any:
    """Replace every number that is not finite by None, in nested dicts, lists and tuples: JSON has no NaN."""
    if isinstance(value, dict):
        return {k: nan_to_null(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [nan_to_null(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def flatten(settings: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested dicts as ("pretrain.epochs", 2)."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value
