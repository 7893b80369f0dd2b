"""Figures of the report: plain arrays in, inline SVG out.

No text of the user's enters a figure: names stand in the HTML around it. Colours are variables of the page's style
sheet, so that one figure serves on light and dark. Each figure is drawn at the size at which a phone shows it.
"""

import html
import io
import re
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# matplotlib takes colours, the page wants variables: each of these stands for one.
VARIABLES = {
    "#000001": "var(--ink)",
    "#000002": "var(--muted)",
    "#000003": "var(--rule)",
    "#000004": "var(--page)",
    "#000011": "var(--ssl)",
    "#000012": "var(--random)",
    "#000013": "var(--imagenet)",
    "#000014": "var(--both)",
    **{f"#00002{i}": f"var(--kind{i})" for i in range(8)},
}
INK, MUTED, RULE, PAGE, SSL, RANDOM, IMAGENET, BOTH, *KINDS = VARIABLES
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")  # Beside the colours of the kinds.
# Each initialisation has a colour and a stroke, so that no one needs to see the colour.
STYLES = {
    "ssl": (SSL, "solid"),
    "supervised": (SSL, "solid"),
    "random": (RANDOM, (0, (4, 2))),
    "imagenet": (IMAGENET, (0, (1, 1.5))),
    "imagenet+ssl": (BOTH, (0, (6, 2, 1, 2))),
    "imagenet+supervised": (BOTH, (0, (6, 2, 1, 2))),
}
MOST_POINTS = 200
RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxssl",
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "axes.unicode_minus": True,
}


class Line(NamedTuple):
    """One curve of a panel."""

    init: str  # Gives colour and stroke.
    x: np.ndarray
    y: np.ndarray
    band: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # Its own x, then low and high.


