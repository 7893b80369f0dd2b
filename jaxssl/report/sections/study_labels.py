"""Label efficiency of the arms of a study."""

from collections.abc import Sequence

import numpy as np

from jaxssl.report import figures
from jaxssl.report.blocks import Grid, Key, Legend, Panel, Section, Text
from jaxssl.report.study_data import StudyData
from jaxssl.results.study_schema import Curve
from jaxssl.results.words import METRIC_NAMES, arm_title, clean_text, format_number, has_interval, protocol_name

TEXT = (
    "Mean scores by the share of the labels used for training; bands are 95 % intervals over runs, or over test groups."
)


def section(data: StudyData) -> Section | None:
    """Return a panel for each protocol and metric."""
    curves, panels = data.study["curves"], []
    if not curves:
        return None
    names = list(dict.fromkeys(c["name"] for c in curves))
    for protocol in dict.fromkeys(c["protocol"] for c in curves):
        for metric in dict.fromkeys(c["metric"] for c in curves if c["protocol"] == protocol):
            shown = [c for c in curves if (c["metric"], c["protocol"]) == (metric, protocol)]
            if panel := _panel(names, shown, metric, protocol):
                panels.append(panel)
    legend = Legend([Key(arm_title(name), kind=kind) for kind, name in enumerate(names)])
    return Section("labels", "Label efficiency", [Text(TEXT), legend, Grid(panels)])


def _panel(names: Sequence[str], curves: Sequence[Curve], metric: str, protocol: str) -> Panel | None:
    lines, ticks, texts = [], {}, []
    for curve in curves:
        points = [point for point in curve["points"] if point["mean"] is not None]
        if not points:
            continue
        x, y = np.array([point["label_fraction"] for point in points]), np.array([point["mean"] for point in points])
        runs, groups = [p["over_runs"] for p in points], [p["over_groups"] for p in points]
        intervals = runs if all(map(has_interval, runs)) else groups
        band = None
        if all(map(has_interval, intervals)):
            band = (x, np.array([i["low"] for i in intervals]), np.array([i["high"] for i in intervals]))
        lines.append((names.index(curve["name"]), figures.Line(curve["name"], x, y, band)))
        ticks |= {point["label_fraction"]: point["labels"].replace(" %", "%") for point in points}
        texts.append(f"{arm_title(curve['name'])} {format_number(y[0])} to {format_number(y[-1])}")
    if not lines:
        return None
    title = f"{protocol_name(protocol).capitalize()}, {METRIC_NAMES[metric]}"
    label = clean_text(f"{title} by the share of the labels: {'; '.join(texts)}")
    name = f"labels-{metric}-{protocol}".replace("_", "-")
    return Panel(title, figures.draw_label_efficiency(name, label, lines, ticks))
