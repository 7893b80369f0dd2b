"""Text cells of CSV files that a spreadsheet would take for formulas: marked when written, and equal when read back."""

import re
from collections.abc import Iterable
from typing import Any

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


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and text == text.strip()
