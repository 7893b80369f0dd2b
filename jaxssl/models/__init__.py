"""Encoders: `encoder.apply(variables, image, train=...)` gives "pooled" [B, D] and "map" or "tokens".

With `views=V` the batch is V views of each image, one after the other, and batch statistics are of each view apart.

A file here offers its encoders as functions named as configs name them (`resnet18`); nothing is registered.
"""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

from flax import linen as nn

# Fields of the modules that are no options.
_GENERAL = ("stem", "dtype", "parent", "name")


def available() -> dict[str, str]:
    """Name of each encoder -> the module that offers it."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        names = getattr(importlib.import_module(f"{__name__}.{module.name}"), "ENCODERS", ())
        found |= dict.fromkeys(names, module.name)
    return found


def load(name: str) -> Callable[..., nn.Module]:
    """Return the function that makes the encoder called `name`. Raises KeyError for an unknown one."""
    return getattr(importlib.import_module(f"{__name__}.{available()[name]}"), name)


def options(name: str) -> dict[str, Any]:
    """Return the options of an encoder (`model.options`) with their defaults: those of its function and of its class.

    >>> options("resnet18")
    {'stages': (2, 2, 2, 2), 'width': 64}

    Raises:
      KeyError: there is no encoder of this name.
    """
    signature = inspect.signature(load(name), eval_str=True)
    own = {p.name: p.default for p in signature.parameters.values() if p.kind != p.VAR_KEYWORD}
    fields = (f for f in dataclasses.fields(signature.return_annotation) if f.default is not dataclasses.MISSING)
    return own | {f.name: f.default for f in fields if f.name not in {*own, *_GENERAL}}


def make(name: str, **kw) -> nn.Module:
    """The encoder called `name`. Raises KeyError for an unknown one, TypeError for an option that it does not take."""
    return load(name)(**kw)
