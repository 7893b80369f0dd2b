"""Paired differences between weights and what they were trained from."""

from collections.abc import Sequence

from jaxssl.report.blocks import Body, Cell, Row, Section, Table
from jaxssl.report.figures import swatch_class
from jaxssl.report.forest import NO_ENDS, Difference, Forest, make_forest
from jaxssl.report.run_data import RunData
from jaxssl.report.sections.common import difference_cell
from jaxssl.results.cautions import find_obstacle
from jaxssl.results.run_conclusions import judge_pair
from jaxssl.results.schema import Evaluation
from jaxssl.results.verdict import name_subject
from jaxssl.results.words import (
    LOWER_IS_BETTER,
    METRIC_HINTS,
    METRIC_NAMES,
    PROTOCOL_HINTS,
    find_start,
    format_range,
    group_by_metric,
    has_interval,
    join_words,
    protocol_name,
    start_name,
)

CAPTION = (
    "Score of weights minus that of their starting point with the same protocol. Both are compared on the same groups "
    "of test images. An interval on one side of 0 shows a difference; one that includes 0 does not."
)


KEY = "Random weights: no pretraining."
SEVERAL = "Starting point: the weights named after “after”, else random weights."
BARS = "Bars: 95 % intervals. Grey: no difference shown."
NO_BARS = "There are no intervals: too few test groups (patients or series)."


def section(run: RunData) -> Section | None:
    """Return the differences as a table; their figure is on the first screen."""
    compared = _compared(run)
    if not compared:
        return None
    several = _has_several(compared)

    def row(e: Evaluation) -> Row:
        cells = [difference_cell(of) for of in run.differences[e["name"]].values()]
        name = protocol_name(e["protocol"]) + (f", {_name(run, e)}" if several else "")
        return Row(Cell(f"{name[:1].upper()}{name[1:]}"), cells)

    tables = []
    # Classes and masks have scores of their own.
    for metrics in dict.fromkeys(tuple(run.differences[e["name"]]) for e in compared):
        head = ["Protocol", *(METRIC_NAMES[metric] for metric in metrics)]
        lower = join_words([METRIC_NAMES[metric] for metric in metrics if metric in LOWER_IS_BETTER] or [""])
        caption = CAPTION + (f" Of the {lower}, lower is better." if lower else "")
        rows = [row(e) for e in compared if tuple(run.differences[e["name"]]) == metrics]
        label = f"Paired differences, {METRIC_NAMES[metrics[0]]}"
        tables.append(Table(label, caption, head, [Body("", rows)], "scores"))
    return Section(
        "differences", f"Difference from {_describe_start(run, compared)}, image by image", tables, folded=False
    )


def plot(run: RunData) -> list[Forest]:
    """Return a forest plot of the differences in each primary score; those of classes and masks differ."""
    forests = [_plot(run, of, metric) for metric, of in group_by_metric(_compared(run)).items()]
    return [forest for forest in forests if forest]


def _plot(run: RunData, compared: Sequence[Evaluation], metric: str) -> Forest | None:
    rows, several = [], _has_several(compared)
    for e in compared:
        if (of := run.differences[e["name"]].get(metric)) is None:
            continue
        cell, hint = difference_cell(of), PROTOCOL_HINTS.get(e["protocol"], "")
        name = _name(run, e) if several else protocol_name(e["protocol"])
        group = f"{protocol_name(e['protocol'])}: {hint}" if several else ""
        ends, partner = (of["low"], of["high"]), find_start(run.results, e)
        shown = partner and judge_pair(run.results, e, partner, of)[0] in ("raises", "lowers")
        color = swatch_class(e["init"]) if shown else "open"
        note = "" if several else hint
        detail = f"({format_range(of)})" if has_interval(of) else "no interval"
        rows.append(Difference(name, note, of["value"], ends, cell.text, detail, color=color, group=group))
    groups = [row.group for row in rows]
    rows.sort(key=lambda row: groups.index(row.group))
    start = _describe_start(run, compared)
    sides = [f"{start.removeprefix('its ')} better", "training from it better" if several else "pretraining better"]
    if metric in LOWER_IS_BETTER:
        sides.reverse()
    caption = f"Difference in {METRIC_NAMES[metric]} from {start}"
    bars = BARS if any(row.ends != NO_ENDS for row in rows) else NO_BARS
    obstacles = [find_obstacle(run.results, e["init"]) for e in compared]
    if obstacle := next(filter(None, obstacles), ""):
        bars = f"{bars} {obstacle}."
    return make_forest(caption, f"{METRIC_HINTS.get(metric, '')} {_key(start)} {bars}".strip(), rows, *sides)


def _compared(run: RunData) -> list[Evaluation]:
    return [e for e in run.results["evaluations"] if e["name"] in run.differences]


def _has_several(compared: Sequence[Evaluation]) -> bool:
    """Return whether several initializations are compared with their starts."""
    return len({e["init"] for e in compared}) > 1


def _describe_start(run: RunData, compared: Sequence[Evaluation]) -> str:
    """Return what scores are compared with: "random weights", "ImageNet weights alone", or "its starting point"."""
    starts = {start["init"] for e in compared if (start := find_start(run.results, e))}
    return start_name(*starts) if len(starts) == 1 else "its starting point"


def _key(start: str) -> str:
    return {"random weights": KEY, "its starting point": f"{KEY} {SEVERAL}"}.get(start, "")


def _name(run: RunData, e: Evaluation) -> str:
    """Return the name of what is compared with its start, such as "NT-Xent after ImageNet"."""
    start = find_start(run.results, e)
    return name_subject(e["init"], run.results, start["init"] if start else "random")
