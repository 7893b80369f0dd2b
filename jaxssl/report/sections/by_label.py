"""Scores of each of several labels."""

from typing import cast

from jaxssl.report.blocks import Body, Cell, Row, Section, Table, Text, cells
from jaxssl.report.run_data import RunData
from jaxssl.report.sections.common import estimate_cell
from jaxssl.results.schema import Evaluation
from jaxssl.results.words import METRIC_NAMES, get_score, group_by_protocol, init_name, protocol_name, shorten

TEXT = "Each label on the test images in which it is known, with 95 % intervals over groups where there are enough."


def section(run: RunData) -> Section | None:
    """Return a table of the AUC of each label by initialization, for each protocol; None unless there are labels."""
    results, tables = run.results, []
    for protocol, of in group_by_protocol(results["evaluations"]).items():
        if not of[0].get("by_label"):
            continue
        rows = []
        for k, name in enumerate(results["dataset"]["classes"]):
            labels = [e.get("by_label", [])[k] for e in of]
            scores = [estimate_cell(get_score(cast(Evaluation, label), "auc_macro")) for label in labels]
            counts = cells(f"{labels[0]['positives']:,} of {labels[0]['images']:,}")
            rows.append(Row(Cell(shorten(name)), [*counts, *scores]))
        title = f"{METRIC_NAMES['auc_macro'].removeprefix('macro ')}, {protocol_name(protocol)}"
        head = ["Label", "images", *(init_name(e["init"], results) for e in of)]
        tables.append(Table(f"Scores by label, {protocol}", title, head, [Body("", rows)], "scores"))
    return Section("labels", "Scores by label", [Text(TEXT), *tables]) if tables else None
