"""Forest plots: differences and their intervals on one scale with a zero line, as blocks that templates draw."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

from jaxssl.results.words import format_signed

Ends = tuple[float | None, float | None]
NO_ENDS: Ends = (None, None)


class Difference(NamedTuple):
    """One row of a forest plot.

    Attributes:
      name: what is compared.
      note: under which conditions, in small print.
      mean: the difference; None where it is undefined.
      ends: its 95 % interval, drawn broad.
      text: the difference in words.
      detail: its interval in words, in small print.
      wide_ends: another interval, drawn thin.
      color: class of its color: that of an initialization's swatch, or "open".
      group: heading above the rows that share it; "" without one.
    """

    name: str
    note: str
    mean: float | None
    ends: Ends
    text: str
    detail: str = ""
    wide_ends: Ends = NO_ENDS
    color: str = "open"
    group: str = ""


class Mark(NamedTuple):
    """One row as it is drawn: positions in percent of the axis, None where there is nothing to draw."""

    difference: Difference
    at: float | None
    ends: tuple[float, float] | None
    wide_ends: tuple[float, float] | None


class Forest(NamedTuple):
    """The block: rows, ticks as (percent, text), the position of zero, and what lies on both sides of it.

    `key` explains scores and lines in small print.
    """

    caption: str
    key: str
    left: str
    right: str
    marks: Sequence[Mark]
    ticks: Sequence[tuple[float, str]]
    zero: float


def make_forest(caption: str, key: str, rows: Sequence[Difference], left: str, right: str) -> Forest | None:
    """Return the forest plot of some differences; None where all are undefined."""
    if all(row.mean is None for row in rows):
        return None
    low, high = _find_limits(rows)

    def place(value: float) -> float:
        return round(100 * float(np.clip((value - low) / (high - low), 0, 1)), 2)

    def place_ends(ends: Ends) -> tuple[float, float] | None:
        first, last = ends
        return None if first is None or last is None else (place(first), place(last))

    marks = [
        Mark(row, None if row.mean is None else place(row.mean), place_ends(row.ends), place_ends(row.wide_ends))
        for row in rows
    ]
    values = [float(value) for value in MaxNLocator(5).tick_values(low, high) if low <= value <= high]
    # Numbers at the ends would stand out.
    ticks = [
        (place(value), "0" if abs(value) < 1e-9 else _format_tick(value)) for value in values if 4 <= place(value) <= 96
    ]
    return Forest(caption, key, left, right, marks, ticks, place(0))


def _find_limits(rows: Sequence[Difference]) -> tuple[float, float]:
    """Return the ends of the axis; thin intervals, which may be of two or three runs and far wider, are cut."""
    inner = [0.0, *(value for row in rows for value in (row.mean, *row.ends) if value is not None)]
    outer = [value for row in rows for value in row.wide_ends if value is not None]
    low, high = min(inner), max(inner)
    room = max(high - low, 0.02)
    low = max(min([low, *outer]), low - room) - 0.08 * room
    high = min(max([high, *outer]), high + room) + 0.08 * room
    return low, high


def _format_tick(value: float) -> str:
    text = format_signed(value).rstrip("0")
    return text if text[-1].isdigit() else f"{text}0"
