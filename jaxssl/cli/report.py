"""Write report.html of runs again.

    jaxssl report runs/mine
    jaxssl report runs/a runs/b --to=runs/both

A workdir gets the report of its run; a folder with runs below it gets one report of all these runs; with --to, all runs
go into one report in DIR. The exit code is 2 if one of the reports cannot be written.
"""

import argparse
from pathlib import Path

from jaxssl import files
from jaxssl.errors import UserError, print_error
from jaxssl.report import page, study
from jaxssl.study import analysis
from jaxssl.study.runs import find_runs

GROUP = "results"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "workdirs",
        nargs="+",
        metavar="WORKDIR",
        type=files.expand_user,
        help="The workdir of a run, or a folder of runs.",
    )
    parser.add_argument(
        "--to", metavar="DIR", type=files.expand_user, help="Write one report of all these runs to this folder."
    )


def run(options: argparse.Namespace) -> int:
    code = 0
    for folders in [options.workdirs] if options.to else [[folder] for folder in options.workdirs]:
        try:
            print(write(folders, options.to))
        except UserError as error:
            code = print_error(error, options.debug)
    return code


def write(folders: list[Path], to: Path | None) -> Path:
    """One page: of the run in the only folder, or of all runs below the folders, in `to` or the first of them."""
    place = folders[0] if to is None else to
    try:
        if to is None and ((place / "results.json").exists() or not any(place.rglob("results.json"))):
            return page.write(place)
        if (place / "results.json").exists():
            message = f"--to={place} is the workdir of a run and keeps the report of that run: give another folder"
            raise UserError(message, code="conflict", field="--to")
        runs, unfinished = find_runs(folders)
        text = study.make_page(analysis.analyze(runs, unfinished), place, [(run.folder, run.results) for run in runs])
        files.write_text(place / "report.html", text)
    except OSError as error:
        file = place / "report.html"
        message = f"{file} cannot be written: {error.strerror}"
        raise UserError(message, code="not-writable", field=str(file)) from error
    except (KeyError, TypeError, AttributeError) as error:
        message = f"{place}: its files are not of one jaxssl run, or damaged: {error!r}"
        raise UserError(message, code="damaged", field=str(place)) from error
    return place / "report.html"
