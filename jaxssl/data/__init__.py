"""Datasets by name. Each is a module of `jaxssl.data.datasets` with a function `load`."""

import importlib
import inspect
import math
import os
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxssl.data import datasets
from jaxssl.data.source import Source
from jaxssl.errors import UserError, did_you_mean

OWN = ("folder", "npz")  # Datasets of one's own images, in `data.dir`.
# Arguments of `prepared.load`, which a dataset whose `load` has `**arguments` hands on to it.
_OF_DOWNLOADS = ("manual_dir", "cache_dir", "size", "on_bad_file", "nan", "fit", "memory_mib")
# Arguments that any dataset may take. All others of its `load` are options.
_GENERAL = (*_OF_DOWNLOADS, "seed", "dir", "task")


def names() -> list[str]:
    """Return the names of all datasets, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(datasets.__path__))


def title(name: str, dir: str) -> str:
    """Return what titles call a dataset: one's own images by their folder or archive, others by their name."""
    return Path(dir).resolve().name if name in OWN and dir else name


def find_module(name: str) -> ModuleType:
    """Import the module of a dataset.

    Raises:
      UserError: there is no dataset of this name.
    """
    if name not in names():
        raise UserError(
            f"data.name='{name}' is unknown: {did_you_mean(name, names())}valid names: {', '.join(names())}",
            code="unknown-name",
            field="data.name",
        )
    return importlib.import_module(f"{datasets.__name__}.{name}")


def options(name: str) -> dict[str, Any]:
    """Return the options of a dataset (`data.options`) with their defaults, from the signature of its `load`.

    >>> options("lenses")
    {'images_per_class': 2000, 'substructure': 0.1, 'snr': 25.0}

    Raises:
      UserError: there is no dataset of this name.
    """
    return {key: default for key, default in _defaults(find_module(name).load).items() if key not in _GENERAL}


def _defaults(load: Callable[..., Source]) -> dict[str, Any]:
    """Return {argument: default} of the `load` of a dataset."""
    parameters = inspect.signature(load).parameters.values()
    named = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    return named if len(named) == len(parameters) else dict.fromkeys(_OF_DOWNLOADS) | named


def load(
    name: str,
    *,
    seed: int,
    dir: str,
    manual_dir: str,
    cache_dir: str,
    size: int,
    on_bad_file: str,
    nan: str,
    options: Mapping[str, Any],
    fit: str = "pad",
    memory_mib: float = math.inf,
    task: str = "auto",
) -> Source:
    """Load a dataset. Its `load` receives only the arguments that its signature names.

    Args:
      name: one of `names()`.
      seed: seed of simulated data.
      dir: folder of the images for "folder", path of the archive for "npz".
      manual_dir: folder that the download of a public dataset was unpacked into.
      cache_dir: folder of prepared datasets, and of images that exceed `memory_mib`.
      size: height and width in pixels at which images are stored.
      on_bad_file: "stop" or "skip" when a file cannot be read.
      nan: "refuse", "zero" or "median" for float images with NaN or infinite values.
      options: options of this dataset, see `options`.
      fit: "pad", "crop" or "squash" for images that are not square, see `io.resize.fit`.
      memory_mib: images up to this size (MiB) are held in memory; larger sets are read from `cache_dir` on demand.
      task: one of `source.TASKS`, or "auto". A dataset whose `load` does not name it has one class an image, which may
        be called "ordinal", and is so by default where the module says `TASK = "ordinal"`.

    Returns:
      The dataset. `images` is [N, size, size, C], an array or `records.Images`.

    Raises:
      UserError: the name or an option is unknown, or the files of the dataset are invalid.
    """
    module = find_module(name)
    general = {
        "seed": seed,
        "dir": os.path.expanduser(dir),
        "manual_dir": os.path.expanduser(manual_dir),
        "cache_dir": os.path.expanduser(cache_dir),
        "size": size,
        "on_bad_file": on_bad_file,
        "nan": nan,
        "fit": fit,
        "memory_mib": memory_mib,
        "task": task,
    }
    accepted = _defaults(module.load)
    valid = [key for key in accepted if key not in _GENERAL]
    for key in options:
        if key not in valid:
            raise UserError(
                f"data.options.{key} is unknown: {did_you_mean(key, valid)}"
                f"valid options of '{name}': {', '.join(valid) or 'none'}",
                code="unknown-name",
                field=f"data.options.{key}",
            )
    source = module.load(**{key: value for key, value in general.items() if key in accepted}, **options)
    task = getattr(module, "TASK", source.task) if task == "auto" else task
    if "task" in accepted or task == source.task:
        return source
    if task != "ordinal" or not source.classes:
        raise UserError(
            f"data.task={task!r}: the labels of {name!r} are one class an image: set it to 'auto', or to 'ordinal' if "
            "the classes are in an order",
            code="conflict",
            field="data.task",
        )
    return source._replace(task=task)
