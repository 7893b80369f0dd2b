"""All of orbax: trees written aside, renamed when whole, and believed only while their files match their checksums.

A folder holds one subfolder a step and, beside it, `<step>.sha256.json`. The checksums come last: a checkpoint without
them was never finished, and one that disagrees with them was damaged since. Orbax itself reads flipped bits as values.
"""

import contextlib
import errno
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxssl.errors import UserError
from jaxssl.files import write_text
from jaxssl.training import distributed

Tree = Any
log = logging.getLogger(__name__)
SPARE = 2**20  # Bytes that a checkpoint takes at most beside its arrays.


def save(folder: Path, step: int, tree: Tree, keep: int = 2) -> None:
    """Writes `tree` as the checkpoint of `step` and drops all but the newest `keep`. Returns when it is on the disk."""
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / str(step)
    distributed.from_main(lambda: prepare(place, sum(array.nbytes for array in jax.tree.leaves(tree))))
    with quiet(), ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(place, tree)
    if distributed.is_main():
        write_text(checksums_of(place), json.dumps(measure(place), indent=1))
        for old in steps(folder)[keep:]:
            remove(folder / str(old))


def prepare(place: Path, size: int) -> None:
    """Takes away what is left of this checkpoint, and of all that a crash ended. OSError where there is no room.

    It is seen here, for orbax says it in many lines and leaves threads that wait.
    """
    remove(place)
    for unfinished in place.parent.glob("*.orbax-checkpoint-tmp*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    write_text(place.with_name("room"), "")
    place.with_name("room").unlink()
    if shutil.disk_usage(place.parent).free < size + SPARE:
        raise OSError(errno.ENOSPC, "", str(place))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Of an error that it raises, orbax prints the traceback as well."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def restore(folder: Path, like: Tree) -> tuple[int, Tree] | None:
    """Step and tree of the newest whole checkpoint in `folder`; None where there is none.

    Args:
      folder: what `save` was given.
      like: a tree of `jax.ShapeDtypeStruct` with shardings, or of arrays: what comes back has these places.
    """
    # Process 0 alone reads all of it for the checksums.
    step = distributed.from_main(lambda: (place := newest(folder)) and int(place.name))
    if step is None:
        return None
    place = Path(folder).absolute() / str(step)
    with ocp.StandardCheckpointer() as checkpointer:
        return step, checkpointer.restore(place, jax.tree.map(ocp.utils.to_shape_dtype_struct, like))


def read(folder: Path) -> Tree | None:
    """The tree of the newest whole checkpoint in `folder`, in NumPy arrays of the shapes and dtypes that were written.

    It needs none of the devices that wrote it. Named tuples come back as dictionaries, other tuples as lists, keys as
    their data. None where there is no whole checkpoint.
    """
    place = newest(folder)
    if place is None:
        return None
    with ocp.StandardCheckpointer() as checkpointer:
        written = checkpointer.metadata(place).item_metadata.tree
        return checkpointer.restore(place, jax.tree.map(lambda array: np.empty(array.shape, array.dtype), written))


def newest(folder: Path) -> Path | None:
    """Where the newest whole checkpoint in `folder` lies, with a warning for each damaged one that is passed over."""
    folder = Path(folder).absolute()
    for step in steps(folder):
        place = folder / str(step)
        if is_whole(place):
            return place
        log.warning("%s is damaged: an older checkpoint is used", place)
    return None


def steps(folder: Path) -> list[int]:
    """Steps with a finished checkpoint, newest first."""
    return sorted((int(f.name.split(".")[0]) for f in Path(folder).glob("*.sha256.json")), reverse=True)


def is_whole(place: Path) -> bool:
    try:
        return json.loads(checksums_of(place).read_text()) == measure(place)
    except ValueError:
        return False


def checksums_of(place: Path) -> Path:
    return place.with_name(f"{place.name}.sha256.json")


def measure(place: Path) -> dict[str, str]:
    """sha256 of every file below `place`, by its path there."""
    found = {}
    for file in sorted(p for p in place.rglob("*") if p.is_file()):
        with open(file, "rb") as stream:
            found[file.relative_to(place).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def remove(place: Path) -> None:
    """Takes the checksums first, so that what is left of it after a crash is not taken for a checkpoint."""
    checksums_of(place).unlink(missing_ok=True)
    shutil.rmtree(place, ignore_errors=True)


def describe_difference(wanted: Tree, given: Tree) -> list[str]:
    """Names and shapes in which two trees differ, a line each, both ways; empty where they agree."""

    def named(tree: Tree) -> dict[str, tuple[int, ...]]:
        return {jax.tree_util.keystr(k): tuple(v.shape) for k, v in jax.tree_util.tree_leaves_with_path(tree)}

    wanted, given = named(wanted), named(given)
    return (
        [f"missing {name} {shape}" for name, shape in wanted.items() if name not in given]
        + [f"not wanted {name} {shape}" for name, shape in given.items() if name not in wanted]
        + [f"{n}: {given[n]} is not {wanted[n]}" for n in wanted if n in given and given[n] != wanted[n]]
    )


def merge(wanted: Tree, given: Tree, where: str) -> Tree:
    """`given`, once it is certain that it has just the names and shapes of `wanted`; else a UserError naming them."""
    difference = describe_difference(wanted, given)
    if difference:
        more = f" and {len(difference) - 5} more" if len(difference) > 5 else ""
        raise UserError(f"{where} does not fit this encoder: {'; '.join(difference[:5])}{more}; check config.model")
    return given
