"""`--options=KEY=VALUE`: options of images on the command line, for the commands that read them without a config."""

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

from jaxssl.config.parse import parse_value
from jaxssl.errors import UserError, did_you_mean


def add_options_argument(parser: argparse.ArgumentParser) -> None:
    """Add --options, which `parse_known_options` reads."""
    text = "An option of the images, as data.options.KEY of a config; may be repeated."
    parser.add_argument("--options", action="append", default=[], metavar="KEY=VALUE", help=text)


def parse_pairs(arguments: Iterable[str]) -> dict[str, str]:
    """Return {"bands": "3"} for ["bands=3"]. UserError if one is not KEY=VALUE."""
    found = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or not key.isidentifier():
            message = f"--options={argument} is not KEY=VALUE: write --options=bands=3"
            raise UserError(message, code="out-of-range", field="--options")
        found[key] = value
    return found


def parse_known_options(arguments: Iterable[str], known: Mapping[str, Any], whose: str) -> dict[str, Any]:
    """Return {"bands": 3} for ["bands=3"], as the defaults in `known` are. UserError for an unknown option."""
    options = parse_pairs(arguments)
    for key in options:
        if key not in known:
            message = f"--options={key} is not an option: {did_you_mean(key, known)}{whose} takes {', '.join(known)}"
            raise UserError(message, code="unknown-name", field="--options")
    return {key: parse_value(f"--options={key}", text, known[key]) for key, text in options.items()}
