"""Lists the fields of every file for the manual, and compares files with their schema."""

import contextlib
import typing
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

from jaxssl import files
from jaxssl.errors import UserError
from jaxssl.results import audit_schema, schema, score_schema, study_schema

# Objects of the same few fields everywhere: described once, by name.
_LEAVES = (schema.Estimate, study_schema.Interval)
# The type of each file.
FILES: dict[str, Any] = {
    "results.json": schema.Results,
    "evaluations/<name>.json": schema.Evaluation,
    "evaluations/episodes_<init>.json": schema.EpisodesOfInit,
    "config.json": schema.RunConfig,
    "splits.json": schema.Splits,
    "audit.json": audit_schema.Audit,
    "audit.json (data audit)": audit_schema.FileAudit,
    "metrics.jsonl": schema.MetricsRow,
    "predictions.csv": schema.PredictionRow,
    "segmentations.csv": schema.SegmentationRow,
    "compare.json": study_schema.Study,
    "sweep.json": study_schema.Sweep,
    "score.json": score_schema.Score,
    "score.json (masks and boxes)": score_schema.MaskScore,
}
# Files without fields, and what they hold.
OTHER_FILES = {
    "report.html": "The report of a run or a study, one page that needs no network.",
    "gallery.npz": "Images of the report: views, reconstructions, neighbors, mistakes, heat maps, masks, feature map.",
    "compare_arms.csv, compare_differences.csv": "The arms and the differences of compare.json, as tables.",
    "evaluations/<name>.csv": "The rows of one evaluation in predictions.csv, or of masks in segmentations.csv.",
    "evaluations/<name>.npz": "Predicted masks of the test images: `ids` [N], `masks` [N, S, S] uint8.",
    "evaluations/<name>.sha256.json": "Their checksums; an evaluation that does not match them is computed again.",
    "parameters.txt": "Names, shapes and sizes of the variables of the encoder.",
    "checkpoints/": "Orbax checkpoints: one folder per phase, `encoder` for the pretrained encoder.",
    "tensorboard/": "Event files of TensorBoard.",
}


class Field(NamedTuple):
    """One field of a file: its path, its type in words and its meaning."""

    path: str
    type: str
    meaning: str


class FileDescription(NamedTuple):
    """A file, its schema version (None if it has none), what it holds, and its fields in order."""

    name: str
    version: int | None
    about: str
    fields: list[Field]


def describe() -> list[FileDescription]:
    """Return the description of every file, for the manual."""
    return [
        FileDescription(name, schema.VERSIONS.get(name.partition(" ")[0]), about(kind), list(_fields(kind, "")))
        for name, kind in FILES.items()
    ]


def to_markdown() -> str:
    """Return the description of every file as Markdown, for the manual."""
    lines = ["| file | content |", "|---|---|"]
    lines += [f"| `{name}` | {text} |" for name, text in OTHER_FILES.items()]
    for file in describe():
        version = "" if file.version is None else f" `schema_version` is {file.version}."
        lines += ["", f"## {file.name}", "", file.about + version, "", "| field | type | meaning |", "|---|---|---|"]
        for field in file.fields:
            kind, meaning = (text.replace("|", "\\|").replace("<", "&lt;") for text in (field.type, field.meaning))
            lines.append(f"| `{field.path}` | {kind} | {meaning} |")
    return "\n".join(lines) + "\n"


def check(content: Any, kind: Any, path: str = "") -> list[str]:
    """Return how `content` differs from a type of the schema, a line each: missing or unknown keys and wrong types."""
    kind, _ = _unwrap(kind)
    if kind is Any:
        return []
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if typing.is_typeddict(kind):
        if not isinstance(content, dict):
            return [f"{path}: not an object"]
        hints = typing.get_type_hints(kind, include_extras=True)
        lines = [f"{path}.{key}: missing" for key in sorted(kind.__required_keys__ - content.keys())]
        lines += [f"{path}.{key}: unknown" for key in content.keys() - hints.keys()]
        return lines + [
            line for key, hint in hints.items() if key in content for line in check(content[key], hint, f"{path}.{key}")
        ]
    if origin is list:
        if not isinstance(content, list):
            return [f"{path}: not a list"]
        return [line for i, of in enumerate(content) for line in check(of, arguments[0], f"{path}[{i}]")]
    if origin is dict:
        if not isinstance(content, dict):
            return [f"{path}: not an object"]
        return [line for key, of in content.items() for line in check(of, arguments[1], f"{path}.{key}")]
    if origin in (typing.Union, UnionType):
        faults = [check(content, option, path) for option in arguments]
        return min(faults, key=len)
    if origin is Literal:
        return [] if content in arguments else [f"{path}: {content!r} is not one of {arguments}"]
    allowed = {float: (float, int), int: int, str: str, bool: bool, NoneType: NoneType}[kind]
    fits = isinstance(content, allowed) and (kind is bool or not isinstance(content, bool))
    return [] if fits else [f"{path}: {content!r} is no {kind.__name__}"]


