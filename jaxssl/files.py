"""Files that are whole or not there: written aside, then renamed; and what is said where none can be written."""

import contextlib
import errno
import fcntl
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxssl.errors import UserError

# What a full or forbidden disk says; anything else that goes wrong with a file is not the user's to mend.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)


def expand_user(path: str) -> Path:
    """With ~ as the home folder: a shell leaves it in --to=~/a."""
    return Path(path).expanduser()


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to, which takes its place at the end, and is gone where the writing fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    place = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield place
        os.replace(place, path)
    finally:
        # On a disk that forbids it, the first error says more.
        with contextlib.suppress(OSError):
            place.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of text in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces `path` by `content` in one move, so that a crash leaves the old file or the new one."""
    with atomic_path(path) as place, open(place, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def remove_unfinished(folder: Path) -> None:
    """Takes away what `aside` left below `folder` when it was killed; nobody else may be writing there."""
    for aside in [*folder.rglob(".*.part")]:
        if aside.is_dir():
            shutil.rmtree(aside)
        else:
            aside.unlink(missing_ok=True)


def is_locked(folder: Path) -> bool:
    """Whether a process holds the lock of `experiment.alone_in`."""
    for file in folder.glob(".lock*"):
        with open(file) as lock:
            try:
                # Shared, so that two that look do not see each other, and gone at once.
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
    return False


@contextlib.contextmanager
def output(to: Path) -> Iterator[None]:
    """Around what writes what `--to` names: UserError where it cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(f"--to={to} cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Around what writes below `folder`: UserError where the disk is full, or does not allow it."""
    try:
        yield
    except (OSError, ValueError) as error:
        # TensorStore, below orbax, raises ValueErrors.
        code = re.search(r"os_error_code='(\d+)'", str(error))
        number = int(code[1]) if code else getattr(error, "errno", None)
        if number not in FULL + FORBIDDEN:
            raise
        mend = "make room there" if number in FULL else "allow it"
        name = getattr(error, "filename", None)
        raise UserError(
            f"{name or folder} cannot be written: {os.strerror(number)}: {mend}, and the same command goes on from "
            f"what {folder} holds"
        ) from error


def nan_to_null(value: Any) -> Any:
    """The same, with every number that is not finite as None: JSON has no NaN."""
    if isinstance(value, dict):
        return {k: nan_to_null(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [nan_to_null(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def flatten(settings: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """("pretrain.epochs", 2), ... of dictionaries in dictionaries."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def read_json(file: Path, mend: str) -> Any:
    """What a JSON file of a run holds. UserError, with the mend, where it cannot be read, or is none."""
    try:
        return json.loads(file.read_text())
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): {mend}") from error
    except ValueError as error:
        raise UserError(f"{file} is not JSON ({error}): {mend}") from error


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(nan_to_null(value), indent=1) + "\n")
