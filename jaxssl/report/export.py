"""Figures of a report for a paper: SVG and PDF in the width of a column, each with its data as CSV."""

import csv
import io
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from jaxssl import files
from jaxssl.report import figures
from jaxssl.report.figures import RC, VARIABLES, Drawing
from jaxssl.report.forest import Difference, Forest
from jaxssl.report.render import load_asset
from jaxssl.results.cells import escape_row

COLUMN = 88.0  # Width of a column in millimetres.
FORMATS = ("svg", "pdf")
FONT = 8.0  # Size of all texts in points.
LONG_NAME = 24  # Letters that half the width of a column has room for.
LEGEND_ROW = 0.21  # Height in inches.
COLORS = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")


def export(
    drawings: Sequence[Drawing], forests: Sequence[Forest], to: Path, names: Mapping[str, str], width: float = COLUMN
) -> list[Path]:
    """Write the figures to a folder and return the files.

    Args:
      drawings: of the page, from `figures.collect_drawings`.
      forests: the forest plots of the page.
      to: the folder.
      names: of the series, for the legend.
      width: of the figures in millimetres.
    """
    written = []
    for i, forest in enumerate(forests):
        name = f"differences-{i + 1}" if i else "differences"
        written += _write(to, name, _plot_forest(forest), _forest_table(forest), width)
    for drawing in drawings:
        if drawing.data:
            _annotate(drawing, names, width)
            written += _write(to, drawing.name, drawing.figure, _data_table(drawing, names), width)
    return written


def _write(to: Path, name: str, figure: Figure, table: Sequence[Sequence[object]], width: float) -> list[Path]:
    _fit(figure, width / 25.4)
    written = []
    with mpl.rc_context({**RC, "pdf.fonttype": 42}):
        for kind in FORMATS:
            stream = io.BytesIO()
            dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}[kind]
            figure.savefig(stream, format=kind, metadata=dates)
            files.write_bytes(to / f"{name}.{kind}", stream.getvalue())
            written.append(to / f"{name}.{kind}")
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows(map(escape_row, table))
    files.write_text(to / f"{name}.csv", lines.getvalue())
    return [*written, to / f"{name}.csv"]


def _fit(figure: Figure, width: float) -> None:
    """Scale a figure to a width in inches, and give it the font size of a paper and the colors of the light page."""
    FigureCanvasAgg(figure)
    old, height = figure.get_size_inches()
    figure.set_size_inches(width, height * width / old)
    figure.set_facecolor("white")
    for axes in figure.axes:
        axes.tick_params(labelsize=FONT)
    css = load_asset("report.css")
    palette = {key: re.findall(rf"{variable[4:-1]}: (#\w+);", css)[0] for key, variable in VARIABLES.items()}
    figure.draw_without_rendering()  # Makes the ticks, whose colors are changed too.
    for artist in figure.findobj():
        if isinstance(artist, Text):
            artist.set_fontsize(FONT)
        for name in COLORS:
            _recolor(artist, name, palette)


def _recolor(artist: object, name: str, palette: Mapping[str, str]) -> None:
    get, put = getattr(artist, f"get_{name}", None), getattr(artist, f"set_{name}", None)
    if get is None or put is None:
        return
    value = get()
    first = value[0] if hasattr(value, "ndim") and value.ndim == 2 and len(value) else value
    try:
        found = palette.get(to_hex(first))
    except (ValueError, TypeError):
        return
    if found:
        put(found)


def _annotate(drawing: Drawing, names: Mapping[str, str], final: float) -> None:
    """Add what the page has in its captions: the legend, and the quantity where the axis does not name it.

    `final` is the width in millimetres to which the figure will be scaled, unlike its texts.
    """
    (axes,) = drawing.figure.axes
    handles = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    known = {str(line.get_label()): line for line in handles}
    with mpl.rc_context(RC):
        # In rows of its own below the axes, where it covers no line.
        labels = [_as_text(names.get(key, key)) for key in known]
        columns = 2 if max(map(len, labels), default=0) <= LONG_NAME * final / COLUMN else 1
        width, height = drawing.figure.get_size_inches()
        taller = height + LEGEND_ROW * -(-len(known) // columns) * width * 25.4 / final
        left, bottom, across, up = axes.get_position().bounds
        drawing.figure.set_size_inches(width, taller)
        axes.set_position((left, 1 - (1 - bottom) * height / taller, across, up * height / taller))
        drawing.figure.legend(known.values(), labels, loc="lower left", ncols=columns, frameon=False, borderpad=0)
        if not any(text.get_position() == (0, 1) for text in axes.texts):
            axes.set_title(_as_text(drawing.label.partition(":")[0]), loc="left", color=figures.INK)


def _as_text(name: str) -> str:
    """Return a name in which matplotlib sees no formula."""
    return name.replace("$", r"\$")


def _data_table(drawing: Drawing, names: Mapping[str, str]) -> list[list[object]]:
    rows: list[list[object]] = [["series", "x", "y", "low", "high"]]
    for line in drawing.data:
        name = names.get(line.init, line.init)
        rows += [[name, float(x), float(y), "", ""] for x, y in zip(line.x, line.y, strict=True)]
        if line.band is not None:
            rows += [[name, float(x), "", float(low), float(high)] for x, low, high in zip(*line.band, strict=True)]
    return rows


def _forest_table(forest: Forest) -> list[list[object]]:
    rows: list[list[object]] = [["name", "condition", "difference", "low", "high", "low_over_runs", "high_over_runs"]]
    for d in (mark.difference for mark in forest.marks):
        rows.append([d.name, ", ".join(filter(None, (d.group, d.note))), d.mean, *d.ends, *d.wide_ends])
    return rows


@mpl.rc_context(RC)
def _plot_forest(forest: Forest) -> Figure:
    """Return the forest plot as a figure: a row for each difference and for each heading, names at the left."""
    rows: list[tuple[str, Difference | None]] = []
    for group, marks in itertools.groupby(forest.marks, key=lambda mark: mark.difference.group):
        rows += [(group, None)] * bool(group)
        rows += [(f"{d.name}, {d.note}" if d.note else d.name, d) for d in (mark.difference for mark in marks)]
    width, height = 320, 60 + 22 * len(rows)
    figure = Figure(figsize=(width / 72, height / 72))
    axes = figure.add_axes((0.4, 38 / height, 0.57, 1 - 56 / height))
    axes.axvline(0, color=figures.INK, linewidth=0.8)
    for y, (_, d) in enumerate(rows):
        if d is not None:
            _plot_difference(axes, y, d)
    axes.set_yticks(range(len(rows)), [_as_text(name) for name, _ in rows])
    for tick, (_, d) in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set(color=figures.MUTED if d else figures.INK, fontweight="normal" if d else "bold")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(forest.caption.partition(" from ")[0].partition(" between ")[0], color=figures.MUTED)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def _plot_difference(axes: Axes, y: float, d: Difference) -> None:
    color = {"ssl": figures.SSL, "random": figures.RANDOM, "open": figures.MUTED}.get(d.color, figures.SSL)
    for (low, high), line_width in ((d.ends, 3.0), (d.wide_ends, 0.8)):
        if low is not None and high is not None:
            axes.plot([low, high], [y, y], color=color, linewidth=line_width, solid_capstyle="butt")
    if d.mean is not None:
        axes.plot([d.mean], [y], "o", color=color, markersize=5)
