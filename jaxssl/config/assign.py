"""Set fields of a config from command-line assignments such as "--config.pretrain.epochs=20"."""

import difflib
import logging
from collections.abc import Collection, Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxssl.config import checks, fields
from jaxssl.config.adapt import adapt
from jaxssl.config.parse import parse_value
from jaxssl.errors import UserError

log = logging.getLogger(__name__)
PREFIX = "--config."
# Last parts of paths under which people look for a field.
FIELD_ALIASES = {
    "lr": "learning_rate",
    "wd": "weight_decay",
    "kw": "options",
    "optimiser": "optimizer",
    "accumulate": "gradient_accumulation",
    "least_steps": "min_steps_per_epoch",
    "per_256_images": "scale_learning_rate",
    "official": "use_official_split",
    "grayscale_probability": "grey_probability",
    "horizontal_flip": "flip_horizontal",
    "vertical_flip": "flip_vertical",
}


def parse_assignments(arguments: Sequence[str]) -> dict[str, str]:
    """Return {path: text} of assignments such as "--config.data.dir=DIR".

    Raises:
      UserError: an argument is not an assignment.
    """
    found: dict[str, str] = {}
    for argument in arguments:
        path, equals, text = argument.removeprefix(PREFIX).partition("=")
        if not equals and fields.BY_PATH.get(path) and isinstance(fields.BY_PATH[path].default, bool):
            text = "true"  # --config.pretrain.augment.rotate90
        elif not equals or not path or path.startswith("-"):
            raise UserError(
                f"{argument!r} sets no field: write --config.FIELD=VALUE, such as --config.pretrain.epochs=2",
                code="unknown-name",
                field=argument,
            )
        found.pop(path, None)
        found[path] = text
    return found


def assign(c: ConfigDict, texts: dict[str, str]) -> None:
    """Set fields of a config in place.

    Names (`data.name`, `model.name`, `pretrain.objective`) come first: with a new name, the options that the new
    dataset, encoder or objective also has are kept, the others are dropped, and its own defaults are added. What a new
    objective or encoder cannot work with is changed, see `adapt.adapt`.

    Args:
      c: the config.
      texts: {path: text of the value}.

    Raises:
      UserError: unknown field or option, or a value of the wrong type.
    """
    for name_path in fields.OPTIONS_OF:
        if name_path in texts:
            name = parse_value(name_path, texts[name_path], fields.find(name_path).default)
            _swap(c, name_path, name)
    fields.fill_options(c)
    if texts.keys() & fields.OPTIONS_OF:
        size = texts.get("data.image_size")
        if size is not None:
            _set(c, "data.image_size", size)
        adapt(c, texts, lambda encoder: (_swap(c, "model.name", encoder), fields.fill_options(c)))
    for path, text in texts.items():
        if path not in fields.OPTIONS_OF:
            _set(c, path, text)


def _swap(c: ConfigDict, name_path: str, name: str) -> None:
    """Change the dataset, encoder or objective, and keep of its options those that mean the same for the new one."""
    checks.check_choice(name_path, name, fields.find(name_path).choices or ())
    section, _, leaf = name_path.partition(".")
    old, c[section][leaf] = c[section][leaf], name
    if name == old:
        return
    known, options = fields.options(name_path, name), c[section].options.to_dict()
    kept = {k: v for k, v in options.items() if k in known and _same_meaning(name_path, old, name)}
    # A ConfigDict keeps the type of a value, and the new option may have another one.
    c[section].options = ConfigDict({k: v for k, v in kept.items() if _has_type(v, known[k])})
    if options:
        log.warning("%s", swapped(name_path, old, name, options, c[section].options.to_dict()))


def _same_meaning(name_path: str, old: str, new: str) -> bool:
    """Return whether equally named options mean the same; those of encoders do within one family alone."""
    if name_path != "model.name":
        return True
    modules = fields.models.available()
    return modules.get(old) == modules[new]


