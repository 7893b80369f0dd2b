"""The declaration of one config field."""

import math
from typing import Any, Literal, NamedTuple, get_args

Role = Literal[
    "method",  # What a study compares: arms may differ in it.
    "repeat",  # Tells the runs of one arm apart: seed, fold, share of the labels.
    "place",  # Folders, devices, workers, services: a run may be resumed with another value.
    "record",  # What is logged, saved and evaluated; changes no number.
    "shared",  # Everything else: arms should agree in it, and `jaxssl compare` reports where they do not.
]
Phase = Literal["pretrain", "transfer"]
PHASES: tuple[Phase, ...] = get_args(Phase)


class Field(NamedTuple):
    """Declaration of one config field.

    Attributes:
      path: such as "pretrain.optimizer.name".
      default: its value in `base()`; gives the type. A ConfigDict is a set of options that depend on a name.
      meaning: one line for the documentation.
      role: see `Role`.
      choices: allowed values of a string, or of each item of a tuple of strings; None for any.
      range: interval of a number, or of each item of a tuple of numbers, such as "(0, 1]"; "" for any finite number.
      item: type of the items of a tuple.
      lengths: smallest and largest length of a tuple.
      distinct: whether a tuple may not hold a value twice.
      before: what runs did before there was this field, if that was not the default.
    """

    path: str
    default: Any
    meaning: str
    role: Role = "shared"
    choices: tuple[str, ...] | None = None
    range: str = ""
    item: type = float
    lengths: tuple[float, float] = (0, math.inf)
    distinct: bool = False
    before: Any = None
