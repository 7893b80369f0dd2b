"""The ways in which a run ends early, each with the exit code that `jaxssl.main` gives it."""

import difflib
import sys
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend: the message names the file, field or flag, the value, and the mend."""

    exit_code = 2


class SickRun(Exception):
    """The run itself went wrong: a loss that is not finite, or a collapsed encoder that was to stop it."""

    exit_code = 3


class Preempted(Exception):
    """The machine wants the run gone: everything is saved, and the same command goes on from here."""

    exit_code = 75


def tell(error: UserError | SickRun | Preempted, debug: bool = False) -> int:
    """Says the one line of an error on stderr and returns its exit code; with `debug` raises it, for a traceback."""
    if debug:
        raise error
    print(f"jaxssl: {error}", file=sys.stderr)
    return error.exit_code


def guess(given: str, known: Iterable[str]) -> str:
    """ "did you mean 'byol'? " for a name that is nearly one of those known, else nothing; a part of a message."""
    near = difflib.get_close_matches(given, known, 1)
    return f"did you mean '{near[0]}'? " if near else ""
