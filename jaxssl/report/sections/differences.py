"""Paired differences between pretrained and random weights."""

from collections.abc import Sequence

from jaxssl.report.blocks import Body, Cell, Row, Section, Table
from jaxssl.report.figures import swatch_class
from jaxssl.report.forest import Difference, Forest, make_forest
from jaxssl.report.run_data import RunData
from jaxssl.report.sections.common import difference_cell
from jaxssl.results.schema import Evaluation
from jaxssl.results.words import LOWER_IS_BETTER, METRIC_NAMES, init_name, primary_metric, protocol_name

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
        cells = [difference_cell(of) for of in run.differences[e["name"]].values()]
        return Row(Cell(names[e["name"]].capitalize()), cells)

    metrics = list(run.differences[compared[0]["name"]])
    head = ["Protocol", *(METRIC_NAMES[metric] for metric in metrics)]
    caption = CAPTION + (" Of the mean absolute error, lower is better." if "mae" in metrics else "")
    table = Table("Paired differences", caption, head, [Body("", [row(e) for e in compared])], "scores")
    return Section("differences", "Difference from random weights, image by image", [table], folded=False)


def plot(run: RunData) -> Forest | None:
    """Return the forest plot of the differences in the primary score; None where nothing is compared."""
    compared, names = _compared(run)
    if not compared:
        return None
    rows, metric = [], primary_metric(compared[0])
    for e in compared:
        of = run.differences[e["name"]][metric]
        cell = difference_cell(of)
        ends = (of["low"], of["high"])
        rows.append(
            Difference(names[e["name"]], "", of["value"], ends, cell.text, cell.small, color=swatch_class(e["init"]))
        )
    sides = ["random weights better", "pretraining better"]
    if metric in LOWER_IS_BETTER:
        sides.reverse()
    return make_forest(f"Difference in {METRIC_NAMES[metric]} from random weights, with 95 % interval", rows, *sides)


def _compared(run: RunData) -> tuple[Sequence[Evaluation], dict[str, str]]:
    """Return the evaluations that have differences, and their names: the protocol, and the weights where they vary."""
    compared = [e for e in run.results["evaluations"] if e["name"] in run.differences]
    several = len({e["init"] for e in compared}) > 1
    names = {}
    for e in compared:
        init = f", {init_name(e['init'], run.results)}" if several else ""
        names[e["name"]] = protocol_name(e["protocol"]) + init
    return compared, names
