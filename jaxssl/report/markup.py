"""Pieces of HTML that all pages of the report are made of; texts of the user's are escaped here."""

import html
import re
from collections.abc import Iterable
from typing import Any

from jaxssl.report import figures
from jaxssl.report.style import STYLE
from jaxssl.report.words import clean, initialisation

INTERVAL = r"\[?[+−][\d.]+ to [+−][\d.]+\]?"
GLYPHS = dict(zip(figures.MARKERS, "●■▲◆▼✚✖⬟", strict=True))


def whole(title: str, header: str, sections: Iterable[tuple[str, str]]) -> str:
    """A page of these (title, HTML); sections without HTML are left out."""
    main = "\n".join(
        f'<section aria-labelledby="s{i}"><h2 id="s{i}">{escape(name)}</h2>\n{body}</section>'
        for i, (name, body) in enumerate(sections)
        if body
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)} – jaxssl</title>
<style>{STYLE}</style>
</head>
<body>
<header>
{header}
</header>
<main>
{main}
</main>
</body>
</html>
"""


def stated(text: str) -> str:
    """The answer, each interval of which stays on one line."""
    held = re.sub(INTERVAL, r"<span>\g<0></span>", escape(text))
    return f'<p class="answer">{held}</p>'


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


def glyph(kind: int) -> str:
    """The mark of a kind, as `figures.kind_style` draws it."""
    colour, marker = figures.kind_style(kind)
    return f'<span aria-hidden="true" style="color:{figures.VARIABLES[colour]}">{GLYPHS[marker]}</span>'


def escape(value: Any) -> str:
    return html.escape(clean(value))


def bdi(value: Any) -> str:
    """Text of the user's, whose direction does not spread to what is around it."""
    return f"<bdi>{escape(value)}</bdi>"
