"""`python -m jaxssl.report WORKDIR... [--to=DIR]`: writes report.html and prints where.

Into each workdir; into each folder that is none itself but has runs below it, one for all of these; and with --to one
for all runs, into DIR. Ends with 2 where one of them cannot be written.
"""

import sys
from pathlib import Path

from jaxssl import compare, files
from jaxssl.errors import UserError, tell
from jaxssl.report import page, study


def main(arguments: list[str]) -> int:
    """Writes the report of every workdir that is whole, and returns the exit code."""
    if {"--help", "-h"} & set(arguments):
        print(__doc__)
        return 0
    to = next((argument.removeprefix("--to=") for argument in arguments if argument.startswith("--to=")), "")
    folders = [Path(argument) for argument in arguments if not argument.startswith("--to=")]
    if not folders:
        print("jaxssl: no workdir given: python -m jaxssl.report WORKDIR...", file=sys.stderr)
        return UserError.exit_code
    code = 0
    for together in [folders] if to else [[folder] for folder in folders]:
        try:
            print(write(together, Path(to) if to else None))
        except UserError as error:
            code = tell(error)
    return code


def write(folders: list[Path], to: Path | None) -> Path:
    """One page: of the run in the only folder, or of all runs below the folders, in `to` or the first of them."""
    if to is None and ((folders[0] / "results.json").exists() or not any(folders[0].rglob("results.json"))):
        return page.write(folders[0])
    place = folders[0] if to is None else to
    if (place / "results.json").exists():
        raise UserError(f"--to={place} is the workdir of a run, whose own report stands there: name another folder")
    runs, unfinished = compare.find(folders)
    text = study.document(compare.study(runs, unfinished), place, [(run.folder, run.results) for run in runs])
    try:
        files.write_text(place / "report.html", text)
    except OSError as error:
        raise UserError(f"--to={place} cannot be written: {error.strerror}") from error
    return place / "report.html"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
