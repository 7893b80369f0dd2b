"""Compare the arms of a study: which is better, by how much, with which certainty.

    jaxssl compare runs/priors
    jaxssl compare runs/a runs/b --to=runs/both --against=random

Reads every finished run below the folders. Writes report.html, compare.json, compare_arms.csv and
compare_differences.csv to --to, by default to the first folder. Runs of several datasets are a study each, with its
files in a folder of its name, and report.html tells which start helps on which data.
"""

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from jaxssl import files
from jaxssl.report.study import read_commands
from jaxssl.report.table import show_verdict
from jaxssl.results.datasets_verdict import judge_studies
from jaxssl.results.study_schema import Study
from jaxssl.results.study_verdict import judge_study
from jaxssl.study import analysis, output, tables
from jaxssl.study.runs import Run, find_studies

GROUP = "results"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", nargs="+", type=files.expand_user, metavar="FOLDER", help="A folder with runs in it, at any depth."
    )
    parser.add_argument(
        "--to", type=files.expand_user, metavar="DIR", help="Output directory; the first folder by default."
    )
    parser.add_argument("--against", metavar="ARM", help="Compare every arm with this one only, such as random.")


def run(options: argparse.Namespace) -> int:
    found, to = find_studies(options.folders), options.to or options.folders[0]
    studies = {name: (analysis.analyze(runs, left, options.against), runs) for name, (runs, left) in found.items()}
    console = Console(markup=False, emoji=False, highlight=False)
    if len(studies) == 1:
        [(study, runs)] = studies.values()
        written = output.write(to, study, runs)
        show_study(console, study, runs)
    else:
        written = output.write_datasets(to, studies)
        for name, (study, _) in studies.items():
            console.print(Text(f"{name}: {judge_study(study).words}"))
        for line in show_verdict(judge_studies({name: study for name, (study, _) in studies.items()})):
            console.print(line)
    for file in written:
        console.print(Text(str(file), overflow="fold", style="dim"))
    return 0


def show_study(console: Console, study: Study, runs: Sequence[Run]) -> None:
    """Print the tables and conclusions of a study."""
    for table in (*tables.score_tables(study), *tables.label_tables(study), tables.compute_table(study)):
        console.print(table)
    for title, key in (("What may be concluded", "may"), ("What may not be concluded", "may_not")):
        console.print(Text(title, style="bold"))
        console.print(tables.list_sentences(study["conclusion"][key]))
    for line in show_verdict(judge_study(study, read_commands([(run.folder, run.results) for run in runs]))):
        console.print(line)
