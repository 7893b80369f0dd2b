"""Sphinx configuration of the manual: `make docs` builds it into docs/_build."""

import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

import execute
import imports
import reference

import jaxssl

project = "jaxssl"
release = version = jaxssl.__version__
author = "The jaxssl authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}

html_theme = "alabaster"
html_title = "jaxssl"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_show_copyright = html_show_sphinx = False
html_copy_source = html_show_sourcelink = False
html_sidebars = {"**": ["about.html", "searchfield.html", "navigation.html"]}
html_theme_options = {
    "description": "Does self-supervised pretraining help on my images, by how much, and am I sure?",
    "page_width": "1160px",
    "sidebar_width": "230px",
    "fixed_sidebar": True,
    "sidebar_collapse": True,
}

myst_heading_anchors = 3
toc_object_entries = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # The signatures have them.
autodoc_class_signature = "separated"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def escape_markup(app, what, name, obj, options, lines) -> None:
    """Escape what plain docstrings contain by chance: `*args`, `|x|` and `name_` are markup in reStructuredText.

    Of the docstring of a module, only the first paragraph is shown.
    """
    if what == "module" and "" in lines:
        del lines[lines.index("") :]
    lines[:] = [re.sub(r"(?<![\\`])(\*|\||(?<=\w)_(?=\W|$))(?!`)", r"\\\1", line) for line in lines]


def setup(app) -> None:
    """Write the generated pages, and connect what runs the code of the tutorial."""
    generated = DOCS / "generated"
    generated.mkdir(exist_ok=True)
    for name, text in {**reference.pages(), "imports.svg": imports.draw(DOCS.parent)}.items():
        file = generated / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
    app.connect("autodoc-process-docstring", escape_markup, priority=400)
    app.connect("source-read", execute.run_page)
