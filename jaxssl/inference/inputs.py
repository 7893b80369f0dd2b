"""The images that the arguments of a command name, and a network's output for them one by one."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxssl import files
from jaxssl.data.datasets import npz
from jaxssl.data.io import archive, images
from jaxssl.errors import UserError, escape_controls
from jaxssl.inference.network import Network, predict_iter, read_image


class Inputs(NamedTuple):
    """Images that are not read yet.

    Attributes:
      ids: unique: the path below the folder that was named, the path of a file that was named itself, or the position
        in an array, such as "test/0001".
      sources: the argument of `network.read_image` for each.
    """

    ids: list[str]
    sources: list[Path | np.ndarray]


def find_images(names: Sequence[str]) -> Inputs:
    """Return the images of folders, files, .npz archives (see `jaxssl.data.datasets.npz`) and .npy arrays.

    A .npy file holds one image, or several if its array is [N, H, W, C].

    Raises:
      UserError: a folder or an archive holds no image, or two images have the same id.
    """
    pairs = [pair for name in names for pair in _images_of(files.expand_user(name))]
    ids = [name for name, _ in pairs]
    repeated = next((name for name, count in Counter(ids).items() if count > 1), None)
    if repeated:
        message = f"two images are called {repeated}: name one folder that holds them all"
        raise UserError(message, code="conflict", field="IMAGES")
    return Inputs(ids, [source for _, source in pairs])


def _images_of(path: Path) -> Iterator[tuple[str, Path | np.ndarray]]:
    if path.is_dir():
        names = [name for name in images.find(path) if images.is_image(path / name)]
        if not names:
            message = f"{path} holds no image ({', '.join(images.EXTENSIONS)}): name another folder"
            raise UserError(message, code="missing", field=str(path))
        images.check_names(path, names)
        return ((name, path / name) for name in names)
    if path.suffix.lower() == ".npz" and path.is_file():
        keys = npz.image_keys(path, archive.read_headers(path))
        arrays = {side: archive.read_array(path, key) for side, key in keys.items()}
        return (pair for side, a in arrays.items() for pair in zip(npz.make_ids(side, len(a)), a, strict=True))
    array = _open_array(path)
    if array is None:
        return iter([(path.as_posix(), path)])
    return zip(npz.make_ids(path.stem, len(array)), array, strict=True)


def _open_array(path: Path) -> np.ndarray | None:
    """Return the array of a .npy file of several images; None for other files, and for damaged ones."""
    if path.suffix.lower() != ".npy":
        return None
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False) if path.is_file() else np.empty(0)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.ndim == 4 else None


def apply_to_images(network: Network, program: Callable, inputs: Inputs) -> Iterator[tuple[int, np.ndarray, str]]:
    """Yield (index, output of a program of the network, hash of the pixels) for each image that it accepts.

    The others are reported on stderr.

    Raises:
      UserError: at the end, if no image was accepted.
    """
    outputs = predict_iter(program, network, lambda i: read_image(inputs.sources[i], network), len(inputs.ids))
    skipped = 0
    for i, output in enumerate(outputs):
        if output.value is None:
            skipped += 1
            print(escape_controls(f"jaxssl: skipped {inputs.ids[i]}: {output.reason}"), file=sys.stderr)
        else:
            yield i, output.value, output.pixels
    if skipped == len(inputs.ids):
        message = f"none of the {skipped} images can be used: correct them, or name others"
        raise UserError(message, code="unreadable", field="IMAGES")


def format_count(done: int, total: int) -> str:
    """Return "120 images", or "118 of 120 images, 2 skipped"."""
    return f"{done} images" if done == total else f"{done} of {total} images, {total - done} skipped"


def check_suffix(to: Path, suffixes: Sequence[str]) -> None:
    """Raise UserError unless the output file has one of these suffixes."""
    if to.suffix not in suffixes:
        message = f"--to={to} must end in {' or '.join(suffixes)}"
        raise UserError(message, code="unsupported", field="--to")
