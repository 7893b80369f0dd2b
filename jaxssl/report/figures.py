"""Figures of the reports: plain arrays in, inline SVG out.

Figures hold no text of the user's: names are in the HTML around them. Colors are variables of report.css, so that the
same figure serves on light and dark. Each is drawn at the size at which a phone shows it.
"""

import contextlib
import html
import io
import re
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# matplotlib needs colors, the page needs variables: each color stands for a variable.
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
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")  # Of the kinds, with their colors.
# Each initialization has a color and a stroke, so that they differ without color too.
STYLES = {
    "ssl": (SSL, "solid"),
    "supervised": (SSL, "solid"),
    "random": (RANDOM, (0, (4, 2))),
    "imagenet": (IMAGENET, (0, (1, 1.5))),
    "imagenet+ssl": (BOTH, (0, (6, 2, 1, 2))),
    "imagenet+supervised": (BOTH, (0, (6, 2, 1, 2))),
}
MAX_POINTS = 200
MAX_DOTS = 500
RC: Any = {
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

    init: str  # Its color and stroke are those of this initialization.
    x: np.ndarray
    y: np.ndarray
    band: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # x, low, high.


class Drawing(NamedTuple):
    """A figure with its name, its text alternative and the curves that it shows."""

    name: str
    label: str
    figure: Figure
    data: Sequence[Line]


_drawings: ContextVar[list[Drawing] | None] = ContextVar("drawings", default=None)


@mpl.rc_context(RC)
def draw_curves(
    name: str,
    label: str,
    lines: Sequence[Line],
    *,
    expected: float | None = None,
    best: Sequence[tuple[float, float]] = (),
) -> Markup:
    """Draw a quantity over epochs, a thin line at its expected first value, and circles at the `best` points."""
    figure, axes = _panel(320, 200)
    for line in lines:
        color, stroke = _style(line.init)
        x, y = thin(line.x, line.y)
        few = len(x) <= 20
        axes.plot(
            x,
            y,
            color=color,
            linestyle=stroke,
            linewidth=1.6,
            marker="o" if few else "",
            markersize=3.5,
            label=line.init,
        )
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
    return svg(figure, name, label, lines)


@mpl.rc_context(RC)
def draw_roc(name: str, label: str, lines: Sequence[Line]) -> Markup:
    """Draw true against false positive rates."""
    figure, axes = _panel(220, 220)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8)
    _draw_bands(axes, lines)
    _unit_square(axes, "false positives", "true positives")
    return svg(figure, name, label, lines)


@mpl.rc_context(RC)
def draw_precision_recall(name: str, label: str, lines: Sequence[Line], share: float) -> Markup:
    """Draw precision against recall, and a thin line at the share of the class, which is the precision of chance."""
    figure, axes = _panel(220, 220)
    axes.axhline(share, color=MUTED, linewidth=0.8)
    _draw_bands(axes, lines)
    _unit_square(axes, "recall", "precision")
    return svg(figure, name, label, lines)


def _draw_bands(axes: Axes, lines: Sequence[Line]) -> None:
    for line in lines:
        color, stroke = _style(line.init)
        if line.band is not None and not np.isnan(line.band[1]).any():
            axes.fill_between(*line.band, color=color, alpha=0.14, linewidth=0)
        at = np.unique(np.linspace(0, len(line.x) - 1, MAX_POINTS).round().astype(int))
        axes.plot(line.x[at], line.y[at], color=color, linestyle=stroke, linewidth=1.6, label=line.init)


@mpl.rc_context(RC)
def draw_predicted(name: str, label: str, line: Line) -> Markup:
    """Draw predicted against true values as points, and the diagonal on which both are equal."""
    figure, axes = _panel(220, 220)
    low, high = float(min(line.x.min(), line.y.min())), float(max(line.x.max(), line.y.max()))
    room = 0.04 * (high - low or 1.0)
    axes.plot([low, high], [low, high], color=MUTED, linewidth=0.8)
    at = np.unique(np.linspace(0, len(line.x) - 1, MAX_DOTS).round().astype(int))
    axes.scatter(line.x[at], line.y[at], s=12, color=_style(line.init)[0], linewidths=0, alpha=0.6, label=line.init)
    axes.set(xlim=(low - room, high + room), ylim=(low - room, high + room))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("true", loc="right", color=MUTED, labelpad=2)
    axes.annotate(
        "predicted", (0, 1), xytext=(-24, 6), xycoords="axes fraction", textcoords="offset points", color=MUTED
    )
    return svg(figure, name, label, [line])


@mpl.rc_context(RC)
def draw_reliability(name: str, label: str, lines: Sequence[Line], counts: Sequence[np.ndarray]) -> Markup:
    """Draw accuracy against confidence; the area of a point grows with the number of its images."""
    figure, axes = _panel(220, 220)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8)
    for line, count in zip(lines, counts, strict=True):
        color, stroke = _style(line.init)
        axes.plot(line.x, line.y, color=color, linestyle=stroke, linewidth=1, alpha=0.5, label=line.init)
        axes.scatter(line.x, line.y, s=160 * count / max(1, count.sum()) + 5, color=color, linewidths=0, alpha=0.8)
    _unit_square(axes, "confidence", "accuracy")
    return svg(figure, name, label, lines)


