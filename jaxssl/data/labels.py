"""Labels, groups and names of splits as people write them in tables and folders."""

import difflib
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from absl import logging

from jaxssl.errors import UserError, did_you_mean, escape_controls

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
# Words that name a split together with others: `seg_train`, `Test data`, `imagesTr`.
_SPLIT_WORDS = SPLITS | {
    **dict.fromkeys(("trn", "tr", "trainset", "traindata"), "train"),
    **dict.fromkeys(("dev", "devel", "development", "eval", "evaluation", "valset", "tune", "tuning"), "validation"),
    **dict.fromkeys(("tst", "ts", "te", "testset", "testdata", "holdout"), "test"),
}
_FILLERS = frozenset(
    {"set", "sets", "data", "dataset", "datasets", "image", "images", "img", "imgs", "picture", "pictures", "photos"}
    | {"seg", "cls", "split", "subset", "part", "folder", "files", "samples", "input", "inputs", "labels", "the"}
)
_UNLABELLED = frozenset({"unlabeled", "unlabelled", "unannotated", "unsupervised", "unsup", "nolabel", "nolabels"})
# Words for a value that is not known, as pandas, R, Excel and people write it.
_MISSING = frozenset(
    {"", "nan", "na", "n/a", "#n/a", "<na>", "nat", "none", "null", "nil", "?", "-", "--", ".", "unknown", "missing"}
    | {"not available", "not applicable", "undefined", "unlabeled", "unlabelled", "n.a."}
)
_WHOLE_FLOAT = re.compile(r"([+-]?\d{1,300})\.0*")
_CLOSE = 0.8  # Similarity of names that are probably the same.


def words(name: str) -> list[str]:
    """Split a name into lower-case words.

    >>> words("Test-data_2017"), words("imagesTr")
    (['test', 'data', '2017'], ['images', 'tr'])
    """
    text = unicodedata.normalize("NFKC", name)
    text = re.sub(r"(?<=[a-z])(?=[A-Z0-9])", " ", text)
    return [word.casefold() for word in re.findall(r"[^\W_]+", text)]


