"""Repeats the cells of a sweep over seeds, folds and values of fields that the command line gives."""

import itertools
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from absl import logging

from jaxssl.config import fields as config_fields
from jaxssl.config.assign import unknown_field
from jaxssl.errors import UserError

Fields = dict[str, Any]
Listed = Sequence[tuple[str, Fields]]  # (name, {field: value}), as `sweep()` of a config returns them.


class Repeat(NamedTuple):
    """Over what each cell is repeated.

    Attributes:
      seeds: number of seeds, from 0 on; None: the seeds that are listed.
      folds: folds of a cross-validation, each a cell; None: as listed.
      grid: {config field: values as on the command line}.
    """

    seeds: int | None = None
    folds: int | None = None
    grid: Mapping[str, Sequence[str]] = MappingProxyType({})


NO_REPEAT = Repeat()


def expand(listed: Listed, repeat: Repeat) -> Listed:
    """Return the cells of all combinations; one whose objective, encoder or dataset lacks an option stays as it is.

    Raises:
      UserError: no cell takes a field of the grid.
    """
    if repeat.seeds is not None:
        listed = _over_seeds(listed, repeat.seeds)
    if repeat.folds is not None:
        folds = [(f"fold{k}", {"data.folds": repeat.folds, "data.fold": k}) for k in range(repeat.folds)]
        listed = _cross(listed, folds)
    for field, values in repeat.grid.items():
        listed = _vary(listed, field, values)
    return listed


def _vary(listed: Listed, field: str, values: Sequence[str]) -> Listed:
    """Repeat the cells that take a field with its values; the others stay as they are."""
    taking = [cell for cell in listed if _takes(cell[1], field)]
    others = [cell for cell in listed if cell not in taking]
    if not taking:
        message = f"--grid={field}: no cell has this option: name one that it takes"
        raise UserError(message, code="unknown-name", field="--grid")
    if others:
        names = ", ".join(name for name, _ in others[:3]) + (", ..." if len(others) > 3 else "")
        logging.warning("--grid=%s: cells without this option stay as they are (%d): %s", field, len(others), names)
    leaf = field.rpartition(".")[2]
    # Names are folders, and values may be paths.
    return _cross(taking, [(f"{leaf}={value.replace('/', '_')}", {field: value}) for value in values]) + others


def _takes(cell: Fields, field: str) -> bool:
    """Return whether what a cell itself names, such as its `pretrain.objective`, has an option."""
    for name_path in config_fields.OPTIONS_OF:
        options = f"{config_fields.options_path(name_path)}."
        if field.startswith(options) and (name := cell.get(name_path)):
            return field.removeprefix(options) in config_fields.options(name_path, name)
    return True


def parse_grid(texts: Sequence[str]) -> dict[str, list[str]]:
    """Return {field: values} of arguments such as "pretrain.options.temperature=0.05,0.1,0.2".

    Commas inside brackets do not divide values: "transfer.learning_rates=(1e-3,1e-4),(1e-2,)" has two.

    Raises:
      UserError: an argument has no values, is of no field, or gives a field or a value twice.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        field, equals, values = text.removeprefix("--config.").partition("=")
        if not equals or not values.strip(","):
            message = f"--grid={text}: write FIELD=VALUE,VALUE, such as pretrain.options.temperature=0.1,0.2"
            raise UserError(message, code="out-of-range", field="--grid")
        check_field(field)
        found.setdefault(field, []).extend(re.findall(r"(?:\([^()]*\)|\[[^\[\]]*\]|[^,])+", values))
        twice = next((value for value in found[field] if found[field].count(value) > 1), None)
        if twice is not None:
            message = f"--grid={text}: {field} has the value {twice} twice: remove one"
            raise UserError(message, code="conflict", field="--grid")
    return found


def check_field(field: str) -> None:
    """Raise UserError if a path is no field of a config; an option is known to what it is of alone."""
    try:
        config_fields.find(field)
    except KeyError:
        raise unknown_field(field) from None


def _over_seeds(listed: Listed, seeds: int) -> Listed:
    """Repeat each cell with all seeds; those that are listed keep their names."""
    groups: dict[str, dict[int, tuple[str, Fields]]] = {}
    for name, fields in listed:
        key = repr(sorted((k, repr(v)) for k, v in fields.items() if k != "seed"))
        groups.setdefault(key, {})[fields.get("seed", 0)] = (name, fields)
    cells = []
    for seed, by_seed in itertools.product(range(seeds), groups.values()):
        name, fields = next(iter(by_seed.values()))
        cells.append(by_seed.get(seed, (f"{name}-seed{seed}", {**fields, "seed": seed})))
    return cells


def _cross(listed: Listed, changes: Listed) -> list[tuple[str, Fields]]:
    pairs = itertools.product(listed, changes)
    return [(f"{name}-{ending}", {**fields, **values}) for (name, fields), (ending, values) in pairs]
