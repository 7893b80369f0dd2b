"""Images that a table lists, with their classes, groups and splits."""

import os
from collections.abc import Mapping
from pathlib import Path

from jaxssl.data import labels
from jaxssl.data.io import table
from jaxssl.data.listing.listed import Listing
from jaxssl.errors import UserError, did_you_mean

COLUMNS = ("path", "label", "group", "split")  # Their default names.


def list_images(root: Path, file: str, columns: Mapping[str, str], group_pattern: str = "") -> Listing:
    """List the images of a table.

    Args:
      root: the folder that the paths are relative to.
      file: path of the table, relative to `root` or absolute.
      columns: names in the table, by those of `COLUMNS`.
      group_pattern: see `labels.match_groups`; for a table without groups.

    Raises:
      UserError: see `jaxssl.data.datasets.folder.load`.
    """
    place = root / Path(file).expanduser()
    if not place.is_file():
        raise UserError(
            f"data.options.table={file}: there is no file {place}; name one, relative to data.dir or absolute",
            code="missing",
            field="data.options.table",
        )
    rows = table.read(place, (), optional=[name for name in columns.values() if name])
    _check_columns(place, columns, list(rows[0][1]))
    places: dict[str, str] = {}
    for line, row in rows:
        path = _relative(root, line, row[columns["path"]])
        if path in places:
            raise UserError(
                f"{line}: {path} is listed in {places[path]} as well: keep one of the two",
                code="conflict",
                field=columns["path"],
            )
        places[path] = line
    known = {what: [row.get(name, "") for _, row in rows] for what, name in columns.items()}
    official, classes, groups = (known[what] if any(known[what]) else None for what in ("split", "label", "group"))
    if official:
        named = zip(places.values(), official, strict=True)
        official = [labels.parse_split(line, columns["split"], value) for line, value in named]
    if group_pattern:
        if groups:
            raise UserError(
                f"data.options.group_pattern and the column '{columns['group']}' both give groups: set one of "
                "data.options.group_pattern and data.options.group_column to ''",
                code="conflict",
                field="data.options.group_pattern",
            )
        groups = labels.match_groups(list(places), group_pattern)
    return Listing(list(places), official, classes, groups)


def check_unused(columns: Mapping[str, str]) -> None:
    """Raise UserError if a column is named although there is no table."""
    for what, name in columns.items():
        if name != what:
            raise UserError(
                f"data.options.{what}_column={name!r} is of a table: set data.options.table to its path",
                code="conflict",
                field=f"data.options.{what}_column",
            )


def _check_columns(place: Path, columns: Mapping[str, str], head: list[str]) -> None:
    for what, name in columns.items():
        if name not in head and (what == "path" or name not in (what, "")):
            field = f"data.options.{what}_column"
            raise UserError(
                f"{field} is '{name}': {did_you_mean(name, head)}the columns of {place} are {', '.join(head)}",
                code="unknown-name",
                field=field,
            )


def _relative(root: Path, line: str, path: str) -> str:
    """Return a path relative to the folder, with "/". UserError if it is empty or leads out of the folder."""
    if not path:
        raise UserError(f"{line} has no path: fill it in, or delete the line", code="missing", field=line)
    base = os.path.abspath(root)
    relative = Path(os.path.relpath(os.path.join(base, path.replace("\\", "/")), base))
    if relative.parts[:1] in ((), ("..",)):
        raise UserError(
            f"{line}: {path} leads out of data.dir={root}: give a path relative to that folder",
            code="unsupported",
            field=line,
        )
    return relative.as_posix()
