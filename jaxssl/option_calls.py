"""Options of a function that is called by name: what users may set, as opposed to the context that callers give."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from jaxssl.errors import UserError, did_you_mean

T = TypeVar("T")


def defaults(function: Callable, no_options: Collection[str]) -> dict[str, Any]:
    """Return {option: default} of the keyword-only arguments of a function, without those in `no_options`.

    >>> def make(encoder, *, classes, margin=1.0): ...
    >>> defaults(make, ("classes", "steps"))
    {'margin': 1.0}
    """
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in no_options}


def call(
    function: Callable[..., T],
    *arguments: Any,
    context: Mapping[str, Any],
    options: Mapping[str, Any],
    no_options: Collection[str],
    section: str,
    name: str,
) -> T:
    """Call a function with the options, and with those values of the context that its signature names.

    Args:
      function: has keyword-only arguments for context and options.
      *arguments: its positional arguments.
      context: values by name; the ones that the function does not take are left out.
      options: values by name.
      no_options: keyword-only arguments that are no options, such as those of the context.
      section: config section of the options, "pretrain.options", for messages.
      name: what the user calls the function, for messages.

    Raises:
      UserError: the function does not take an option.
    """
    valid = defaults(function, no_options)
    for option in options:
        if option not in valid:
            raise UserError(
                f"{section}.{option} is unknown: {did_you_mean(option, valid)}"
                f"valid options of '{name}': {', '.join(valid) or 'none'}",
                code="unknown-name",
                field=f"{section}.{option}",
            )
    named = inspect.signature(function).parameters
    return function(*arguments, **{key: value for key, value in context.items() if key in named}, **options)
