"""Images that a table lists, with their classes, groups and splits."""

import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from absl import logging

from jaxssl import files
from jaxssl.data import labels
from jaxssl.data.io import images, masks, table
from jaxssl.data.listing.labelling import (
    Labelling,
    check_labelling,
    find_several,
    parse_numbers,
    read_columns,
    split_labels,
)
from jaxssl.data.listing.listed import Listing, name_some
from jaxssl.errors import UserError, did_you_mean

COLUMNS = ("path", "label", "group", "split")  # Their default names.
# Other names of these columns, in the form of `labels.key`.
_SYNONYMS = {
    "path": {"file", "files", "filename", "filepath", "image", "imageid", "imagename", "imagepath", "imagefile"}
    | {"img", "imgid", "imgname", "imgpath", "paths", "name", "id"},
    "label": {"labels", "class", "classname", "diagnosis", "dx", "target", "category"},
    "group": {"groups", "patient", "patientid", "patientname", "patientnumber", "patientno", "pid", "subject"}
    | {"subjectid", "participant", "participantid", "person", "personid", "lesion", "lesionid", "case", "caseid"},
    "split": {"splits", "set", "subset", "partition", "phase"},
}

Rows = list[tuple[str, dict[str, str]]]
DEFAULT = Labelling()


def list_images(
    root: Path,
    file: str,
    columns: Mapping[str, str],
    group_pattern: str = "",
    labelling: Labelling = DEFAULT,
) -> Listing:
    """List the images of a table.

    Args:
      root: the folder that the paths are relative to.
      file: path of the table, relative to `root` or absolute.
      columns: names in the table, by those of `COLUMNS`.
      group_pattern: see `labels.match_groups`; for a table without groups.
      labelling: how it gives labels.

    Raises:
      UserError: see `jaxssl.data.datasets.folder.load`.
    """
    place = _find_table(root, file)
    rows = table.read(place, (), optional=[name for name in columns.values() if name])
    head = list(rows[0][1])
    check_labelling(labelling)
    if labelling.columns:
        columns = {**columns, "label": ""}
    used = _find_columns(root, place, rows, columns, group_pattern)
    places = _read_paths(root, rows, used["path"])
    known = {what: [row.get(name, "") for _, row in rows] for what, name in used.items()}
    task, names, several = "single" if labelling.task == "auto" else labelling.task, (), []
    one_hot = [] if used["label"] or not columns["label"] else _find_one_hot(rows, [*used.values()])
    if labelling.several:
        task = "multi"
        names, several, one_hot = _read_several(place, rows, used, known["label"], labelling)
    elif task == "value":
        names = (_require_label(place, used["label"]),)
        several = parse_numbers([line for line, _ in rows], known["label"], used["label"])
        one_hot = []
    elif one_hot:
        logging.warning("%s: the columns %s are read as one-hot labels", place, name_some(one_hot))
        known["label"] = [next(name for name in one_hot if float(row[name])) for _, row in rows]
    official, classes, groups = _parse(rows, used, known | ({"label": [""] * len(rows)} if names else {}))
    classes = several if names else classes
    if group_pattern:
        if groups:
            raise UserError(
                f"data.options.group_pattern and the column '{used['group']}' both give groups: set one of "
                "data.options.group_pattern and data.options.group_column to ''",
                code="conflict",
                field="data.options.group_pattern",
            )
        groups = labels.match_groups(list(places), group_pattern)
    unused = [name for name in head if name not in (*used.values(), *one_hot)]
    unread = [f"columns of {place.name}: {name_some(unused)}"] if unused else []
    others = [path for path in images.find(root) if path.lower().endswith(images.EXTENSIONS) and path not in places]
    unread += [f"{len(others)} images that {place.name} does not list, such as {others[0]}"] if others else []
    unread += [
        f"words for 'no value' in the column {used[what]} of {place.name}: {name_some(words)}"
        for what in ("label", "group")
        if (words := sorted({value for value in known[what] if value and labels.is_missing(value)}))
    ]
    if not names and (one := find_several(known["label"])):
        unread.append(
            f"the separator in '{one}' in the column {used['label']} of {place.name}: each combination counts as a "
            "class of its own; data.options.label_separator reads several labels an image"
        )
    return Listing(list(places), official, classes, groups, tuple(unread), task, tuple(names))


def _find_table(root: Path, file: str) -> Path:
    """Return the path of a table. UserError if it is no file, or an image."""
    place = root / files.expand_user(file)
    if not place.is_file():
        raise UserError(
            f"data.options.table={file}: there is no file {place}; name one, relative to data.dir or absolute",
            code="missing",
            field="data.options.table",
        )
    if images.is_image(place):
        message = f"{place} is one image: name the folder with the class folders or the images, or a table"
        raise UserError(message, code="unsupported", field="data.dir")
    return place