def _has_type(value: Any, default: Any) -> bool:
    try:
        checks.check_type("", value, default)
    except UserError:
        return False
    return True


def swapped(name_path: str, old: str, new: str, options: dict[str, Any], kept: dict[str, Any]) -> str:
    """Return the line that tells which options of a config were kept under another name."""

    def listed(values: dict[str, Any]) -> str:
        return ", ".join(f"{k}={v!r}" for k, v in values.items())

    dropped = {k: v for k, v in options.items() if k not in kept}
    path = fields.options_path(name_path)
    parts = [f"keeps {listed(kept)}"] * bool(kept) + [f"drops {listed(dropped)}, set for '{old}'"] * bool(dropped)
    return f"{name_path}={new}: {path} {' and '.join(parts)}"


def _set(c: ConfigDict, path: str, text: str) -> None:
    options_path = path.partition(".options.")[0] + ".options"
    name_path = next((p for p in fields.OPTIONS_OF if fields.options_path(p) == options_path), None)
    field = fields.BY_PATH.get(path)
    if name_path and path.startswith(f"{options_path}."):
        section, name = c[options_path], path.removeprefix(f"{options_path}.")
        value = _parse_option(c, name_path, name, text)
    elif field and not isinstance(field.default, ConfigDict):
        parent, _, name = path.rpartition(".")
        section, value = c[parent] if parent else c, parse_value(path, text, field.default, field.item)
    else:
        raise unknown_field(path)
    with section.ignore_type():
        section[name] = value


def _parse_option(c: ConfigDict, name_path: str, option: str, text: str) -> Any:
    name, options_path = c[name_path], fields.options_path(name_path)
    path, known = f"{options_path}.{option}", fields.options(name_path, name)
    if option not in known:
        raise checks.unknown_option(path, name, known)
    if known[option] is None:
        # The value in the config file has a type.
        return parse_value(path, text, c[path], optional=True)
    return parse_value(path, text, known[option])


def unknown_field(path: str) -> UserError:
    """Return the error for a path that is no field: with the field that it seems to mean, or those of its group."""
    group = path if path in fields.BY_PATH else _group_of(path)
    inside = [p for p in fields.BY_PATH if p.startswith(f"{group}." if group else "")]
    # Of the groups below this one, only the names.
    rests = ((p[len(group) + 1 :] if group else p).partition(".") for p in inside)
    names = dict.fromkeys(".".join(filter(None, (group, name))) + ".*" * bool(dot) for name, dot, _ in rests)
    meant = _meant(path, inside)
    if group == path:
        message = f"{path} is a group of fields: set one of them: {', '.join(names) or f'{path}.NAME'}"
    elif meant:
        message = f"{path} is not a field: did you mean '{meant}'?"
    else:
        # Of equal names the first that is least deep.
        leaves = {p.rpartition(".")[2]: p for p in sorted(reversed(inside), key=lambda p: -p.count("."))}
        close = difflib.get_close_matches(path.rpartition(".")[2], leaves, 1)
        hint = f"did you mean '{leaves[close[0]]}'? " if close else ""
        message = f"{path} is not a field: {hint}valid: {', '.join(names)}"
    return UserError(message, code="unknown-name", field=path)


def _group_of(path: str) -> str:
    """Return the innermost group of fields that holds a path, "" for none: "pretrain" for "pretrain.lr"."""
    parts = path.split(".")
    groups = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((group for group in groups if any(p.startswith(f"{group}.") for p in fields.BY_PATH)), "")


def _meant(path: str, inside: Collection[str]) -> str:
    """Return the field that a path means by another name, or in another group; "" if that is not certain."""
    renamed = ".".join(FIELD_ALIASES.get(part, part) for part in path.split("."))
    if renamed in fields.BY_PATH or (".options." in renamed and renamed != path):
        return renamed
    same_leaf = [p for p in inside if p.rpartition(".")[2] == renamed.rpartition(".")[2]]
    return same_leaf[0] if len(same_leaf) == 1 else ""
