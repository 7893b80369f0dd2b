"""`python -m jaxssl.report WORKDIR... [--to=DIR]`: writes report.html and prints where.

Into each workdir; into each folder that is none itself but has runs below it, one for all of these; and with --to one
for all runs, into DIR. Ends with 2 where one of them cannot be written.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxssl import files
from jaxssl.cli import parser as commands
from jaxssl.errors import UserError, print_error
from jaxssl.report import page, study
from jaxssl.study import compare


def parser() -> argparse.ArgumentParser:
    top = commands.parser("jaxssl.report", __doc__)
    top.add_argument(
        "workdirs", nargs="+", metavar="WORKDIR", type=files.expand_user, help="Of a run, or with runs below it."
    )
    top.add_argument("--to", metavar="DIR", type=files.expand_user, help="Where one report of all these runs goes.")
    return top


def main(arguments: Sequence[str]) -> int:
    """Writes the report of every workdir that is whole, and returns the exit code."""
    o, code = parser().parse_args(arguments), 0
    for together in [o.workdirs] if o.to else [[folder] for folder in o.workdirs]:
        try:
            print(write(together, o.to))
        except UserError as error:
            code = print_error(error, o.debug)
    return code


def write(folders: list[Path], to: Path | None) -> Path:
    """One page: of the run in the only folder, or of all runs below the folders, in `to` or the first of them."""
    place = folders[0] if to is None else to
    try:
        if to is None and ((place / "results.json").exists() or not any(place.rglob("results.json"))):
            return page.write(place)
        if (place / "results.json").exists():
            raise UserError(f"--to={place} is the workdir of a run, whose own report stands there: name another folder")
        runs, unfinished = compare.find(folders)
        text = study.document(compare.study(runs, unfinished), place, [(run.folder, run.results) for run in runs])
        files.write_text(place / "report.html", text)
    except OSError as error:
        raise UserError(f"{place / 'report.html'} cannot be written: {error.strerror}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{place}: its files are not of one jaxssl run, or damaged: {error!r}") from error
    return place / "report.html"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
