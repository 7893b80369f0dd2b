"""Paired differences between pretrained and random weights."""

from collections.abc import Sequence

from jaxssl.report import figures
from jaxssl.report.blocks import Beside, Body, Cell, Panel, Row, Section, Table
from jaxssl.report.run_data import RunData
from jaxssl.report.sections.common import difference_cell
from jaxssl.results.predictions import COMPARED_METRICS, Differences
from jaxssl.results.schema import Evaluation
from jaxssl.results.words import METRIC_NAMES, format_range, format_signed, has_interval, init_name, protocol_name

CAPTION = (
    "Score of pretrained weights minus that of random weights with the same protocol. Both are scored on the same "
    "resamples of the test groups. An interval on one side of 0 shows a difference; one that includes 0 does not."
)


def section(run: RunData) -> Section | None:
    """Return the differences as a figure and a table."""
    compared = [e for e in run.results["evaluations"] if e["name"] in run.differences]
    if not compared:
        return None
    several = len({e["init"] for e in compared}) > 1

    def row(e: Evaluation) -> Row:
        init = f", {init_name(e['init'], run.results)}" if several else ""
        name = protocol_name(e["protocol"]).capitalize() + init
        return Row(Cell(name), [difference_cell(run.differences[e["name"]][metric]) for metric in COMPARED_METRICS])

    head = ["Protocol", *(METRIC_NAMES[metric] for metric in COMPARED_METRICS)]
    table = Table("Paired differences", CAPTION, head, [Body("", [row(e) for e in compared])], "scores")
    return Section(
        "differences",
        "Difference from random weights, image by image",
        [Beside([*_figure(compared, run.differences), table])],
    )


def _figure(compared: Sequence[Evaluation], differences: Differences) -> list[Panel]:
    points, texts = [], []
    for e in compared:
        auc, protocol = differences[e["name"]]["auc_macro"], protocol_name(e["protocol"])
        if auc["value"] is None:
            continue
        points.append((protocol, e["init"], auc["value"], auc["low"], auc["high"]))
        ends = f", {format_range(auc)}" if has_interval(auc) else ""
        texts.append(f"{protocol} {format_signed(auc['value'])}{ends}")
    if not points:
        return []
    label = f"Differences in macro AUC: {'; '.join(texts)}"
    return [Panel("Difference in macro AUC", figures.draw_intervals("paired", label, points, "random weights"))]