def key(name: str) -> str:
    """Return what is equal for names that differ in case, separators or Unicode form only."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())


def is_missing(value: str) -> bool:
    """Return whether a value of a table says that it is not known: empty, "nan", "NA", "None", "?", "unknown", ..."""
    return value.strip().casefold() in _MISSING


def find_split(name: str) -> str | None:
    """Return "train", "validation" or "test" for a name that plainly is one of a split, otherwise None.

    >>> find_split("seg_train"), find_split("Test data"), find_split("dev"), find_split("trained nurses")
    ('train', 'test', 'validation', None)
    """
    if name.lower() in SPLITS:
        return SPLITS[name.lower()]
    found = words(name)
    sides = {_SPLIT_WORDS[word] for word in found if word in _SPLIT_WORDS}
    rest = [word for word in found if word not in _SPLIT_WORDS]
    plain = all(word in _FILLERS or len(word) == 1 or word.isdecimal() for word in rest)
    return sides.pop() if len(sides) == 1 and plain else None


def is_unlabelled(name: str) -> bool:
    """Return whether a folder is named as one of images without labels."""
    return any(word in _UNLABELLED for word in words(name))


def parse_splits(places: Sequence[str], column: str, values: Sequence[str]) -> list[str]:
    """Return "train", "validation" or "test" for each name of a split in a table.

    Args:
      places: of the rows, for the message.
      column: name of the column.
      values: the names.

    Raises:
      UserError: a name is not known, or missing although others are given.
    """
    empty = [place for place, value in zip(places, values, strict=True) if is_missing(value)]
    if empty:
        raise UserError(
            f"{empty[0]}: {column} is empty, as in {len(empty)} of {len(values)} rows: fill it in, or set "
            "data.options.split_column to '' for a split by group",
            code="missing",
            field=column,
        )
    found = [find_split(value) for value in values]
    for place, value, side in zip(places, values, found, strict=True):
        if side is None:
            raise UserError(
                f"{place}: {column} is '{value}': {did_you_mean(value, SPLITS)}it must be one of {', '.join(SPLITS)}",
                code="unknown-name",
                field=column,
            )
    return [side for side in found if side]


def parse_values(values: Sequence[str]) -> list[str]:
    """Return names of classes or groups: words for "no value" become "", and 1.0 becomes 1, as pandas writes integers.

    >>> parse_values(["benign", "NA", "0.0", "0", "0.5"])
    ['benign', '', '0', '0', '0.5']
    """
    return [_parse_value(value.strip()) for value in values]


def _parse_value(value: str) -> str:
    if is_missing(value):
        return ""
    check_text(value)
    whole = _WHOLE_FLOAT.fullmatch(value)
    return str(int(whole[1])) if whole else value


def check_text(name: str) -> None:
    """Raise UserError for a name that could steer a terminal or turn the text around it."""
    if escape_controls(name) != name:
        raise UserError(f"the name {name!a} has control characters: rename it", code="unsupported", field=f"{name!a}")


def parse_classes(values: Sequence[str]) -> list[str]:
    """Return names of classes by `parse_values`; -1 becomes "" among two or more classes that are integers from 0."""
    found = parse_values(values)
    others = set(found) - {"", "-1"}
    return ["" if value == "-1" and len(others) > 1 and all(map(str.isdecimal, others)) else value for value in found]


def check_label_names(names: Sequence[str], field: str) -> None:
    """Raise UserError if a name of several labels cannot be told in predictions.csv, where "|" joins them."""
    for name in names:
        if not name or "|" in name or name.startswith("?"):
            raise UserError(
                f"{field}: the label {name!r} is empty, has '|' or begins with '?': rename it",
                code="unsupported",
                field=field,
            )


def sort_grades(classes: Sequence[str]) -> list[str]:
    """Sort ordered classes by the number at the beginning of their names. UserError if one has none, or two the same.

    >>> sort_grades(["10", "2 mild", "0"])
    ['0', '2 mild', '10']
    """
    numbers = {name: match.group() for name in classes if (match := re.match(r"-?\d+(\.\d+)?", name))}
    if len(set(map(float, numbers.values()))) < len(classes):
        raise UserError(
            f"data.task='ordinal': the classes {', '.join(classes)} have no order: let each name begin with a number "
            "of its own, such as '0 none' and '1 mild'",
            code="unsupported",
            field="data.task",
        )
    return sorted(classes, key=lambda name: float(numbers[name]))


def match_classes(classes: Sequence[str], official: Sequence[str] | None, where: str) -> list[str]:
    """Spell classes of validation and test as train does, where they differ in case, separators or Unicode form only.

    Args:
      classes: of each image, "" for none.
      official: split of each image, or None.
      where: field or file, for the message.

    Raises:
      UserError: a class that train lacks has nearly the name of one that only train has.
    """
    if official is None:
        return list(classes)
    of_split = {side: {c for c, s in zip(classes, official, strict=True) if s == side and c} for side in set(official)}
    train = of_split.get("train", set())
    spelling: dict[tuple[str, str], str] = {}
    for side, names in of_split.items():
        for name in sorted(names - train) if train else ():
            spelling[side, name] = _spell(name, side, train, names, where)
    return [spelling.get((side, name), name) for name, side in zip(classes, official, strict=True)]


def _spell(name: str, side: str, train: Collection[str], names: Collection[str], where: str) -> str:
    same = [other for other in train if key(other) == key(name)]
    if len(same) == 1:
        return same[0]
    free = sorted(set(train) - set(names))
    close = difflib.get_close_matches(key(name), [key(other) for other in free], 1, _CLOSE)
    if close:
        other = next(other for other in free if key(other) == close[0])
        raise UserError(
            f"{where}: {side} has the class '{name}' and train has '{other}': did you mean the same? Rename one, or "
            "add training images of the class",
            code="mismatch",
            field=where,
        )
    return name


def find_columns(head: Sequence[str], wanted: str, synonyms: Mapping[str, Collection[str]]) -> list[str]:
    """Return the columns that may be meant by a name: that name in another spelling, or else its synonyms.

    Args:
      head: names of the columns.
      wanted: the name.
      synonyms: by name, keys (see `key`) of other names for it.
    """
    same = [name for name in head if name and key(name) == key(wanted)]
    return same or [name for name in head if name and key(name) in synonyms.get(wanted, ())]


def fill_groups(found: Sequence[str], ids: Sequence[str], where: str) -> tuple[np.ndarray, bool]:
    """Return groups, with its id as that of an image which has none (""), and whether all have one; else a warning."""
    groups = np.array(found)
    missing = groups == ""
    if missing.any():
        logging.warning(
            "%s: %d of %d images have no group: each counts as a group of its own, and groups as unknown",
            *(where, missing.sum(), len(groups)),
        )
    return np.where(missing, ids, groups), not missing.any()


def match_groups(paths: Sequence[str], pattern: str, field: str = "data.options.group_pattern") -> list[str]:
    """Return what the one group of a regular expression matches in each path.

    Args:
      paths: the paths.
      pattern: the expression.
      field: the config field or flag that holds it, for the messages.

    Raises:
      UserError: it is not a regular expression, has another number of groups, or does not match a path.
    """
    compiled = compile_pattern(pattern, field)
    if compiled.groups != 1:
        raise UserError(
            f"{field}={pattern!r} has {compiled.groups} groups in brackets: give it one, such as '(patient\\d+)'",
            code="out-of-range",
            field=field,
        )
    found = [compiled.search(path) for path in paths]
    missed = [path for path, match in zip(paths, found, strict=True) if not match or not match.group(1)]
    if missed:
        raise UserError(
            f"{field}={pattern!r} does not match {len(missed)} of {len(paths)} paths, such as {missed[0]}: correct it",
            code="mismatch",
            field=field,
        )
    return [match.group(1) for match in found if match]


def compile_pattern(pattern: str, field: str) -> re.Pattern[str]:
    """Compile a regular expression. UserError, naming the field, if it is none."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(
            f"{field}={pattern!r} is not a regular expression: {error}", code="out-of-range", field=field
        ) from error
