"""Load a config by name or path.

load_config("byol_ham:local", ["--config.data.manual_dir=data/ham10000", "--config.pretrain.epochs=20"])
"""

import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from jaxssl import files
from jaxssl.config import fields
from jaxssl.config.assign import assign, parse_assignments
from jaxssl.errors import UserError, did_you_mean


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
    file, _ = find_config(name)
    if not isinstance(c, ConfigDict):
        raise UserError(
            f"{file}: get_config() returned {type(c).__name__}: it must return a ConfigDict",
            code="unsupported",
            field=str(file),
        )
    c = _run(file, c.copy_and_resolve_references)
    lacks = [field.path for field in fields.FIELDS if not _has(c, field.path)]
    if lacks:
        message = f"{file}: get_config() returns no {lacks[0]}: start from jaxssl.config.fields.base()"
        raise UserError(message, code="missing", field=str(file))
    assign(c, parse_assignments(assignments))
    return c.lock()


def _has(c: ConfigDict, path: str) -> bool:
    """Return whether a config has this field."""
    section, _, rest = path.partition(".")
    return section in c and (not rest or (isinstance(c[section], ConfigDict) and _has(c[section], rest)))


# Find and run a config file.


def configs_folder() -> Path:
    """Return the folder of the configs that come with jaxssl: `configs/` of a checkout, else `jaxssl.configs`."""
    package = Path(__file__).parents[1]
    installed, checkout = package / "configs", package.parent / "configs"
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
    file = files.expand_user(config)
    if file.suffix == ".py" and file.is_file():
        return file, argument
    if file.suffix == ".py" or file.name != config:
        hint = did_you_mean(file.stem, known) or "give the path or the name of a config"
        if file.exists():
            message = f"--config={name} is no config: for images, set --config=own --config.data.dir={name}"
            raise UserError(message, code="unsupported", field="--config")
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
    if not callable(make):
        message = f"{file}: {function} is {type(make).__name__}: it must be a function: def {function}(): return ..."
        raise UserError(message, code="unsupported", field=str(file))
    if not inspect.signature(make, follow_wrapped=False).parameters:
        if argument and function == "get_config":
            raise UserError(
                f"--config={name}: get_config() of {file} takes no argument: leave out ':{argument}'",
                code="unknown-name",
                field="--config",
            )
        return _run(file, make)
    return _run(file, lambda: make(argument) if argument else make())


def defines(name: str, function: str) -> bool:
    """Return whether a config file has a function of this name. Raises UserError as `call` does."""
    return hasattr(_import(find_config(name)[0]), function)


def _import(file: Path) -> ModuleType:
    name = f"jaxssl_config_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Dataclasses of the file look for it.
    _run(file, partial(spec.loader.exec_module, module))
    return module


def _run(file: Path, function: Callable[[], Any]) -> Any:
    """Run code of a config file; its errors become UserErrors that name the file and the line."""
    try:
        return function()
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise _config_error(file, error) from error


def _config_error(file: Path, error: BaseException) -> UserError:
    if isinstance(error, SyntaxError):
        line, message = error.lineno, error.msg
    else:
        inside = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        line = inside[-1].lineno if inside else None
        # As text, a KeyError is the repr of its message.
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        message = f"{type(error).__name__}: {' '.join(str(text).split())}"
    where = f"{file}, line {line}" if line else f"{file}"
    return UserError(f"{where}: {message}", code="unreadable", field=str(file))
