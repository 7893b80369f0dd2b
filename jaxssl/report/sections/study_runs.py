"""The runs of a study, and what its numbers rest on."""

import os
from pathlib import Path
from urllib.parse import quote

from jaxssl.report.blocks import Body, Cell, Facts, Row, Section, Table, Text, cells
from jaxssl.report.study_data import StudyData, StudyRun
from jaxssl.results.words import dataset_title, method_name, shorten_list

SPLIT_NAMES = {
    "one run": "one run of each arm",
    "fixed": "all runs have the same test images",
    "resplit": "runs have different test images of the same data",
    "simulated": "each seed has images of its own",
}


def section(data: StudyData) -> Section:
    """Return the runs, with links to their pages."""
    caption = "The runs, with a link to the report of each that has one"
    head = ["Run", "pretraining", "seed", "fold", "labels"]
    body = Body("", [_row(data.folder, run) for run in data.runs])
    return Section("runs", "Runs", [Table("List of the runs", caption, head, [body], "runs")])


def _row(folder: Path, run: StudyRun) -> Row:
    workdir, results = run
    place = os.path.relpath(workdir, folder.resolve())
    href = f"{quote(os.fsencode(place))}/report.html" if (workdir / "report.html").exists() else ""
    evaluations = results["evaluations"]
    seeds = ", ".join(map(str, sorted({e["seed"] for e in evaluations})))
    folds = ", ".join(map(str, sorted({e["fold"] for e in evaluations if e["fold"] is not None})))
    shares = ", ".join(f"{100 * share:.3g} %" for share in sorted({e["label_fraction"] for e in evaluations}))
    method = method_name(results) if results["pretrain"] else "none"
    return Row(Cell(place), cells(method, seeds, folds, shares), href)


def basis_section(data: StudyData) -> Section:
    """Return the data and the number of tests."""
    study, dataset = data.study, data.study["dataset"]
    facts = [
        ("Dataset", dataset_title(dataset)),
        ("Classes", ", ".join(shorten_list(dataset["classes"])) or "no labels"),
        ("Data fingerprints", ", ".join(dataset["fingerprints"])),
        ("Test images", SPLIT_NAMES[study["split"]]),
        ("Test images and their groups", f"{study['images']:,} and {study['groups']:,}"),
        ("Tests that Holm's correction counts", f"{study['tests']:,}"),
        ("Unfinished runs", f"{study['unfinished']:,}"),
    ]
    return Section(
        "basis",
        "What this rests on",
        [Facts(facts), Text("All numbers are in compare.json, and as tables next to it.")],
    )
