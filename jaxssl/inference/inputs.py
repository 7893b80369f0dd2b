"""What the commands that take images have in common: arguments, which images are meant, one after the other."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxssl.data.datasets import npz
from jaxssl.data.io import images
from jaxssl.errors import UserError
from jaxssl.inference import network as inference


class Inputs(NamedTuple):
    """Images that are not read yet.

    Attributes:
      ids: unique: the path relative to the folder that was named, the path of a file that was named itself, or the
        place in an array, such as "test/0001".
      given: what `inference.read` takes for each.
    """

    ids: list[str]
    given: list[Path | np.ndarray]


def find(names: Sequence[str]) -> Inputs:
    """The images of folders, files, .npz archives as of `jaxssl.data.datasets.npz`, and .npy files, of several images if [N, H,
    W, C]. UserError where a folder or an archive holds none, or an id stands twice.
    """
    found = [pair for name in names for pair in _of(Path(name).expanduser())]
    ids = [name for name, _ in found]
    twice = next((name for name, count in Counter(ids).items() if count > 1), None)
    if twice:
        raise UserError(f"{twice} stands twice among the images: name one folder that holds them all")
    return Inputs(ids, [given for _, given in found])


def _of(path: Path) -> Iterator[tuple[str, Path | np.ndarray]]:
    if path.is_dir():
        inner = [name for name in images.find(path) if images.is_image(path / name)]
        if not inner:
            raise UserError(f"{path} holds no image ({', '.join(images.EXTENSIONS)}): name another folder")
        images.check_names(path, inner)
        return ((name, path / name) for name in inner)
    if path.suffix.lower() == ".npz" and path.is_file():
        stacks = npz.image_arrays(path, npz.read_arrays(path))
        return (pair for side, s in stacks.items() for pair in zip(npz.make_ids(side, len(s)), s, strict=True))
    stack = _stack(path)
    if stack is None:
        return iter([(path.as_posix(), path)])
    return zip(npz.make_ids(path.stem, len(stack)), stack, strict=True)


def _stack(path: Path) -> np.ndarray | None:
    """The array of a .npy file of several images. What cannot be read is said with the other images."""
    if path.suffix.lower() != ".npy":
        return None
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.ndim == 4 else None


def results(network: inference.Network, program: Callable, inputs: Inputs) -> Iterator[tuple[int, np.ndarray]]:
    """Which image, and what a program of the network gives for it; those that cannot be taken are told on stderr.

    UserError, at the end, where none could be taken.
    """
    ids, given = inputs
    found = inference.predict_iter(program, network, lambda i: inference.read(given[i], network.size), len(ids))
    left_out = 0
    for i, (result, why) in enumerate(found):
        if why:
            left_out += 1
            print(f"jaxssl: left out {ids[i]}: {why}", file=sys.stderr)
        else:
            yield i, result
    if left_out == len(ids):
        raise UserError(f"none of {len(ids)} images could be taken: mend them, or name others")


def counted(done: int, total: int) -> str:
    """ "120 images", or "118 of 120 images, 2 left out"."""
    return f"{done} images" if done == total else f"{done} of {total} images, {total - done} left out"
