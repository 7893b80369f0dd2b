"""The list of the runs and studies of a folder, as `jaxssl report --serve` shows it."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxssl.report.blocks import Body, Cell, Row, Section, Table, cells
from jaxssl.report.render import render

SECONDS = 5  # Between two looks at the folder.
HEAD = ("Run", "State", "Dataset", "Pretraining", "Progress", "Score", "Last change")


class Entry(NamedTuple):
    """A run: its name, its cells as in `HEAD`, and the address of its report, "" without one."""

    name: str
    cells: Sequence[str]
    href: str


def make_listing(root: str, runs: Sequence[Entry], studies: Sequence[tuple[str, str]]) -> str:
    """Return the HTML of the list; `studies` are (name, address of the report)."""
    sections = []
    if studies:
        body = Body("", [Row(Cell(name), [], href) for name, href in studies])
        sections.append(
            Section("studies", "Studies", [Table("List of the studies", "", ("Study",), [body], "runs")], folded=False)
        )
    body = Body("", [Row(Cell(run.name), cells(*run.cells), run.href) for run in runs])
    sections.append(Section("runs", "Runs", [Table("List of the runs", "", HEAD, [body], "runs")], folded=False))
    states = [run.cells[0] for run in runs]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    summary = f"{len(runs)} runs: {', '.join(counts)}." if runs else "No run yet."
    return render("listing.html.j2", "Runs", sections, root=root, summary=summary, refresh=SECONDS)
