"""Encoders: `encoder.apply(variables, image, train=...)` returns "pooled" [B, D] and "map" or "tokens".

With `views=V` the batch holds V views of each image, one after the other, and batch statistics are computed per view.
Feature maps of several depths, from fine to coarse, are sown as "maps" in the collection "intermediates", which costs
nothing unless it is asked for: `jaxssl.models.decoder.apply_maps`.

Each file here lists in `ENCODERS` the functions that make its encoders; their names are those of the config
(`resnet18`). There is no other registry: to add an encoder is to add a file.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from flax import linen as nn

from jaxssl import option_calls
from jaxssl.errors import UserError, did_you_mean

CONTEXT = ("stem", "dtype", "precision")
"""Arguments that the config has for all encoders; an encoder gets those that its signature names."""
_NO_OPTIONS = (*CONTEXT, "drop_path", "parent", "name")  # `transfer.drop_path`, and what every flax module takes.


def available() -> dict[str, str]:
    """Return {encoder: module that offers it}."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        names = getattr(importlib.import_module(f"{__name__}.{module.name}"), "ENCODERS", ())
        found |= dict.fromkeys(names, module.name)
    return found


def find(name: str) -> Callable[..., nn.Module]:
    """Return the function that makes an encoder.

    Raises:
      UserError: there is no encoder of this name.
    """
    modules = available()
    if name not in modules:
        raise UserError(
            f"model.name={name!r} is unknown: {did_you_mean(name, modules)}valid names: {', '.join(sorted(modules))}",
            code="unknown-name",
            field="model.name",
        )
    return getattr(importlib.import_module(f"{__name__}.{modules[name]}"), name)


def options(name: str) -> dict[str, Any]:
    """Return the options of an encoder (`model.options`) with their defaults.

    >>> options("resnet18")
    {'stages': (2, 2, 2, 2), 'width': 64}

    Raises:
      UserError: there is no encoder of this name.
    """
    return option_calls.defaults(find(name), _NO_OPTIONS)


def make(name: str, context: Mapping[str, Any] | None = None, options: Mapping[str, Any] | None = None) -> nn.Module:
    """Make an encoder.

    Args:
      name: one of `available()`.
      context: "stem" ("imagenet" or "small"), "dtype" of the computation and "precision" of its products.
      options: see `options`.

    Raises:
      UserError: the name or an option is unknown, or the encoder cannot have these options or this precision.
    """
    function, context = find(name), context or {}
    # A module is a static argument of jitted functions, and JSON has lists for tuples.
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in (options or {}).items()}
    if context.get("precision") and "precision" not in inspect.signature(function).parameters:
        raise UserError(
            f"model.dtype='mixed' is not possible with {name}: set it to 'float32'",
            code="mismatch",
            field="model.dtype",
        )
    called = {"no_options": _NO_OPTIONS, "section": "model.options", "name": name}
    try:
        return option_calls.call(function, context=context, options=options, **called)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"model.options={options} does not fit {name}: {error}", code="out-of-range", field="model.options"
        ) from error
