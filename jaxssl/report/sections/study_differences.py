"""Differences between the arms of a study."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxssl.report.blocks import Block, Details, Section, Text
from jaxssl.report.forest import Difference, Forest, make_forest
from jaxssl.report.study_data import StudyData
from jaxssl.results.study_conclusions import count_effects, headline_metrics, sort_key
from jaxssl.results.study_verdict import describe_where, find_main_differences
from jaxssl.results.words import (
    LOWER_IS_BETTER,
    METRIC_HINTS,
    METRIC_NAMES,
    PROTOCOL_HINTS,
    arm_title,
    count_digits,
    effect_title,
    format_count,
    format_p,
    format_range,
    format_signed,
    has_interval,
)

MAX_ROWS = 24  # Of more differences, only those from what an arm started from are shown at first.
MAX_PLOTTED = 16  # Rows of the forest plot on the first screen.
TEXT = (
    "Each p-value is the larger of that for other seeds and that for other test groups, corrected by Holm's method: "
    "differences from what an arm started from over these, others over all. In color are those that hold for both."
)
KEY = "95 % intervals over test groups (broad) and over training runs (thin), in numbers the wider one."
OPEN = "Grey: not shown for other seeds and other test groups."
MARK = "\u00a0†"  # Of differences that are open though their interval leaves out 0.
SEVERAL = "its starting point"
START_KEYS = {
    "random weights": "Random weights: no pretraining.",
    SEVERAL: "Starting point: the weights named after “after”, else random ones of the same encoder.",
}
COLORS = {"higher": "ssl", "lower": "random", "these runs": "open", "open": "open"}


def section(data: StudyData) -> Section | None:
    """Return the differences in each metric, those that come first and the rest on request."""
    if not data.study["differences"]:
        return None
    blocks: list[Block] = [Text(TEXT)]
    for metric in dict.fromkeys(metric for arm in data.study["arms"] for metric in headline_metrics([arm])):
        found = [d for d in data.study["differences"] if d["metric"] == metric]
        first = [d for d in found if d["effect"]] if len(found) > MAX_ROWS else found
        rest = [d for d in found if d not in first]
        blocks += [forest] if (forest := _draw(data, first)) else []
        if forest := _draw(data, rest):
            blocks.append(Details(f"{len(rest)} more differences in {METRIC_NAMES[metric]}", [forest]))
    return Section("differences", "Differences between arms, run by run", blocks, folded=False)


def plot(data: StudyData) -> list[Forest]:
    """Return a forest plot of the surest differences in each primary score; those of classes and masks differ."""
    surest = sorted(find_main_differences(data.study), key=sort_key)[:MAX_PLOTTED]
    metrics = dict.fromkeys(d["metric"] for d in surest)
    forests = [_draw(data, [d for d in surest if d["metric"] == metric], with_p=False) for metric in metrics]
    return [forest for forest in forests if forest]


def _name_start(differences: Sequence[Mapping[str, Any]]) -> str:
    """Return what all arms started from, or `SEVERAL`."""
    starts = {arm_title(d["b"]) for d in differences}
    return starts.pop() if len(starts) == 1 else SEVERAL


def _draw(data: StudyData, differences: Sequence[Mapping[str, Any]], with_p: bool = True) -> Forest | None:
    """Return the forest plot of differences in one metric, by protocol; None where there are none."""
    if not differences:
        return None
    found = sorted(differences, key=lambda d: (d["protocol"], -d["label_fraction"], d["b"], -(d["mean"] or 0)))
    several = len({arm["labels"] for arm in data.study["arms"]}) > 1
    alone = len({(d["a"], d["b"]) for d in found}) == 1
    effects, metric = all(d["effect"] for d in found), found[0]["metric"]
    start = _name_start(found) if effects else ""
    rows = []
    for d in found:
        name = effect_title(d) if effects else f"{arm_title(d['a'])} − {arm_title(d['b'])}"
        where, ends = describe_where(d, several), [d["over_groups"], d["over_runs"]]
        decides = _find_wider(ends)
        detail = [f"({format_range(decides)}){_mark_corrected(d, decides)}"] if has_interval(decides) else []
        detail += ["other seeds: open"] if d["verdict"] == "these runs" and d["p_holm"] is None else []
        detail += [format_p(d["p_holm"])] if with_p and d["p_holm"] is not None else []
        names = (where, PROTOCOL_HINTS.get(d["protocol"], "")) if alone else (name, "")
        text, drawn = format_signed(d["mean"], count_digits(decides)), [(of["low"], of["high"]) for of in ends]
        color, group = COLORS[d["verdict"]], "" if alone else where
        rows.append(Difference(*names, d["mean"], drawn[0], text, ", ".join(detail), drawn[1], color, group))
    caption = f"Difference in {METRIC_NAMES[metric]} {f'from {start}' if effects else 'between arms'}"
    sides = [f"{start.removeprefix('its ')} better", "this better"] if effects else ["second better", "first better"]
    none = f"{START_KEYS[start]} " if start in START_KEYS else ""
    grey = " ".join(dict.fromkeys(f"{d['without']}." if d["without"] else OPEN for d in found))
    key = f"{METRIC_HINTS.get(metric, '')} {none}{KEY} {grey}".strip()
    if any(MARK in row.detail for row in rows):
        count = count_effects(data.study["differences"]) if effects else len(data.study["differences"])
        key += f" {MARK.strip()}: open after correction for {format_count(count, 'comparison')}."
    return make_forest(caption, key, rows, *(reversed(sides) if metric in LOWER_IS_BETTER else sides))


def _find_wider(ends: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the interval that limits what is known; the first where there is none."""
    return max(ends, key=lambda of: of["high"] - of["low"] if has_interval(of) else -1.0)


def _mark_corrected(d: Mapping[str, Any], ends: Mapping[str, Any]) -> str:
    """Return the mark of a difference that is open by the corrected p-value alone, else ""."""
    apart = (ends["low"] > 0 or ends["high"] < 0) and not d["without"]
    return (
        MARK if apart and (d["verdict"] == "open" or (d["verdict"] == "these runs" and d["p_holm"] is not None)) else ""
    )
