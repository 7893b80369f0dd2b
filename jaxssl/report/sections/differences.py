"""Paired differences between pretrained and random weights."""

from collections.abc import Sequence

from jaxssl.report.blocks import Body, Cell, Row, Section, Table
from jaxssl.report.figures import swatch_class
from jaxssl.report.forest import Difference, Forest, make_forest
from jaxssl.report.run_data import RunData
from jaxssl.report.sections.common import difference_cell
from jaxssl.results.predictions import COMPARED_METRICS
from jaxssl.results.schema import Evaluation
from jaxssl.results.words import METRIC_NAMES, init_name, protocol_name

CAPTION = (
    "Score of pretrained weights minus that of random weights with the same protocol. Both are compared on "
    "the same groups of test images. An interval on one side of 0 shows a difference; one that includes 0 does not."
)


def section(run: RunData) -> Section | None:
    """Return the differences as a table; their figure is on the first screen."""
    compared, names = _compared(run)
    if not compared:
        return None

    def row(e: Evaluation) -> Row:
        cells = [difference_cell(run.differences[e["name"]][metric]) for metric in COMPARED_METRICS]
        return Row(Cell(names[e["name"]].capitalize()), cells)

    head = ["Protocol", *(METRIC_NAMES[metric] for metric in COMPARED_METRICS)]
    table = Table("Paired differences", CAPTION, head, [Body("", [row(e) for e in compared])], "scores")
    return Section("differences", "Difference from random weights, image by image", [table], folded=False)


def plot(run: RunData) -> Forest | None:
    """Return the forest plot of the differences in macro AUC; None where nothing is compared."""
    compared, names = _compared(run)
    rows = []
    for e in compared:
        auc = run.differences[e["name"]]["auc_macro"]
        cell = difference_cell(auc)
        ends = (auc["low"], auc["high"])
        rows.append(
            Difference(names[e["name"]], "", auc["value"], ends, cell.text, cell.small, color=swatch_class(e["init"]))
        )
    caption = "Difference in macro AUC from random weights, with 95 % interval"
    return make_forest(caption, rows, "random weights better", "pretraining better") if rows else None


def _compared(run: RunData) -> tuple[Sequence[Evaluation], dict[str, str]]:
    """Return the evaluations that have differences, and their names: the protocol, and the weights where they vary."""
    compared = [e for e in run.results["evaluations"] if e["name"] in run.differences]
    several = len({e["init"] for e in compared}) > 1
    names = {}
    for e in compared:
        init = f", {init_name(e['init'], run.results)}" if several else ""
        names[e["name"]] = protocol_name(e["protocol"]) + init
    return compared, names
