"""Names that people give to splits, and groups from paths."""

import re
from collections.abc import Sequence

from jaxssl.errors import UserError, did_you_mean

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


def parse_split(place: str, column: str, value: str) -> str:
    """Return "train", "validation" or "test" for the name of a split in a table.

    Args:
      place: of the row, for the message.
      column: name of the column.
      value: the name.

    Raises:
      UserError: the name is not known.
    """
    if value.lower() not in SPLITS:
        raise UserError(
            f"{place}: {column} is '{value}': {did_you_mean(value, SPLITS)}it must be one of {', '.join(SPLITS)}",
            code="unknown-name",
            field=column,
        )
    return SPLITS[value.lower()]


def match_groups(paths: Sequence[str], pattern: str, field: str = "data.options.group_pattern") -> list[str]:
    """Return what the one group of a regular expression matches in each path.

    Args:
      paths: the paths.
      pattern: the expression.
      field: the config field or flag that holds it, for the messages.

    Raises:
      UserError: it is not a regular expression, has another number of groups, or does not match a path.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(
            f"{field}={pattern!r} is not a regular expression: {error}", code="out-of-range", field=field
        ) from error
    if compiled.groups != 1:
        raise UserError(
            f"{field}={pattern!r} has {compiled.groups} groups in brackets: give it one",
            code="out-of-range",
            field=field,
        )
    found = [compiled.search(path) for path in paths]
    missed = [path for path, match in zip(paths, found, strict=True) if not match or not match.group(1)]
    if missed:
        raise UserError(
            f"{field}={pattern!r} does not match {len(missed)} of {len(paths)} paths, such as {missed[0]}",
            code="mismatch",
            field=field,
        )
    return [match.group(1) for match in found if match]
