"""Tables of what is known of images: files of values separated by commas, semicolons or tabs."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from jaxssl.errors import UserError


def read(
    path: Path, columns: Sequence[str], *, optional: Sequence[str] = (), mend: str = "mend it"
) -> list[tuple[str, dict[str, str]]]:
    """The rows of a table; names and values lose the spaces around them.

    Args:
      path: of a file in UTF-8, with or without its mark at the start. The first line holds the names, and that
        separator divides the values of which it has most.
      columns: those that must be there, with a value in each row.
      optional: those that may be missing or empty, but not stand there twice.
      mend: what the messages advise.

    Returns:
      Each row as its place, "<path> line <n>" for messages, and its values by column, "" where it has none. Empty rows
      are left out.

    Raises:
      UserError: a file that cannot be read or is not text, a column or value that is missing, a column that stands
        there twice, a row with more values than there are names, or no rows.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8: {mend}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max("\t,;", key=first.count), strict=True)
    try:
        head = [name.strip() for name in next(reader, [])]
        _check_head(path, head, columns, optional, mend)
        rows = [(f"{path} line {reader.line_num}", [value.strip() for value in line]) for line in reader]
    except csv.Error as error:
        raise UserError(f"{path} line {reader.line_num}: {error}: {mend}") from error
    found = [(place, _row(place, head, values, columns, mend)) for place, values in rows if any(values)]
    if not found:
        raise UserError(f"{path} has no rows: {mend}")
    return found


def _check_head(path: Path, head: list[str], columns: Sequence[str], optional: Sequence[str], mend: str) -> None:
    absent = [name for name in columns if name not in head]
    if absent:
        raise UserError(f"{path} has no column '{absent[0]}' among {', '.join(filter(None, head))}: {mend}")
    twice = [name for name in (*columns, *optional) if head.count(name) > 1]
    if twice:
        raise UserError(f"{path} has {head.count(twice[0])} columns '{twice[0]}': {mend}")


def _row(place: str, head: list[str], values: list[str], columns: Sequence[str], mend: str) -> dict[str, str]:
    if any(values[len(head) :]):
        raise UserError(f"{place} has {len(values)} values for {len(head)} columns: {mend}")
    row = {name: values[i] if i < len(values) else "" for i, name in enumerate(head) if name}
    if not all(row[name] for name in columns):
        raise UserError(f"{place} lacks one of {', '.join(columns)}: {mend}")
    return row
