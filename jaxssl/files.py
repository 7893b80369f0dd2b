"""Files that are whole or not there: written aside, then renamed."""

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to, which takes its place at the end, and is gone where the writing fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    place = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield place
        os.replace(place, path)
    finally:
        place.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of text in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces `path` by `content` in one move, so that a crash leaves the old file or the new one."""
    with aside(path) as place, open(place, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def finite(value: Any) -> Any:
    """The same, with every number that is not finite as None: JSON has no NaN."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def flat(settings: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """("pretrain.epochs", 2), ... of dictionaries in dictionaries."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(finite(value), indent=1) + "\n")
