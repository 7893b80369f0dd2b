"""Load a config by name or path, and set its fields from command-line assignments.

load_config("byol_ham:local", ["--config.data.manual_dir=data/ham10000", "--config.pretrain.epochs=20"])
"""

import difflib
import importlib.util
import inspect
import logging
import re
import sys
import traceback
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

import jaxssl
from jaxssl.config import checks, fields
from jaxssl.config.parse import parse_value
from jaxssl.errors import UserError, did_you_mean

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


def load_config(name: str, assignments: Sequence[str] = ()) -> ConfigDict:
    """Load a config and return it locked, with all options of its dataset, encoder and objective filled in.

    Args:
      name: name ("byol_ham") or path ("configs/byol_ham.py") of a config, its argument after a colon
        ("byol_ham:local").
      assignments: such as "--config.pretrain.epochs=20"; the prefix may be left out. The last one of a field wins.

    Raises:
      UserError: unknown config, argument, field or option; a value of the wrong type; an error in the config file.
    """
    c = call(name, "get_config")
    if not isinstance(c, ConfigDict):
        file, _ = find_config(name)
        raise UserError(
            f"{file}: get_config() returned {type(c).__name__}: it must return a ConfigDict",
            code="unsupported",
            field=str(file),
        )
    c = c.copy_and_resolve_references()
    assign(c, parse_assignments(assignments))
    return c.lock()


# Find and run a config file.


def configs_folder() -> Path:
    """Return the folder of the configs that come with jaxssl: `configs/` of a checkout, else `jaxssl.configs`."""
    checkout = Path(jaxssl.__file__).parents[1] / "configs"
    installed = Path(jaxssl.__file__).parent / "configs"
    return installed if installed.is_dir() else checkout


def available() -> dict[str, Path]:
    """Return {name: file} of the configs that come with jaxssl."""
    return {file.stem: file for file in sorted(configs_folder().glob("*.py")) if file.stem != "__init__"}


def split_argument(name: str) -> tuple[str, str]:
    """Split "byol_ham:local" or "configs/byol_ham.py:local" into the config and its argument."""
    match = re.fullmatch(r"(.*?\.py|.*?)(?::(.*))?", name, re.DOTALL)
    assert match
    return match[1], match[2] or ""


def find_config(name: str) -> tuple[Path, str]:
    """Return the file of a config and the argument for its `get_config`.

    Args:
      name: as for `load_config`.

    Raises:
      UserError: there is no such file, or no config of this name.
    """
    config, argument = split_argument(name)
    known = available()
    if not config.endswith(".py") and config in known:
        return known[config], argument
    file = Path(config).expanduser()
    if file.suffix == ".py" and file.is_file():
        return file, argument
    if file.suffix == ".py" or file.name != config:
        hint = did_you_mean(file.stem, known) or "give the path or the name of a config"
        message = f"--config={name}: there is no file {config}: {hint.rstrip()}"
        raise UserError(message, code="missing", field="--config")
    hint = f"did you mean '{config}.py'? " if Path(f"{config}.py").is_file() else did_you_mean(config, known)
    raise UserError(
        f"--config={name}: there is no config of this name: {hint}valid: {', '.join(known)}, or the path of a .py file",
        code="unknown-name",
        field="--config",
    )


def call(name: str, function: str) -> Any:
    """Call `get_config` or `sweep` of a config file with its argument and return the result.

    Args:
      name: as for `load_config`.
      function: name of the function in the file.

    Raises:
      UserError: the file cannot be found, fails, lacks the function, or refuses the argument.
    """
    file, argument = find_config(name)
    module = _import(file)
    if not hasattr(module, function):
        raise UserError(f"{file} has no function {function}(): define one", code="missing", field=str(file))
    make = getattr(module, function)
    if not inspect.signature(make, follow_wrapped=False).parameters:
        if argument and function == "get_config":
            raise UserError(
                f"--config={name}: get_config() of {file} takes no argument: leave out ':{argument}'",
                code="unknown-name",
                field="--config",
            )
        return _run(file, make)
    return _run(file, lambda: make(argument) if argument else make())


def _import(file: Path) -> ModuleType:
    name = f"jaxssl_config_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Dataclasses of the file look for it.
    _run(file, lambda: spec.loader.exec_module(module))
    return module


def _run(file: Path, function: Callable[[], Any]) -> Any:
    """Run code of a config file; its errors become UserErrors that name the file and the line."""
    try:
        return function()
    except UserError:
        raise
    except SyntaxError as error:
        where, line = error.filename or file, error.lineno
        message = error.msg
    except Exception as error:
        inside = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        where, line = file, inside[-1].lineno if inside else None
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        message = f"{type(error).__name__}: {' '.join(str(text).split())}"
        cause: Exception = error
        raise _config_error(where, line, message) from cause
    raise _config_error(where, line, message)


def _config_error(file: str | Path, line: int | None, message: str) -> UserError:
    where = f"{file}, line {line}" if line else f"{file}"
    return UserError(f"{where}: {message}", code="unreadable", field=str(file))


# Set fields.


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
        elif not equals or path.startswith("-"):
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
    dataset, encoder or objective also has are kept, the others are dropped, and its own defaults are added.

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
    section, name = c, path
    if ".options." in path:
        parent, _, name = path.partition(".options.")
        name_path = next((p for p in fields.OPTIONS_OF if fields.options_path(p) == f"{parent}.options"), None)
        if name_path is None:
            raise unknown_field(path)
        section = c[parent].options
        known = fields.options(name_path, c[parent][name_path.rpartition(".")[2]])
        if name not in known:
            raise checks.unknown_option(path, c[parent][name_path.rpartition(".")[2]], known)
        default = section[name] if known[name] is None and section[name] is not None else known[name]
        value = parse_value(path, text, default, optional=known[name] is None)
    else:
        field = fields.BY_PATH.get(path)
        if field is None or isinstance(field.default, ConfigDict):
            raise unknown_field(path)
        value = parse_value(path, text, field.default, field.item)
        *parents, name = path.split(".")
        for parent in parents:
            section = section[parent]
    with section.ignore_type():
        section[name] = value


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
