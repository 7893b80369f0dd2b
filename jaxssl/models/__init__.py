"""Encoders: `encoder.apply(variables, image, train=...)` gives "pooled" [B, D] and "map" or "tokens".

With `views=V` the batch is V views of each image, one after the other, and batch statistics are of each view apart.

A file here offers its encoders as functions named as configs name them (`resnet18`); nothing is registered.
"""

import importlib
import pkgutil

from flax import linen as nn


def available() -> dict[str, str]:
    """Name of each encoder -> the module that offers it."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        names = getattr(importlib.import_module(f"{__name__}.{module.name}"), "ENCODERS", ())
        found |= dict.fromkeys(names, module.name)
    return found


def make(name: str, **kw) -> nn.Module:
    """The encoder called `name`. Raises KeyError for an unknown one, TypeError for an option that it does not take."""
    return getattr(importlib.import_module(f"{__name__}.{available()[name]}"), name)(**kw)
