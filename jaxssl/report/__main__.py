"""`python -m jaxssl.report WORKDIR...`: writes report.html into each and prints where; 2 where one of them cannot."""

import sys
from pathlib import Path

from jaxssl.errors import UserError, tell
from jaxssl.report import page


def main(arguments: list[str]) -> int:
    """Writes the report of every workdir that is whole, and returns the exit code."""
    if {"--help", "-h"} & set(arguments):
        print(__doc__)
        return 0
    if not arguments:
        print("jaxssl: no workdir given: python -m jaxssl.report WORKDIR...", file=sys.stderr)
        return UserError.exit_code
    code = 0
    for workdir in arguments:
        try:
            print(page.write(Path(workdir)))
        except UserError as error:
            code = tell(error)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