def find_faults(content: Any, kind: Any) -> list[str]:
    """Return what `check` finds but for unknown keys, which other versions may have written."""
    return [line for line in check(content, kind) if not line.endswith(": unknown")]


def find_damage(folder: Path) -> str:
    """Return which JSON file of the runs in a folder is not of its schema, and how; "" if all are."""
    for file in sorted(folder.rglob("*.json")):
        name = "episodes_<init>.json" if file.name.startswith("episodes_") else "<name>.json"
        kind = FILES.get(f"evaluations/{name}" if file.parent.name == "evaluations" else file.name)
        if kind is None or file.name.endswith(".sha256.json"):
            continue
        try:
            faults = find_faults(files.load_json(file), kind)
        except (OSError, ValueError) as error:
            return f"{file}: {error}"
        if faults:
            return f"{file}: {faults[0].removeprefix('.')}"
    return ""


@contextlib.contextmanager
def damage_errors(folder: Path) -> Iterator[None]:
    """Turn an error of files that are damaged, or do not fit together, such as of two runs, into a UserError."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = find_damage(folder) or f"{folder}: its files are not of one jaxssl run, or damaged: {error!r}"
        raise damaged(reason, folder) from error


def damaged(reason: str, folder: Path) -> UserError:
    """Return the error of a folder whose files are damaged."""
    message = f"{reason}: copy the files back, or run the experiment again in a new workdir"
    return UserError(message, code="damaged", field=str(folder))


def about(kind: Any) -> str:
    """Return the first line of a type's docstring; "" for one without."""
    text = kind.__doc__ or ""
    return "" if text.startswith("dict(") else text.partition("\n")[0]


def _unwrap(hint: Any) -> tuple[Any, str]:
    """Return the type inside Annotated, Required and NotRequired, and its meaning."""
    meaning = ""
    while (origin := typing.get_origin(hint)) in (Annotated, NotRequired, typing.Required):
        if origin is Annotated:
            meaning = meaning or hint.__metadata__[0]
            hint = hint.__origin__
        else:
            (hint,) = typing.get_args(hint)
    return hint, meaning


def _fields(kind: Any, path: str) -> Iterator[Field]:
    for key, hint in typing.get_type_hints(kind, include_extras=True).items():
        hint, meaning = _unwrap(hint)
        yield from _describe(f"{path}{key}", hint, meaning)


def _describe(path: str, hint: Any, meaning: str) -> Iterator[Field]:
    """Yield the field, then those of the object, or of the objects in the list or the mapping, that it holds."""
    inner, place = hint, path
    while True:
        inner, _ = _unwrap(inner)
        origin, arguments = typing.get_origin(inner), typing.get_args(inner)
        if origin is list:
            inner, place = arguments[0], f"{place}[]"
        elif origin is dict:
            inner, place = arguments[1], f"{place}.<{_unwrap(arguments[0])[1] or 'key'}>"
        elif origin in (typing.Union, UnionType) and typing.is_typeddict(arguments[0]):
            inner = arguments[0]
        else:
            break
    nested = typing.is_typeddict(inner)
    yield Field(path, _type_name(hint), meaning or (about(inner).rstrip(".") if nested else ""))
    if nested and inner not in _LEAVES:
        yield from _fields(inner, f"{place}.")


def _type_name(hint: Any) -> str:
    hint, _ = _unwrap(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is list:
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return f"{_type_name(arguments[1])} by {_unwrap(arguments[0])[1] or 'key'}"
    if origin in (typing.Union, UnionType):
        return " or ".join(map(_type_name, arguments))
    if origin is Literal:
        return " or ".join(f'"{value}"' for value in arguments)
    names = {float: "number", int: "integer", str: "text", bool: "true or false", NoneType: "null", Any: "any"}
    return names.get(hint) or (hint.__name__.lower() if hint in _LEAVES else "object")
