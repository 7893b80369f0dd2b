"""Runs the Python code of a page when the manual is built, and adds its output and its figures to the page.

A page whose front matter says `execute: true` is executed: its ```python blocks one after the other in one namespace.
What a block prints follows it, and so does each figure that it leaves open in matplotlib. An exception ends the build.
"""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

BLOCK = re.compile(r"^```python\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
FRONT_MATTER = re.compile(r"\A---\nexecute: true\n---\n")


def run_page(app: Any, name: str, source: list[str]) -> None:
    """Handler of Sphinx's event "source-read": replace the text of an executed page."""
    if FRONT_MATTER.match(source[0]):
        source[0] = execute(source[0], name, Path(app.srcdir) / "generated")


def execute(text: str, name: str, folder: Path) -> str:
    """Return the page with the output of its code.

    Args:
      text: the page in Markdown.
      name: of the page; its figures are `name`-1.png and so on.
      folder: where figures are written; below the page's own folder.
    """
    namespace: dict[str, Any] = {"__name__": name}
    figures = 0

    def run(block: re.Match) -> str:
        nonlocal figures
        line = text.count("\n", 0, block.start()) + 1
        code = compile("\n" * line + block[1], f"{name}.md", "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, namespace)
        added = [f"```text\n{printed.getvalue().rstrip()}\n```\n"] if printed.getvalue() else []
        for number in plt.get_fignums():
            figures += 1
            file = folder / f"{name}-{figures}.png"
            plt.figure(number).savefig(file, dpi=120)
            plt.close(number)
            added.append(f"![output of the code above]({folder.name}/{file.name})\n")
        return "\n".join([block[0], *added])

    with mpl.rc_context({"backend": "agg"}):
        return BLOCK.sub(run, FRONT_MATTER.sub("", text))
