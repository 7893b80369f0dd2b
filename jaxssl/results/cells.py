"""CSV files of a run: cells that a spreadsheet would take for formulas are marked, and equal when read back."""

import csv
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from jaxssl import files
from jaxssl.errors import UserError

T = TypeVar("T")
Row = list[str]
# What a spreadsheet evaluates, also after marks of this kind.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def escape_cell(value: Any) -> Any:
    """Return a cell with an apostrophe before text that a spreadsheet would evaluate; numbers stay.

    >>> escape_cell("=cmd|' /C calc'!A0"), escape_cell("benign"), escape_cell("-0.5")
    ("'=cmd|' /C calc'!A0", 'benign', '-0.5')
    """
    if not isinstance(value, str) or not _FORMULA.match(value) or _is_number(value):
        return value
    return f"'{value}"


def escape_row(row: Iterable[Any]) -> list[Any]:
    """Return the row with each cell escaped."""
    return [escape_cell(value) for value in row]


def unescape_cell(text: str) -> str:
    """Return what `escape_cell` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text[1:]) else text


def parse_rows(file: Path, parse: Callable[[dict[str, list[Row]]], T]) -> T:
    """Return what `parse` makes of the rows of a file by their evaluation, the first cell; cells are still escaped.

    Raises:
      UserError: the file cannot be read, or `parse` raises KeyError, IndexError or ValueError.
    """
    rows: dict[str, list[Row]] = {}
    try:
        with files.open_text(file) as stream:
            lines = csv.reader(stream)
            next(lines, None)
            for row in lines:
                rows.setdefault(unescape_cell(row[0]), []).append(row)
        return parse(rows)
    except OSError as error:
        raise UserError(
            f"{file} cannot be read: {error.strerror}; run the command of the run again to write it",
            code="missing",
            field=str(file),
        ) from error
    except (KeyError, IndexError, ValueError, csv.Error) as error:
        raise UserError(
            f"{file} does not agree with results.json ({error}); run the command of the run again to write both",
            code="damaged",
            field=str(file),
        ) from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and text == text.strip()
