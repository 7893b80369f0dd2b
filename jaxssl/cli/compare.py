"""Compare the arms of a study: which is better, by how much, with which certainty.

    jaxssl compare runs/priors
    jaxssl compare runs/a runs/b --to=runs/both --against=random

Reads every finished run below the folders. Writes report.html, compare.json, compare_arms.csv and
compare_differences.csv to --to, by default to the first folder.
"""

import argparse

from rich.console import Console
from rich.text import Text

from jaxssl import files
from jaxssl.report.study import read_commands
from jaxssl.report.table import show_verdict
from jaxssl.results.study_verdict import judge_study
from jaxssl.study import analysis, output, tables
from jaxssl.study.runs import find_runs

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
    runs, unfinished = find_runs(options.folders)
    study = analysis.analyze(runs, unfinished, options.against)
    written = output.write(options.to or options.folders[0], study, runs)
    console = Console(markup=False, emoji=False, highlight=False)
    for table in (tables.score_table(study), tables.label_table(study), tables.compute_table(study)):
        if table is not None:
            console.print(table)
    for title, key in (("What may be concluded", "may"), ("What may not be concluded", "may_not")):
        console.print(Text(title, style="bold"))
        console.print(tables.list_sentences(study["conclusion"][key]))
    for line in show_verdict(judge_study(study, read_commands([(run.folder, run.results) for run in runs]))):
        console.print(line)
    for file in written:
        console.print(Text(str(file), overflow="fold", style="dim"))
    return 0