@mpl.rc_context(RC)
def curves(
    name: str,
    label: str,
    lines: Sequence[Line],
    *,
    expected: float | None = None,
    best: Sequence[tuple[float, float]] = (),
) -> str:
    """Learning curves over epochs; a thin line where `expected` says that the first point should lie."""
    figure, axes = _panel(320, 200)
    for line in lines:
        colour, stroke = _style(line.init)
        x, y = thin(line.x, line.y)
        few = len(x) <= 20
        axes.plot(x, y, color=colour, linestyle=stroke, linewidth=1.6, marker="o" if few else "", markersize=3.5)
    if best:
        axes.plot(*zip(*best, strict=True), "o", markersize=8, markerfacecolor="none", markeredgecolor=INK, color=INK)
    if expected is not None:
        axes.axhline(expected, color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
        axes.annotate("expected at first", (1, expected), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    axes.set_xlim(left=0)
    axes.margins(y=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("epoch", loc="right", color=MUTED)
    return svg(figure, name, label)


@mpl.rc_context(RC)
def roc(name: str, label: str, lines: Sequence[Line]) -> str:
    """True against false positive rate."""
    figure, axes = _panel(220, 220)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8)
    _banded(axes, lines)
    _unit_square(axes, "false positives", "true positives")
    return svg(figure, name, label)


@mpl.rc_context(RC)
def precision_recall(name: str, label: str, lines: Sequence[Line], share: float) -> str:
    """Precision against recall, and a thin line at the `share` of the class, which guessing has."""
    figure, axes = _panel(220, 220)
    axes.axhline(share, color=MUTED, linewidth=0.8)
    _banded(axes, lines)
    _unit_square(axes, "recall", "precision")
    return svg(figure, name, label)


def _banded(axes: Axes, lines: Sequence[Line]) -> None:
    for line in lines:
        colour, stroke = _style(line.init)
        if line.band is not None and not np.isnan(line.band[1]).any():
            axes.fill_between(*line.band, color=colour, alpha=0.14, linewidth=0)
        at = np.unique(np.linspace(0, len(line.x) - 1, MOST_POINTS).round().astype(int))
        axes.plot(line.x[at], line.y[at], color=colour, linestyle=stroke, linewidth=1.6)


@mpl.rc_context(RC)
def reliability(name: str, label: str, lines: Sequence[Line], counts: Sequence[np.ndarray]) -> str:
    """Accuracy against confidence; the area of a point is the number of its images."""
    figure, axes = _panel(220, 220)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8)
    for line, count in zip(lines, counts, strict=True):
        colour, stroke = _style(line.init)
        axes.plot(line.x, line.y, color=colour, linestyle=stroke, linewidth=1, alpha=0.5)
        axes.scatter(line.x, line.y, s=160 * count / max(1, count.sum()) + 5, color=colour, linewidths=0, alpha=0.8)
    _unit_square(axes, "confidence", "accuracy")
    return svg(figure, name, label)


@mpl.rc_context(RC)
def intervals(
    name: str, label: str, rows: Sequence[tuple[str, str, float, float | None, float | None]], zero: str
) -> str:
    """A dot and its interval for each (text, initialisation, value, low, high), about a line at 0 that says `zero`."""
    width, height, above, below = 320, 64 + 38 * len(rows), 24, 30
    figure = Figure(figsize=(width / 72, height / 72))
    axes = figure.add_axes((0.04, below / height, 0.92, 1 - (above + below) / height))
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.annotate(
        zero, (0, 1), xytext=(0, 6), xycoords=("data", "axes fraction"), textcoords="offset points", ha="center"
    )
    ground = {"facecolor": PAGE, "edgecolor": "none", "pad": 1.5}  # Keeps lines from running through a text.
    for y, (text, init, value, low, high) in enumerate(rows):
        colour, _ = _style(init)
        if low is not None and high is not None:
            axes.plot([low, high], [y, y], color=colour, linewidth=2.4, solid_capstyle="butt")
        axes.plot([value], [y], "o", color=colour, markersize=8, markeredgecolor=PAGE, markeredgewidth=1.4)
        axes.annotate(text, (value, y), xytext=(0, 8), textcoords="offset points", ha="center", color=INK, bbox=ground)
    # Room at the sides for the texts, which stand above their dots.
    ends = [0.0, *(end for row in rows for end in row[2:] if end is not None)]
    reach = max(max(ends) - min(ends), 1e-3)
    axes.set_xlim(min(ends) - 0.3 * reach, max(ends) + 0.3 * reach)
    axes.set_ylim(len(rows) - 0.4, -0.8)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return svg(figure, name, label)


@mpl.rc_context(RC)
def efficiency(name: str, label: str, lines: Sequence[tuple[int, Line]], ticks: dict[float, str]) -> str:
    """Scores over the share of the labels, each line of a kind; `ticks` says what the shares are called."""
    figure, axes = _panel(320, 240)
    for kind, line in lines:
        colour, marker = kind_style(kind)
        if line.band is not None:
            axes.fill_between(*line.band, color=colour, alpha=0.14, linewidth=0)
        axes.plot(line.x, line.y, color=colour, linewidth=1.6, marker=marker, markersize=5)
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.margins(x=0.06, y=0.1)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("labels", loc="right", color=MUTED)
    return svg(figure, name, label)


def interval(label: str, value: float, thick: tuple, thin: tuple, reach: float) -> str:
    """A dot on a line from -reach to reach with a mark at 0, and two intervals about it; ends may be None."""
    width, height = 150, 18

    def at(x: float) -> str:
        return f"{width / 2 + (width / 2 - 6) * np.clip(x / reach, -1, 1):.1f}"

    drawn = [f'<path d="M{at(0)} 0V{height}" stroke="var(--muted)"/>']
    for ends, stroke in ((thin, 1.5), (thick, 5)):
        if None not in ends:
            path = f"M{at(ends[0])} {height / 2}H{at(ends[1])}"
            opacity = "" if stroke < 5 else ' stroke-opacity=".45"'
            drawn.append(f'<path d="{path}" stroke="var(--ssl)" stroke-width="{stroke}"{opacity}/>')
    drawn.append(f'<circle cx="{at(value)}" cy="{height / 2}" r="4" fill="var(--ssl)"/>')
    head = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg class="interval" role="img" aria-label="{html.escape(label)}" {head}>{"".join(drawn)}</svg>'


@mpl.rc_context(RC)
def scatter(name: str, label: str, points: np.ndarray, kinds: np.ndarray, aspect: float) -> str:
    """Points [N, 2] in percent from the upper left corner, each of a kind [N]; -1 is none, and lies below.

    `aspect` is the height of the figure over its width.
    """
    figure = Figure(figsize=(240 / 72, 240 * aspect / 72))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 100), ylim=(100, 0))
    axes.set_axis_off()
    area = float(np.clip(5000 / len(points), 16, 40))
    for kind in np.unique(kinds).tolist():
        colour, marker = kind_style(kind) if kind >= 0 else (MUTED, "o")
        look = {"s": area, "alpha": 0.85} if kind >= 0 else {"s": area / 2, "alpha": 0.5}
        axes.scatter(*points[kinds == kind].T, color=colour, marker=marker, linewidths=0, clip_on=False, **look)
    return svg(figure, name, label)