def _require_label(place: Path, column: str) -> str:
    """Return the column of labels. UserError if there is none."""
    if not column:
        raise UserError(
            f"{place} has no column of labels: set data.options.label_column to that of the numbers",
            code="missing",
            field="data.options.label_column",
        )
    return column


def _read_several(
    place: Path, rows: Rows, used: Mapping[str, str], values: list[str], labelling: Labelling
) -> tuple[tuple[str, ...], list[str], list[str]]:
    """Return the names of several labels, the labels as texts, and the columns that they were read from."""
    if used["label"] and not labelling.columns:
        return *split_labels(values, used["label"], labelling.separator), []
    columns = list(labelling.columns) or _find_binary(rows, [*used.values()])
    if not columns:
        raise UserError(
            f"{place} has no columns of labels: set data.options.label_columns to those with 1, 0 and -1 (unknown)",
            code="missing",
            field="data.options.label_columns",
        )
    names, found = read_columns(rows, columns)
    logging.info("%s: the columns %s are read as labels", place, name_some(names))
    return names, found, list(names)


def _find_binary(rows: Rows, used: Sequence[str]) -> list[str]:
    """Return the columns that are not used otherwise and hold 1, 0, -1 or nothing."""
    marks = {"0", "1", "-1", "0.0", "1.0", "-1.0"}
    others = [name for name in rows[0][1] if name not in used]
    return [name for name in others if all(row[name] in marks or labels.is_missing(row[name]) for _, row in rows)]


def _parse(
    rows: Rows, used: Mapping[str, str], known: Mapping[str, list[str]]
) -> tuple[list[str] | None, list[str] | None, list[str] | None]:
    """Return splits, classes and groups; None for what no row has."""
    official = None
    if not all(map(labels.is_missing, known["split"])):
        official = labels.parse_splits([line for line, _ in rows], used["split"], known["split"])
    classes, groups = labels.parse_classes(known["label"]), labels.parse_values(known["group"])
    matched = labels.match_classes(classes, official, used["label"]) if any(classes) else None
    return official, matched, groups if any(groups) else None


def _find_one_hot(rows: Rows, used: Sequence[str]) -> list[str]:
    """Return columns of which each row has a single 1 and otherwise 0, if they plainly are labels.

    They are if there are three or more, or if they are the only two columns that are not used otherwise.
    """
    others = [name for name in rows[0][1] if name not in used]
    binary = [name for name in others if {row[name] for _, row in rows} <= {"0", "1", "0.0", "1.0"}]
    plain = len(binary) > 2 or (len(binary) == 2 and binary == others)
    return binary if plain and all(sum(float(row[name]) for name in binary) == 1 for _, row in rows) else []


def list_masks(root: Path, file: str, paths: Sequence[str], column: str) -> dict[str, str]:
    """Return the paths, or run lengths, of masks that a table lists by image; a missing value is no mask.

    Args:
      root: see `list_images`.
      file: likewise.
      paths: those of `list_images`.
      column: of the paths of the masks, or of their run lengths, see `io.masks.decode_kaggle`.

    Raises:
      UserError: the table has no such column, or a path leads out of the folder.
    """
    rows, index = table.read(root / files.expand_user(file), (), optional=[column]), _FileIndex(root)
    if column not in rows[0][1]:
        field, head = "data.options.mask_column", list(rows[0][1])
        raise UserError(
            f"{field} is '{column}': {did_you_mean(column, head)}the columns of {file} are {', '.join(head)}",
            code="unknown-name",
            field=field,
        )
    return {
        path: row[column] if masks.is_runs(row[column]) else _relative(root, line, row[column], index)
        for path, (line, row) in zip(paths, rows, strict=True)
        if not labels.is_missing(row[column])
    }


def check_unused(columns: Mapping[str, str]) -> None:
    """Raise UserError if a column is named although there is no table."""
    for what, name in columns.items():
        if name != what:
            raise UserError(
                f"data.options.{what}_column={name!r} is of a table: set data.options.table to its path",
                code="conflict",
                field=f"data.options.{what}_column",
            )


