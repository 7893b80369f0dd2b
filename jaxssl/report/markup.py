"""Pieces of HTML that all pages of the report are made of; texts of the user's are escaped here."""

import html
import re
from collections.abc import Iterable
from typing import Any

from jaxssl.report import figures
from jaxssl.report.words import clean, initialisation


def panel(caption: str, drawn: str, *, escaped: bool = False) -> str:
    return f"<figure><figcaption>{caption if escaped else escape(caption)}</figcaption>{drawn}</figure>"


def table_head(first: str, names: Iterable[str]) -> str:
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in (first, *names))
    return f"<thead><tr>{cells}</tr></thead>"


def table_row(name: str, cells: Iterable[str]) -> str:
    """A line of a table, of HTML."""
    return f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def definitions(pairs: Iterable[tuple[str, Any]], kind: str) -> str:
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{bdi(value)}</dd></div>" for name, value in pairs)
    return f'<dl class="{kind}">{items}</dl>'


def grid(panels: Iterable[str], kind: str = "") -> str:
    return f'<div class="grid {kind}">{"".join(panels)}</div>'


def scrolling(table: str, label: str) -> str:
    """A table in a box of its own that scrolls, by keyboard too, where the page is narrow."""
    return f'<div class="scroll" role="region" aria-label="{escape(label)}" tabindex="0">{table}</div>'


def legend(results: dict[str, Any], inits: Iterable[str]) -> str:
    items = "".join(f"<li>{swatch(init)}{escape(initialisation(init, results))}</li>" for init in inits)
    return f'<ul class="legend">{items}</ul>'


def swatch(init: str) -> str:
    """A short stroke in the colour and the pattern of this initialisation."""
    known = re.sub("[^a-z]", "-", init) if init in figures.STYLES else "other"
    return f'<span class="swatch {known}" aria-hidden="true"></span>'


def escape(value: Any) -> str:
    return html.escape(clean(value))


def bdi(value: Any) -> str:
    """Text of the user's, whose direction does not spread to what is around it."""
    return f"<bdi>{escape(value)}</bdi>"
