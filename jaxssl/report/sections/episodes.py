"""Few-shot episodes: accuracy with a few labels of each class."""

from jaxssl.report.blocks import Body, Cell, Row, Section, Table, Text
from jaxssl.report.run_data import RunData
from jaxssl.report.sections.common import estimate_cell
from jaxssl.results.words import format_number, init_name


def section(run: RunData) -> Section | None:
    """Return a table of the mean accuracy of each initialization, a row for each number of labels."""
    episodes = run.results.get("episodes", [])
    if not episodes:
        return None
    inits = list(dict.fromkeys(e["init"] for e in episodes))
    by_shots = {e["shots"]: {} for e in episodes}
    for e in episodes:
        by_shots[e["shots"]][e["init"]] = e
    rows = []
    for shots, of in by_shots.items():
        scores = [estimate_cell(of[init]["accuracy"]) if init in of else Cell("") for init in inits]
        rows.append(Row(Cell(f"{shots} a class"), scores))
    first = episodes[0]
    text = (
        "Mean balanced accuracy on the test images of the nearest class mean on frozen features, over "
        f"{first['draws']:,} draws of the labels, with its 95 % interval over draws, which does not contain the "
        f"variation of test images. Chance is {format_number(1 / len(run.results['dataset']['classes']))}."
    )
    head = ["Labels", *(init_name(init, run.results) for init in inits)]
    table = Table("Few-shot episodes", "Balanced accuracy", head, [Body("", rows)], "scores")
    return Section("episodes", "Few-shot episodes", [Text(text), table])