def _find_columns(
    root: Path, place: Path, rows: Rows, columns: Mapping[str, str], group_pattern: str
) -> dict[str, str]:
    """Return the names of the columns in the table, "" for those that it does not have.

    A column whose name differs in case or separators is found, and so is a usual name (`Patient`, `dx`) if the default
    is missing and only one column has such a name.
    """
    head, used = list(rows[0][1]), {}
    for what, name in columns.items():
        field = f"data.options.{what}_column"
        if name in head or (not name and what != "path"):
            used[what] = name
            continue
        synonyms = _SYNONYMS if name == what and not (what == "group" and group_pattern) else {}
        found = [one for one in labels.find_columns(head, name, synonyms) if one not in columns.values()]
        if what == "path" and len(found) > 1:
            index = _FileIndex(root)
            found = [one for one in found if index.find(rows[0][1][one])] or found
        if len(found) > 1:
            raise UserError(
                f"{field} is '{name}', and {place} has {' and '.join(found)}: which one is meant? Set {field}"
                + ("" if what == "path" else ", or set it to '' for none"),
                code="conflict",
                field=field,
            )
        if not found and (what == "path" or name != what):
            raise UserError(
                f"{field} is '{name}': {did_you_mean(name, head)}the columns of {place} are {', '.join(head)}",
                code="unknown-name",
                field=field,
            )
        used[what] = found[0] if found else ""
        if f"{used[what]} (2)" in head:
            message = f"{place} has two columns '{used[what]}', which is read as {what}: rename one"
            raise UserError(message, code="conflict", field=field)
        if found:
            logging.info("%s: the column %s is read as %s", place, found[0], what)
    return used


def _read_paths(root: Path, rows: Rows, column: str) -> dict[str, str]:
    """Return the place of each path in the table, by path relative to the folder. UserError if one is listed twice."""
    places: dict[str, str] = {}
    index, twice = _FileIndex(root), []
    for line, row in rows:
        path = _relative(root, line, row[column], index)
        if path in places:
            twice.append(f"{line}: {path} is listed in {places[path]} as well")
        places.setdefault(path, line)
    if twice:
        more = f", as {len(twice)} paths are" if len(twice) > 1 else ""
        raise UserError(f"{twice[0]}{more}: keep one of the two", code="conflict", field=column)
    return places


def _without_extension(path: str) -> str:
    """Remove the extension of an image; a point in a name without one is kept."""
    found = [extension for extension in images.EXTENSIONS if path.endswith(extension)]
    return path[: -len(max(found, key=len))] if found else path


class _FileIndex:
    """The files of a folder by the ways in which tables name them; listed when they are needed."""

    # From strict to loose: each must give one file.
    _FORMS: tuple[Callable[[str], str], ...] = (
        lambda path: unicodedata.normalize("NFC", path),
        lambda path: unicodedata.normalize("NFKC", path).casefold(),
        lambda path: _without_extension(unicodedata.normalize("NFKC", path).casefold()),
        lambda path: PurePosixPath(unicodedata.normalize("NFKC", path).casefold()).name,
        lambda path: _without_extension(PurePosixPath(unicodedata.normalize("NFKC", path).casefold()).name),
    )
    _NAMES = 3  # The first of those that leave out folders.

    def __init__(self, root: Path):
        self.root = root
        self.tables: list[dict[str, list[str]]] | None = None

    def find(self, path: str) -> str | None:
        """Return the file that a path of a table plainly means, None if there is none or more than one."""
        if not path:
            return None
        if os.path.isfile(self.root / path):  # False, too, for a text that is too long for a path.
            return path
        if self.tables is None:
            self.tables = self._build()
        for level, (form, table_of) in enumerate(zip(self._FORMS, self.tables, strict=True)):
            found = table_of.get(form(path), [])
            if level >= self._NAMES:  # The folders that the table gives must be those of the file.
                folder = f"/{self._FORMS[1](path)}".rpartition("/")[0]
                found = [file for file in found if f"/{self._FORMS[1](file)}".rpartition("/")[0].endswith(folder)]
            if found:
                return found[0] if len(found) == 1 else None
        return None

    def _build(self) -> list[dict[str, list[str]]]:
        tables: list[dict[str, list[str]]] = [{} for _ in self._FORMS]
        for file in images.find(self.root):
            if images.is_image(self.root / file):
                for form, table_of in zip(self._FORMS, tables, strict=True):
                    table_of.setdefault(form(file), []).append(file)
        return tables


def _relative(root: Path, line: str, path: str, index: _FileIndex) -> str:
    """Return a path relative to the folder, with "/". UserError if it is empty or leads out of the folder."""
    if not path:
        raise UserError(f"{line} has no path: fill it in, or delete the line", code="missing", field=line)
    if "://" in path:
        message = f"{line}: {path} is an address: download the images, and give their paths"
        raise UserError(message, code="unsupported", field=line)
    base = os.path.abspath(root)
    relative = Path(os.path.relpath(os.path.join(base, path.replace("\\", "/")), base))
    windows = len(path) > 2 and path[1] == ":" and path[2] in "\\/"
    if windows or relative.parts[:1] in ((), ("..",)):
        raise UserError(
            f"{line}: {path} leads out of data.dir={root}: give a path relative to that folder",
            code="unsupported",
            field=line,
        )
    return index.find(relative.as_posix()) or relative.as_posix()