def kind_style(kind: int) -> tuple[str, str]:
    """Colour and marker of one of several kinds, which the page's legend has too."""
    return KINDS[kind % len(KINDS)], MARKERS[(kind + kind // len(KINDS)) % len(MARKERS)]


def thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most MOST_POINTS points, each the mean of as many neighbours; a last short lot is left to itself."""
    lot = -(-len(x) // MOST_POINTS)
    if lot <= 1:
        return np.asarray(x), np.asarray(y)
    starts = np.arange(0, len(x), lot)
    size = np.diff(np.append(starts, len(x)))
    return np.add.reduceat(x, starts) / size, np.add.reduceat(y, starts) / size


def svg(figure: Figure, name: str, label: str) -> str:
    """The figure as an <svg> element, under RC: ids begin with `name`, and a screen reader reads `label`."""
    FigureCanvasSVG(figure)
    stream = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    text = stream.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<defs>\s*<style.*?</defs>", "", body, count=1, flags=re.DOTALL)  # It would style the whole page.
    used = set(re.findall(r'(?:url\(#|xlink:href="#)([^")]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r'(url\(#|xlink:href="#)', rf"\g<1>{name}-", body)
    body = re.sub(r' d="[^"]*"', lambda m: re.sub(r"\d+\.\d+", lambda n: f"{float(n[0]):.2f}", m[0]), body)
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, variable)
    width, height = (round(72 * side) for side in figure.get_size_inches())
    body = re.sub(r"\s*\n\s*", "\n", body).strip()
    head = (
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" xmlns:xlink="http://www.w3.org/1999/xlink"'
    )
    return f'<svg role="img" aria-label="{html.escape(label)}" {head}>\n{body}'


def _style(init: str) -> tuple[str, object]:
    return STYLES.get(init, (INK, "solid"))


def _panel(width: int, height: int) -> tuple[Figure, Axes]:
    """A figure of this many points with one pair of axes, placed without regard to the fonts of this machine."""
    figure = Figure(figsize=(width / 72, height / 72))
    left, right, bottom, top = 42, 8, 38, 22
    place = (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
    axes = figure.add_axes(place)
    axes.grid(color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _unit_square(axes: Axes, x: str, y: str) -> None:
    ticks = (0, 0.5, 1)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=ticks, yticks=ticks)
    axes.set_xticklabels(["0", ".5", "1"])
    axes.set_yticklabels(["0", ".5", "1"])
    axes.set_xlabel(x, loc="right", color=MUTED, labelpad=2)
    axes.annotate(y, (0, 1), xytext=(-24, 6), xycoords="axes fraction", textcoords="offset points", color=MUTED)
