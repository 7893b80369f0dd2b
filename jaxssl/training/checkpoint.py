"""Checkpoints with orbax: written atomically, verified by SHA-256.

A folder holds one subfolder for each saved step, and `<step>.sha256.json` with the checksums of its files. The
checksums are written last: a checkpoint without them is unfinished, one that disagrees with them is damaged (orbax
itself would read flipped bits as values). This is the only module that imports orbax.
"""

import contextlib
import errno
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxssl import files
from jaxssl.training import distributed

Tree = Any
log = logging.getLogger(__name__)
OVERHEAD = 2**20  # Bytes that a checkpoint takes at most in addition to its arrays.


def save(folder: Path, step: int, tree: Tree, keep: int = 2) -> None:
    """Write `tree` as the checkpoint of `step` and delete all but the newest `keep`. Returns when it is on disk."""
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / str(step)
    distributed.from_main(lambda: make_room(path, sum(array.nbytes for array in jax.tree.leaves(tree))))
    with silence_orbax(), ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)
    if distributed.is_main():
        files.write_text(checksum_file(path), json.dumps(hash_files(path), indent=1))
        for old in list_steps(folder)[keep:]:
            remove(folder / str(old))


def make_room(path: Path, size: int) -> None:
    """Delete an earlier checkpoint at `path` and unfinished ones beside it. OSError if there is too little space.

    The space is checked here because orbax reports a full disk in many lines and leaves threads that wait.
    """
    remove(path)
    for unfinished in path.parent.glob("*.orbax-checkpoint-tmp*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    files.write_text(path.with_name("room"), "")
    path.with_name("room").unlink()
    if shutil.disk_usage(path.parent).free < size + OVERHEAD:
        raise OSError(errno.ENOSPC, "", str(path))


@contextlib.contextmanager
def silence_orbax() -> Iterator[None]:
    """Suppress the traceback that orbax logs in addition to the error that it raises."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def restore(folder: Path, like: Tree | Callable[[int], Tree]) -> tuple[int, Tree] | None:
    """Return step and tree of the newest intact checkpoint in `folder`; None if there is none.

    Args:
      folder: as for `save`.
      like: tree of arrays, or of `jax.ShapeDtypeStruct` with shardings, that gives shapes, dtypes and shardings; or a
        function of the step that returns it.
    """
    # The checksums read all files; process 0 alone does that.
    step = distributed.from_main(lambda: (path := find_newest(folder)) and int(path.name))
    if step is None:
        return None
    path = Path(folder).absolute() / str(step)
    like = like(step) if callable(like) else like
    with ocp.StandardCheckpointer() as checkpointer:
        return step, checkpointer.restore(path, jax.tree.map(ocp.utils.to_shape_dtype_struct, like))


def load_numpy(folder: Path) -> Tree | None:
    """Return the tree of the newest intact checkpoint in `folder` as NumPy arrays; None if there is none.

    It works on any devices. Named tuples come back as dicts, other tuples as lists, PRNG keys as their data.
    """
    path = find_newest(folder)
    return None if path is None else read_tree(path)


def read_tree(path: Path) -> Tree:
    """Return the tree of any orbax checkpoint of arrays, as `load_numpy` does, without a check of its content."""
    with silence_orbax(), ocp.StandardCheckpointer() as checkpointer:
        written = checkpointer.metadata(path).item_metadata.tree  # pyright: ignore[reportOptionalMemberAccess]
        return checkpointer.restore(path, jax.tree.map(lambda array: np.empty(array.shape, array.dtype), written))


def find_newest(folder: Path) -> Path | None:
    """Return the path of the newest intact checkpoint in `folder`; logs a warning for each damaged one."""
    folder = Path(folder).absolute()
    for step in list_steps(folder):
        path = folder / str(step)
        if is_intact(path):
            return path
        log.warning("%s is damaged: an older checkpoint is used", path)
    return None


def list_steps(folder: Path) -> list[int]:
    """Return the steps with a finished checkpoint, newest first."""
    names = (file.name.removesuffix(".sha256.json") for file in Path(folder).glob("*.sha256.json"))
    return sorted((int(name) for name in names if name.isdecimal()), reverse=True)


def is_intact(path: Path) -> bool:
    """Return whether the files of a checkpoint match its checksums."""
    try:
        return files.load_json(checksum_file(path)) == hash_files(path)
    except (OSError, ValueError):
        return False


def checksum_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256.json")


def hash_files(path: Path) -> dict[str, str]:
    """Return {relative path: SHA-256} of all files below `path`."""
    found = sorted(p for p in path.rglob("*") if p.is_file())
    return {file.relative_to(path).as_posix(): files.hash_file(file) for file in found}


def remove(path: Path) -> None:
    """Delete a checkpoint, the checksums first: a crash in between leaves an unfinished checkpoint."""
    checksum_file(path).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)
