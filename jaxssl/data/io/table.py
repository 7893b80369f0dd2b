"""Tables of what is known of images: text files with values separated by commas, semicolons or tabs."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from jaxssl.errors import UserError


def read(
    path: Path, columns: Sequence[str], *, optional: Sequence[str] = (), remedy: str = "correct it"
) -> list[tuple[str, dict[str, str]]]:
    """Read the rows of a table; names and values are stripped of spaces.

    Args:
      path: a file in UTF-8, with or without a byte order mark. The first line holds the names, and the separator that
        occurs most often in it separates the values.
      columns: required columns, with a value in each row.
      optional: columns that may be missing or empty, but must not occur twice.
      remedy: what the messages advise.

    Returns:
      Each row as its place, "<path> line <n>" for messages, and its values by column, "" where it has none. Empty rows
      are left out.

    Raises:
      UserError: the file cannot be read or is not text, a column or value is missing, a column occurs twice, a row has
        more values than there are names, or there are no rows.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8: {remedy}", code="unreadable", field=str(path)) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", code="unreadable", field=str(path)) from error
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max("\t,;", key=first.count), strict=True)
    try:
        head = [name.strip() for name in next(reader, [])]
        _check_head(path, head, columns, optional, remedy)
        rows = [(f"{path} line {reader.line_num}", [value.strip() for value in line]) for line in reader]
    except csv.Error as error:
        raise UserError(
            f"{path} line {reader.line_num}: {error}: {remedy}", code="unreadable", field=str(path)
        ) from error
    found = [(place, _row(place, head, values, columns, remedy)) for place, values in rows if any(values)]
    if not found:
        raise UserError(f"{path} has no rows: {remedy}", code="too-few", field=str(path))
    return found


def _check_head(path: Path, head: list[str], columns: Sequence[str], optional: Sequence[str], remedy: str) -> None:
    absent = [name for name in columns if name not in head]
    if absent:
        raise UserError(
            f"{path} has no column '{absent[0]}' among {', '.join(filter(None, head))}: {remedy}",
            code="missing",
            field=absent[0],
        )
    twice = [name for name in (*columns, *optional) if head.count(name) > 1]
    if twice:
        raise UserError(
            f"{path} has {head.count(twice[0])} columns '{twice[0]}': {remedy}", code="conflict", field=twice[0]
        )


def _row(place: str, head: list[str], values: list[str], columns: Sequence[str], remedy: str) -> dict[str, str]:
    if any(values[len(head) :]):
        raise UserError(
            f"{place} has {len(values)} values for {len(head)} columns: {remedy}", code="mismatch", field=place
        )
    row = {name: values[i] if i < len(values) else "" for i, name in enumerate(head) if name}
    if not all(row[name] for name in columns):
        raise UserError(f"{place} lacks one of {', '.join(columns)}: {remedy}", code="missing", field=place)
    return row
