"""The page of several studies, each on a dataset of its own: which start helps on which data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxssl.report.blocks import Body, Cell, Grid, HeatCell, HeatMap, Row, Section, Table, cells
from jaxssl.report.render import render
from jaxssl.report.sections import study_differences
from jaxssl.report.study import MAX_SENTENCES, read_commands
from jaxssl.report.study_data import StudyData
from jaxssl.results.datasets_verdict import describe_studies, judge_studies
from jaxssl.results.study_conclusions import format_evidence, is_better
from jaxssl.results.study_verdict import describe_where, find_main_differences, judge_study
from jaxssl.results.words import METRIC_NAMES, arm_title, count_common_digits, effect_title, format_signed, shorten

CAPTION = (
    "Difference of each start from random weights, or from those named after “after”. Blue is better, orange worse; "
    "bold holds for other seeds and other test images. Intervals: hover over a cell, or see below."
)


def make_page(studies: Mapping[str, StudyData], folder: Path) -> str:
    """Return the HTML of the page.

    Args:
      studies: by dataset; the folder of each holds its own page.
      folder: where this page will be.
    """
    contents = {name: data.study for name, data in studies.items()}
    commands = {name: read_commands(data.runs) for name, data in studies.items()}
    may, may_not = describe_studies(contents)
    verdict = judge_studies(contents, commands)
    return render(
        "answer.html.j2",
        verdict.question,
        [_differences(studies), _datasets(studies, folder)],
        verdict=verdict,
        figures=[make_heat_map(contents)],
        answer="Each dataset is a study of its own, with its own page.",
        may=may,
        may_not=may_not,
        shown=MAX_SENTENCES,
    )


def make_heat_map(studies: Mapping[str, Any]) -> HeatMap:
    """Return starts by datasets; colors are scaled to the largest difference of a metric."""
    found: dict[str, dict[str, HeatCell]] = {}
    main = {name: find_main_differences(study) for name, study in studies.items()}
    largest = {}
    for d in (d for of in main.values() for d in of):
        largest[d["metric"]] = max(largest.get(d["metric"], 1e-9), abs(d["mean"] or 0))
    several = len({d["labels"] for of in main.values() for d in of}) > 1
    for dataset, of in main.items():
        digits = count_common_digits([d["over_groups"] for d in of])
        for d in of:
            start = effect_title(d) if d["effect"] else f"{arm_title(d['a'])} − {arm_title(d['b'])}"
            row = found.setdefault(f"{start}, {describe_where(d, several)}", {})
            if d["mean"] is not None:
                row[dataset] = HeatCell(
                    format_signed(d["mean"], digits),
                    format_evidence(d),
                    abs(d["mean"]) / largest[d["metric"]],
                    is_better(d),
                    d["verdict"] in ("higher", "lower"),
                )
    metrics = {name: ", ".join(dict.fromkeys(METRIC_NAMES[d["metric"]] for d in of)) for name, of in main.items()}
    columns = [(shorten(name), metrics[name]) for name in studies]
    rows = [(start, [row.get(name) for name in studies]) for start, row in found.items()]
    return HeatMap("Which start helps on which data", CAPTION, columns, rows)


def _differences(studies: Mapping[str, StudyData]) -> Section:
    plots = [(name, plot) for name, data in studies.items() for plot in study_differences.plot(data)]
    drawn = [plot._replace(caption=f"{shorten(name)}: {plot.caption}") for name, plot in plots]
    return Section("differences", "Differences on each dataset", [Grid(drawn, "wide")], folded=False)


def _datasets(studies: Mapping[str, StudyData], folder: Path) -> Section:
    rows = []
    for name, data in studies.items():
        study, page = data.study, data.folder / "report.html"
        seeds = len({seed for arm in study["arms"] for seed in arm["seeds"]})
        counts = cells(f"{study['images']:,}", f"{study['groups']:,}", str(study["runs"]), str(seeds))
        href = page.relative_to(folder).as_posix()
        rows.append(Row(Cell(shorten(name)), [Cell(judge_study(study).words), *counts], href))
    head = ["Dataset", "answer", "test images", "groups", "runs", "seeds"]
    table = Table("List of the datasets", "Each name leads to the study of that dataset.", head, [Body("", rows)])
    return Section("datasets", "Datasets", [table], folded=False)
