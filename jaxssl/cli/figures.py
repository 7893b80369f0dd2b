"""Write the figures of a report for a paper: SVG, PDF and their data as CSV.

    jaxssl figures runs/mine
    jaxssl figures runs/priors --to=paper/figures --width=180

FOLDER is the workdir of a run, or a folder with the runs of a study. The figures are as wide as a column, 88 mm, with
text of 8 points.
"""

import argparse

from jaxssl import files
from jaxssl.errors import UserError
from jaxssl.report import export, page, run_data, study
from jaxssl.report.figures import collect_drawings
from jaxssl.report.sections import differences, study_differences
from jaxssl.report.study_data import StudyData
from jaxssl.results.description import damage_errors
from jaxssl.results.words import arm_title, init_name
from jaxssl.study import analysis
from jaxssl.study.runs import find_runs

GROUP = "results"
WIDTHS = (30.0, 400.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=files.expand_user, metavar="FOLDER", help="A workdir, or a folder of runs.")
    parser.add_argument(
        "--to", type=files.expand_user, metavar="DIR", help="Output directory; FOLDER/figures by default."
    )
    parser.add_argument("--width", type=float, default=export.COLUMN, metavar="MM", help="Width in mm; 88 by default.")


def run(options: argparse.Namespace) -> int:
    if not WIDTHS[0] <= options.width <= WIDTHS[1]:
        message = f"--width={options.width:g} mm is out of range: give {WIDTHS[0]:g} to {WIDTHS[1]:g}"
        raise UserError(message, code="out-of-range", field="--width")
    folder = options.folder
    with damage_errors(folder):
        if (folder / "results.json").exists() or not any(folder.rglob("results.json")):
            data = run_data.read(folder)
            with collect_drawings() as drawings:
                for section in page.SECTIONS:
                    section(data)
            forests = differences.plot(data)
            inits = [e["init"] for e in data.results["evaluations"]]
            names = {init: init_name(init, data.results) for init in [*inits, "ssl"]}
        else:
            runs, unfinished = find_runs([folder])
            found = StudyData(analysis.analyze(runs, unfinished), folder, [(run.folder, run.results) for run in runs])
            with collect_drawings() as drawings:
                for section in study.SECTIONS:
                    section(found)
            forests = study_differences.plot(found)
            names = {arm["name"]: arm_title(arm["name"]) for arm in found.study["arms"]}
    to = options.to or folder / "figures"
    with files.output_errors(to):
        to.mkdir(parents=True, exist_ok=True)
        print(*export.export(drawings, forests, to, names, options.width), sep="\n")
    return 0
