"""Labels in the columns of a table: several labels an image, or values."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxssl.data import labels
from jaxssl.data.source import UNLABELLED
from jaxssl.errors import UserError, did_you_mean

_SEVERAL = re.compile(r"[^\d\s|;][^|;]*([|;])[^|;]*[^\s|;]")
_YES = frozenset({"1", "1.0", "true", "yes", "positive"})
_NO = frozenset({"0", "0.0", "false", "no", "negative"})
_NONE = frozenset({"nofinding", "nofindings"})  # By `labels.key`; all labels are absent.
Rows = Sequence[tuple[str, Mapping[str, str]]]


class Labelling(NamedTuple):
    """How a table gives labels.

    Attributes:
      task: see `data.task`.
      columns: one for each of several labels.
      separator: between several labels in one column.
    """

    task: str = "auto"
    columns: tuple[str, ...] = ()
    separator: str = ""

    @property
    def several(self) -> bool:
        """Return whether images may have several labels."""
        return self.task == "multi" or (self.task == "auto" and bool(self.columns or self.separator))


def check_labelling(labelling: Labelling) -> None:
    """Raise UserError if columns or a separator are given for a task that has none."""
    given = {"label_columns": labelling.columns, "label_separator": labelling.separator}
    for name, value in given.items():
        if value and not (labelling.several or (name == "label_columns" and labelling.task == "single")):
            raise UserError(
                f"data.options.{name}={value!r} is of several labels an image, and data.task={labelling.task!r}: set "
                "that to 'multi', or data.options.label_column to one column",
                code="conflict",
                field=f"data.options.{name}",
            )


def read_columns(rows: Rows, columns: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return names and labels from a column for each label: 1 has it, 0 not; -1, empty or "NA" is unknown.

    Returns:
      The names of the columns as they are in the table, and a text for each image, see `format_row`.

    Raises:
      UserError: a column is not there, or holds something else.
    """
    head, field = list(rows[0][1]), "data.options.label_columns"
    names = []
    for column in columns:
        found = [column] if column in head else labels.find_columns(head, column, {})
        if len(found) != 1:
            raise UserError(
                f"{field} has '{column}': {did_you_mean(column, head)}the columns are {', '.join(head)}",
                code="unknown-name",
                field=field,
            )
        names += found
    labels.check_label_names(names, field)
    if len(names) < 2 or len(set(names)) < len(names):
        raise UserError(
            f"{field}={', '.join(columns)}: name two different columns or more", code="too-few", field=field
        )
    return tuple(names), [format_row([_parse_mark(line, name, row[name]) for name in names]) for line, row in rows]


def _parse_mark(line: str, column: str, value: str) -> int:
    text = value.strip().casefold()
    if text in _YES or text in _NO:
        return int(text in _YES)
    if labels.is_missing(text) or text in ("-1", "-1.0"):
        return UNLABELLED
    raise UserError(
        f"{line}: {column} is '{value}': it must be 1 or 0, and -1 or empty where it is unknown",
        code="out-of-range",
        field=column,
    )


def split_labels(values: Sequence[str], column: str, separator: str) -> tuple[tuple[str, ...], list[str]]:
    """Return names and labels from one column, in which a separator divides the labels that an image has.

    An empty one is unknown; "No Finding" has none of the labels.

    Args:
      values: of the column.
      column: its name.
      separator: "" for "|" or ";", whichever occurs.

    Raises:
      UserError: no value has the separator, or there is one label only.
    """
    field = "data.options.label_separator"
    separator = separator or next((mark for mark in "|;" if any(mark in value for value in values)), "|")
    parts = [[part.strip() for part in value.split(separator) if part.strip()] for value in values]
    known = [not labels.is_missing(value) for value in values]
    names = sorted(
        {name for of, here in zip(parts, known, strict=True) if here for name in of if labels.key(name) not in _NONE}
    )
    if not any(separator in value for value in values) or len(names) < 2:
        raise UserError(
            f"{field}={separator!r} divides no value of '{column}': set it to what separates several labels, or "
            "data.options.label_columns to the columns of the labels",
            code="mismatch",
            field=field,
        )
    labels.check_label_names(names, column)
    unknown = format_row([UNLABELLED] * len(names))
    return tuple(names), [
        format_row([int(name in of) for name in names]) if here else unknown
        for of, here in zip(parts, known, strict=True)
    ]


def find_several(values: Sequence[str]) -> str:
    """Return a value that looks like several labels in one, such as "Effusion|Mass"; "" if there is none."""
    return next((value for value in values if _SEVERAL.fullmatch(value.strip())), "")


def parse_numbers(places: Sequence[str], values: Sequence[str], column: str) -> list[str]:
    """Return numbers as texts, "" where there is none. UserError for what is no finite number."""
    for place, value in zip(places, values, strict=True):
        try:
            finite = labels.is_missing(value) or math.isfinite(float(value))
        except ValueError:
            finite = False
        if not finite:
            raise UserError(
                f"{place}: {column} is '{value}': data.task='value' needs a number, or nothing where it is unknown",
                code="out-of-range",
                field=column,
            )
    return ["" if labels.is_missing(value) else value.strip() for value in values]


def format_row(marks: Sequence[int]) -> str:
    """Return the marks of one image as one text, "" if all are unknown."""
    return " ".join(map(str, marks)) if any(mark != UNLABELLED for mark in marks) else ""


def parse_row(text: str, width: int) -> list[int]:
    """Return the marks of `format_row`."""
    return list(map(int, text.split())) or [UNLABELLED] * width