@mpl.rc_context(RC)
def draw_label_efficiency(name: str, label: str, lines: Sequence[tuple[int, Line]], ticks: dict[float, str]) -> Markup:
    """Draw scores by share of the labels; each line has a kind, and `ticks` names the shares."""
    figure, axes = _panel(320, 240)
    for kind, line in lines:
        color, marker = kind_style(kind)
        if line.band is not None:
            axes.fill_between(*line.band, color=color, alpha=0.14, linewidth=0)
        axes.plot(line.x, line.y, color=color, linewidth=1.6, marker=marker, markersize=5, label=line.init)
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.margins(x=0.06, y=0.1)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("labels", loc="right", color=MUTED)
    return svg(figure, name, label, [line for *_, line in lines])


@mpl.rc_context(RC)
def draw_losses(name: str, label: str, lines: Sequence[tuple[int, Any, Line]]) -> Markup:
    """Draw losses over epochs; each line has a kind, which gives its color, and a stroke."""
    figure, axes = _panel(320, 220)
    for kind, stroke, line in lines:
        axes.plot(*thin(line.x, line.y), color=kind_style(kind)[0], linestyle=stroke, linewidth=1.4, label=line.init)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("epoch", loc="right", color=MUTED)
    return svg(figure, name, label, [line for *_, line in lines])


@mpl.rc_context(RC)
def draw_study_roc(name: str, label: str, lines: Sequence[tuple[int, Line]], reliability: bool = False) -> Markup:
    """Draw true against false positive rates, or accuracy against confidence; each line has a kind."""
    figure, axes = _panel(220, 220)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8)
    for kind, line in lines:
        color, marker = kind_style(kind)
        axes.plot(
            line.x,
            line.y,
            color=color,
            linewidth=1.6,
            marker=marker if reliability else "",
            markersize=4,
            label=line.init,
        )
    _unit_square(axes, *(("confidence", "accuracy") if reliability else ("false positives", "true positives")))
    return svg(figure, name, label, [line for *_, line in lines])


@mpl.rc_context(RC)
def draw_scatter(name: str, label: str, points: np.ndarray, kinds: np.ndarray, aspect: float) -> Markup:
    """Draw points [N, 2], in percent from the upper left corner, by kind [N]; those of kind -1 are below the others.

    `aspect` is the height of the figure divided by its width.
    """
    figure = Figure(figsize=(240 / 72, 240 * aspect / 72))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 100), ylim=(100, 0))
    axes.set_axis_off()
    area = float(np.clip(5000 / len(points), 16, 40))
    for kind in np.unique(kinds).tolist():
        color, marker = kind_style(kind) if kind >= 0 else (MUTED, "o")
        look = {"s": area, "alpha": 0.85} if kind >= 0 else {"s": area / 2, "alpha": 0.5}
        axes.scatter(*points[kinds == kind].T, color=color, marker=marker, linewidths=0, clip_on=False, **look)
    return svg(figure, name, label)


def kind_style(kind: int) -> tuple[str, str]:
    """Return the color and the marker of a kind, for figures and legends."""
    return KINDS[kind % len(KINDS)], MARKERS[(kind + kind // len(KINDS)) % len(MARKERS)]


def thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return at most MAX_POINTS points, each the mean of equally many neighbors; the last may be of fewer."""
    lot = -(-len(x) // MAX_POINTS)
    if lot <= 1:
        return np.asarray(x), np.asarray(y)
    starts = np.arange(0, len(x), lot)
    size = np.diff(np.append(starts, len(x)))
    return np.add.reduceat(x, starts) / size, np.add.reduceat(y, starts) / size


@contextlib.contextmanager
def collect_drawings() -> Iterator[list[Drawing]]:
    """Yield the list of all figures that are drawn inside, besides where they are shown."""
    found: list[Drawing] = []
    token = _drawings.set(found)
    try:
        yield found
    finally:
        _drawings.reset(token)


def svg(figure: Figure, name: str, label: str, data: Sequence[Line] = ()) -> Markup:
    """Return a figure drawn under RC as an <svg> element; `name` starts its ids, screen readers read `label`."""
    name = re.sub("[^A-Za-z0-9-]+", "-", name)  # Names of weights may be in it; it is an id, and a file's name.
    if (drawings := _drawings.get()) is not None:
        drawings.append(Drawing(name, label, figure, data))
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
    for color, variable in VARIABLES.items():
        body = body.replace(color, variable)
    width, height = (round(72 * side) for side in figure.get_size_inches())
    body = re.sub(r"\s*\n\s*", "\n", body).strip()
    head = (
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" xmlns:xlink="http://www.w3.org/1999/xlink"'
    )
    return Markup(f'<svg role="img" aria-label="{html.escape(label)}" {head}>\n{body}')


def style_name(init: str) -> str:
    """Return the key of `STYLES` for an initialization: all weights that were given look like "imagenet"."""
    first, _, own = init.partition("+")
    given = "imagenet" if first not in ("random", "ssl", "supervised") else first
    return f"{given}+{own}" if own else given


def swatch_class(init: str) -> str:
    """Return the class in report.css of the color and the stroke of an initialization."""
    return re.sub("[^a-z]", "-", style_name(init))


def _style(init: str) -> tuple[str, object]:
    return STYLES.get(style_name(init), (INK, "solid"))


def _panel(width: int, height: int) -> tuple[Figure, Axes]:
    """Return a figure of this size in points with one pair of axes, placed independently of fonts."""
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
