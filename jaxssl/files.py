"""Files that are whole or not there: written aside, then renamed; and what is said where none can be written."""

import contextlib
import errno
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxssl.errors import UserError

# What a full or forbidden disk says; anything else that goes wrong with a file is not the user's to mend.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)


def write_text(path: Path, text: str) -> None:
    """Replaces `path` by `text` in one move, so that a crash leaves the old file or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(aside, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(aside, path)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


def remove_unfinished(folder: Path) -> None:
    """Takes away what `write_text` left below `folder` when it was killed; nobody else may be writing there."""
    for aside in folder.rglob(".*.part"):
        aside.unlink(missing_ok=True)


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


def finite(value: Any) -> Any:
    """The same, with every number that is not finite as None: JSON has no NaN."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(finite(value), indent=1) + "\n")
