"""Datasets by name: a module of `jaxssl.data.datasets` with a function `load`."""

import importlib
import inspect
import math
import os
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from jaxssl.data import datasets
from jaxssl.data.source import Source
from jaxssl.errors import UserError, did_you_mean

_SHARED = ("prepared",)  # Modules of `jaxssl.data.datasets` that are no dataset.


def names() -> list[str]:
    """The names that `load` knows, sorted."""
    found = [module.name for module in pkgutil.iter_modules(datasets.__path__)]
    return sorted({*found} - {*_SHARED})


def home(name: str) -> ModuleType:
    """The module with the `load` of the dataset called `name`. UserError where there is none."""
    if name not in names():
        raise UserError(f"data.name is '{name}': {did_you_mean(name, names())}known are {', '.join(names())}")
    return importlib.import_module(f"{datasets.__name__}.{name}")


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
    memory_mib: float = math.inf,
) -> Source:
    """Loads a dataset; each loader is given those of the arguments that its signature names.

    Args:
      name: `folder`, `npz`, `lenses`, or a module of `jaxssl.data.datasets`.
      seed: for simulated data.
      dir: folder of `folder`, archive of `npz`.
      manual_dir: where the download of a builder lies.
      cache_dir: where a builder keeps what it has prepared, and where images go that are too many for the memory.
      size: side in pixels at which the images are held, square.
      on_bad_file: "stop" or "skip" at files that cannot be read.
      nan: "refuse", "zero" or "median" for float images that are not finite everywhere.
      options: what else the loader takes.
      memory_mib: up to which the images of files are held in memory; more are read when they are asked for.

    Returns:
      The dataset, `images` being [N, size, size, C], an array or `records.Images`.

    Raises:
      UserError: an unknown name or keyword, or whatever the loader finds wrong with the files.
    """
    module = home(name)
    offered = {
        "seed": seed,
        "dir": os.path.expanduser(dir),
        "manual_dir": os.path.expanduser(manual_dir),
        "cache_dir": os.path.expanduser(cache_dir),
        "size": size,
        "on_bad_file": on_bad_file,
        "nan": nan,
        "memory_mib": memory_mib,
    }
    taken = inspect.signature(module.load).parameters
    free = [key for key in taken if key not in offered]
    for key in options:
        if key not in free:
            takes = ", ".join(free) or "no keywords"
            raise UserError(f"data.options.{key} is not known: {did_you_mean(key, free)}'{name}' takes {takes}")
    return module.load(**{key: value for key, value in offered.items() if key in taken}, **options)
