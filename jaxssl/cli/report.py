"""Write report.html of runs again.

    jaxssl report runs/mine
    jaxssl report runs/a runs/b --to=runs/both
    jaxssl report runs --serve

A workdir gets the report of its run; a folder with runs below it gets one report of all these runs; with --to, all runs
go into one report in DIR. Runs of several datasets get a report for each, and one of all. The exit code is 2 if one of
the reports cannot be written. With --serve, a page in the browser lists the runs and studies of a folder while they
train: read-only, for this computer only, until Ctrl-C.
"""

import argparse
import contextlib
from pathlib import Path

from jaxssl import files
from jaxssl.cli.server import HOST, make_server
from jaxssl.errors import UserError, print_error
from jaxssl.report import page, study
from jaxssl.results.description import damage_errors
from jaxssl.study import analysis, output
from jaxssl.study.runs import find_studies

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
    parser.add_argument(
        "--serve", nargs="?", type=int, const=8000, metavar="PORT", help="List a folder live; port 8000 by default."
    )


def run(options: argparse.Namespace) -> int:
    if options.serve is not None:
        return serve(options.workdirs, options.serve)
    code = 0
    for folders in [options.workdirs] if options.to else [[folder] for folder in options.workdirs]:
        try:
            print(write(folders, options.to))
        except UserError as error:
            code = print_error(error, options.debug)
    return code


def serve(folders: list[Path], port: int) -> int:
    """Serve the reports of one folder until Ctrl-C."""
    if len(folders) != 1 or not folders[0].is_dir():
        message = f"--serve lists one folder that exists, not {', '.join(map(str, folders))}"
        raise UserError(message, code="missing", field="WORKDIR")
    with make_server(folders[0], port) as server:
        print(f"http://{HOST}:{server.server_port}/ lists {folders[0]}; Ctrl-C ends it", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0


def write(folders: list[Path], to: Path | None) -> Path:
    """One page: of the run in the only folder, or of all runs below the folders, in `to` or the first of them."""
    place = folders[0] if to is None else to
    file = place / "report.html"
    try:
        with damage_errors(place):
            if to is None and ((place / "results.json").exists() or not any(place.rglob("results.json"))):
                return page.write(place)
            if (place / "results.json").exists():
                message = f"--to={place} is the workdir of a run and keeps the report of that run: give another folder"
                raise UserError(message, code="conflict", field="--to")
            studies = {name: (analysis.analyze(*of), of[0]) for name, of in find_studies(folders).items()}
            if len(studies) > 1:
                output.write_datasets(place, studies)
                return file
            [(study_of, runs)] = studies.values()
            files.write_text(file, study.make_page(study_of, place, [(run.folder, run.results) for run in runs]))
    except OSError as error:
        message = f"{file} cannot be written: {files.write_reason(error)}"
        raise UserError(message, code="not-writable", field=str(file)) from error
    return file
