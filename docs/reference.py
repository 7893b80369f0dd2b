"""Generates the reference pages of the manual from the code: commands, config fields and options, file formats."""

import inspect
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

from jaxssl import data, models, objectives
from jaxssl.cli import parser as parsers
from jaxssl.config import fields
from jaxssl.config.field import Field
from jaxssl.results import description
from jaxssl.results import glossary as terms

SECTIONS = {
    "": "The run",
    "data": "Data",
    "model": "Encoder",
    "init": "Initial weights",
    "pretrain": "Pretraining",
    "transfer": "Evaluation of the encoder",
    "checkpoints": "Checkpoints",
    "mesh": "Devices",
}
ROLES = {
    "method": "what a study compares: arms may differ in it",
    "repeat": "tells the runs of one arm apart",
    "place": "folders, devices, services: a run may be resumed with another value",
    "record": "what is logged, saved and evaluated; changes no number",
    "shared": "everything else: arms should agree in it, and `jaxssl compare` reports where they do not",
}


def pages() -> dict[str, str]:
    """Return the generated pages in Markdown by file name."""
    return {"commands.md": commands(), "config.md": config(), "files.md": files(), "glossary.md": glossary()}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; `|` in cells is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def fence(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```\n"


def code(value: Any) -> str:
    return f"`{value}`" if value != "" else ""


# Commands.


def commands() -> str:
    """Return the page of all commands: the help that each of them prints."""
    os.environ["COLUMNS"] = "100"
    parts = [
        "# Commands\n",
        "`jaxssl COMMAND` is the same as `python -m jaxssl COMMAND`, and `python -m jaxssl.main --config=CONFIG "
        "--workdir=DIR` is the same as `jaxssl run`. This page shows what each command prints with `--help`. Errors "
        "are one line; `--debug` shows the traceback.\n",
        fence(parsers.make_parser().format_help()),
    ]
    for group, names in parsers.commands().items():
        parts.append(f"## {group[0].upper()}{group[1:]}\n")
        for name in names:
            parser = parsers.subparsers_of(parsers.make_parser(name))[name]
            helps = [parser, *(leaf for leaf in parsers.leaves(parser) if leaf is not parser)]
            parts += [f"### {name}\n", *(fence(one.format_help()) for one in helps)]
    return "\n".join(parts)


# Config.


def config() -> str:
    """Return the page of all fields of the config, and of the options of every dataset, encoder and objective."""
    parts = [
        "# Config fields\n",
        "A config is a Python file with `get_config()`, which starts from the defaults below. Every field can be set "
        "on the command line: `--config.pretrain.epochs=20`. A tuple is written `probe,knn` or `(1,2)`; a boolean "
        "alone is true. A field has one of these roles:\n",
        table(["role", "meaning"], [[code(role), meaning] for role, meaning in ROLES.items()]),
    ]
    for section, title in SECTIONS.items():
        of = [f for f in fields.FIELDS if (f.path.partition(".")[0] if "." in f.path else "") == section]
        rows = [[code(f.path), default(f), allowed(f), f.meaning, f.role] for f in of]
        parts += [f"## {title}\n", table(["field", "default", "allowed", "meaning", "role"], rows)]
    parts += ["## Options\n", "What a dataset, an encoder or an objective takes besides, with its defaults.\n"]
    for path, title, room in (
        ("data.name", "datasets", data),
        ("model.name", "encoders", models),
        ("pretrain.objective", "objectives", objectives),
    ):
        option = f"--config.{fields.options_path(path)}.NAME=VALUE"
        parts += [f"### Options of {title}\n", f"Set `{path}`, and its options as `{option}`.\n"]
        rows = []
        for name in fields.find(path).choices or ():
            meanings, options = option_meanings(room, name), fields.options(path, name)
            rows += [[code(name), "none", "", ""]] * (not options)
            for number, (option, value) in enumerate(options.items()):
                rows.append([code(name) * (number == 0), code(option), code(repr(value)), meanings.get(option, "")])
        parts.append(table([path, "option", "default", "meaning"], rows))
    return "\n".join(parts)


def default(field: Field) -> str:
    return "see [options](#options)" if field.path.endswith(".options") else code(repr(field.default))


def allowed(field: Field) -> str:
    if field.choices and len(field.choices) > 6:
        return f"{len(field.choices)} names, see [options](#options)"
    return ", ".join(code(repr(name)) for name in field.choices) if field.choices else code(field.range)


def option_meanings(room: Any, name: str) -> dict[str, str]:
    """Return {option: meaning} from the docstrings of the function, and for encoders the class, that takes options."""
    made_by = data.find_module(name).load if room is data else room.find(name)
    documented = [made_by]
    if room is models:
        documented.append(inspect.signature(made_by, eval_str=True).return_annotation)
    return {option: meaning for of in documented for option, meaning in docstring_items(of).items()}


def docstring_items(documented: Any) -> dict[str, str]:
    """Return {name: description} of the sections "Args" and "Attributes" of a docstring."""
    text = inspect.getdoc(documented) or ""
    items = {}
    for section in re.findall(r"^(?:Args|Attributes):\n((?:[ ]+.*\n?|\n)+)", text, re.MULTILINE):
        for name, about in re.findall(r"^  (\w+): ((?:.*\n?)(?:   +.*\n?)*)", section, re.MULTILINE):
            items[name] = " ".join(about.split())
    return items


# Files.


def files() -> str:
    """Return the page of the files that a run or a study leaves, from `jaxssl.results.description`."""
    return (
        "# File formats\n\n"
        "The files that a run, a study or an audit leaves. The `schema_version` of a JSON file grows when a field "
        "changes its name, type or meaning; numbers that are not finite are null. `x[]` is an item of a list, "
        "`x.<split>` a value by split. An *estimate* is `{value, low, high}`: a score with its 95 % confidence "
        f"interval.\n\n{description.to_markdown()}"
    )


def glossary() -> str:
    """Return the page of the terms that reports explain."""
    return f"# Glossary\n\n{table(['term', 'meaning'], sorted(terms.TERMS.items(), key=lambda item: item[0].lower()))}"
