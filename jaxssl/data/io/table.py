"""Tables of what is known of images: text files with values separated by commas, semicolons, tabs or bars."""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from absl import logging

from jaxssl.errors import UserError
from jaxssl.files import open_regular

MAX_BYTES = 2**28  # Millions of rows; some times as much is needed to read them.
MAX_COLUMNS = 10_000
_SEPARATORS = "\t,;|"
_SEPARATOR = re.compile(r'\s*"?sep=([\t,;|])"?\s*$', re.IGNORECASE)


def read(
    path: Path, columns: Sequence[str], *, optional: Sequence[str] = (), remedy: str = "correct it"
) -> list[tuple[str, dict[str, str]]]:
    """Read the rows of a table; names and values are stripped of spaces.

    Args:
      path: a file in UTF-8, UTF-16 with a byte order mark, or Windows-1252. The first line that is not empty holds the
        names; it may follow a line such as `sep=;`. The separator is the comma, semicolon, tab or bar that occurs most
        often in it outside quotes.
      columns: required columns, with a value in each row.
      optional: columns that may be missing or empty, but must not occur twice.
      remedy: what the messages advise.

    Returns:
      Each row as its place, "<path> line <n>" for messages, and its values by column, "" where it has none; other
      columns "x" after the first are "x (2)" and so on. Empty rows are left out.

    Raises:
      UserError: the file cannot be read or is not text, a column or value is missing, a column occurs twice, a row has
        more values than there are names, or there are no rows.
    """
    skipped, delimiter, text = _read_text(path, remedy)
    csv.field_size_limit(MAX_BYTES)  # Run lengths of a mask may be longer than the 128 kB of the default.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        head = [name.strip() for name in next(reader, [])]
        if len(head) > MAX_COLUMNS:
            message = f"{path} has {len(head):,} columns, above the limit of {MAX_COLUMNS:,}: {remedy}"
            raise UserError(message, code="unsupported", field=str(path))
        _check_head(path, head, columns, optional, remedy)
        seen = Counter()
        for i, name in enumerate(head):
            seen[name] += 1
            head[i] = f"{name} ({seen[name]})" if name and seen[name] > 1 else name
        rows = [(f"{path} line {skipped + reader.line_num}", [value.strip() for value in line]) for line in reader]
    except csv.Error as error:
        raise UserError(
            f"{path} line {skipped + reader.line_num}: {error}: {remedy}", code="unreadable", field=str(path)
        ) from error
    found = [(place, _row(place, head, values, columns, remedy)) for place, values in rows if any(values)]
    if not found:
        raise UserError(f"{path} has no rows: {remedy}", code="too-few", field=str(path))
    return found


def _read_text(path: Path, remedy: str) -> tuple[int, str, str]:
    """Return the number of lines before the head, the separator, and the text from the head on."""
    try:
        with open_regular(path) as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", code="unreadable", field=str(path)) from error
    if len(content) > MAX_BYTES:
        message = f"{path} is larger than the limit of {MAX_BYTES // 2**20} MiB for a table: {remedy}"
        raise UserError(message, code="unsupported", field=str(path))
    if content.startswith((b"PK\3\4", b"\xd0\xcf\x11\xe0")):
        packed = path.suffix.lower() in (".zip", ".npz")
        what = "an archive: unpack it, and name the folder" if packed else "a workbook: save it as CSV"
        raise UserError(f"{path} is {what}", code="unsupported", field=str(path))
    try:
        text = _decode(path, content)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8: {remedy}", code="unreadable", field=str(path)) from error
    lines = text.splitlines(keepends=True)
    skipped = next((i for i, line in enumerate(lines) if line.strip()), 0)
    named = _SEPARATOR.match(lines[skipped]) if lines else None
    skipped += bool(named)
    head = re.sub(r'"[^"]*"', "", lines[skipped]) if skipped < len(lines) else ""
    return skipped, named[1] if named else max(_SEPARATORS, key=head.count), "".join(lines[skipped:])


def _decode(path: Path, content: bytes) -> str:
    """Decode UTF-8, UTF-16 with a byte order mark, or Windows-1252. UnicodeDecodeError if it is none of these."""
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        if is_utf16:
            raise
        text = content.decode("cp1252")
        logging.warning("%s is not in UTF-8: read as Windows-1252", path)
    if "\0" in text:
        raise UnicodeDecodeError("utf-8", content, 0, 1, "NUL")
    return text


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
