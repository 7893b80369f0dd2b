"""Renders a page to one HTML file that needs no network: templates, report.css and report.js of this package."""

import functools
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup, escape

from jaxssl.report import figures
from jaxssl.report.blocks import Block, Section
from jaxssl.report.glossary import Occurrences
from jaxssl.results.words import clean_text

UNBROKEN = r"\[?[+−]?[\d.]+ to [+−]?[\d.]+\]?|p [=<] [\d.]+\d|NT-Xent"
GLYPHS = dict(zip(figures.MARKERS, "●■▲◆▼✚✖⬟", strict=True))


def render(template: str, title: str, sections: Sequence[Section | None], **header: Any) -> str:
    """Return the HTML of a page.

    Args:
      template: file in templates/ that extends page.html.j2.
      title: of the browser's tab.
      sections: in order; None where a section has nothing to show.
      **header: what the template shows above the sections.
    """
    return (
        _environment()
        .get_template(template)
        .render(title=title, sections=[s for s in sections if s], terms=Occurrences(), **header)
    )


def load_asset(name: str) -> str:
    """Return the text of report.css or report.js."""
    return resources.files("jaxssl.report").joinpath(name).read_text(encoding="utf-8")


@jinja2.pass_context
def render_block(context: jinja2.runtime.Context, block: Block) -> Markup:
    """Return the HTML of one block."""
    template = _environment().get_template(f"blocks/{type(block).__name__.lower()}.html.j2")
    return Markup(template.render(block=block, terms=context["terms"]).strip())


@jinja2.pass_context
def link_terms(context: jinja2.runtime.Context, text: str) -> Markup:
    """Return text whose terms link to the glossary."""
    return context["terms"].link(text)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxssl.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else clean_text(value),
    )
    environment.filters |= {
        "block": render_block,
        "terms": link_terms,
        "keep_intervals": keep_intervals,
        "break_command": break_command,
        "swatch": figures.swatch_class,
        "glyph": GLYPHS.__getitem__,
    }
    environment.globals |= {
        "css": Markup(load_asset("report.css")),
        "js": Markup(load_asset("report.js")),
        "kind_style": lambda kind: (figures.VARIABLES[figures.kind_style(kind)[0]], figures.kind_style(kind)[1]),
    }
    return environment


def break_command(text: str) -> Markup:
    """Return a command with an option in each line, which breaks after spaces and "/" alone."""
    lines = str(escape(clean_text(text))).replace(" --", " \\\n  --")
    return Markup(re.sub(r"(?m)(?:^ +)?/?[^\s/]+(?:/| \\$)?|/", r"<span>\g<0></span><wbr>", lines))


def keep_intervals(text: str) -> Markup:
    """Return text in which no line breaks within an interval or a name with a hyphen."""
    return Markup(re.sub(UNBROKEN, r"<span>\g<0></span>", str(escape(clean_text(text)))))
