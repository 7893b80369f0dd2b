"""Exceptions that end a command early, each with its exit code."""

import difflib
import re
import sys
from collections.abc import Iterable
from typing import Any, Literal, get_args

ErrorCode = Literal[
    "conflict",  # Two values, or a value and the data, exclude each other.
    "damaged",  # A file of a run, a dataset or a cache is truncated or altered.
    "in-use",  # Another process holds the lock.
    "leakage",  # Training would see what is tested.
    "mismatch",  # Shapes, channels, classes or settings differ where they must agree.
    "missing",  # A file, folder, column, label or package is not there.
    "not-writable",  # A file or folder cannot be written.
    "out-of-memory",  # The host or a device has too little memory.
    "out-of-range",  # A number lies outside its range, or a value has the wrong type.
    "too-few",  # There are too few images, groups, classes or runs.
    "unknown-name",  # A name is not among the allowed ones.
    "unreadable",  # A file cannot be opened, decoded or parsed.
    "unsupported",  # The input is valid, but jaxssl does not handle it.
]
CODES: tuple[str, ...] = get_args(ErrorCode)


# Control characters but tabs, marks of the direction of text, and what cannot be encoded.
_CONTROLS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def escape_controls(text: str) -> str:
    """Return text in one line that cannot steer a terminal: escape becomes "\\x1b", a new line "\\n"."""
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class UserError(Exception):
    """Invalid input. The message names the file, field or flag, its value, and the remedy.

    Attributes:
      code: what kind of fault it is, one of `CODES`; stable, so that callers and tests need not match the wording.
      field: the config field ("data.dir"), flag ("--workdir"), column or file that is at fault; "" where there is none.
    """

    exit_code = 2

    def __init__(self, message: str, *, code: ErrorCode, field: str = "") -> None:
        super().__init__(message)
        self.code: ErrorCode = code
        self.field = field

    def __reduce__(self) -> tuple:
        """Keeps code and field across processes: an exception's own form passes positional arguments alone."""
        return _user_error, (str(self), self.code, self.field)


def _user_error(message: str, code: ErrorCode, field: str) -> UserError:
    return UserError(message, code=code, field=field)


class TrainingFailedError(Exception):
    """Training failed: the loss is not finite, or the encoder collapsed and `on_collapse` is "stop"."""

    exit_code = 3


class PreemptedError(Exception):
    """The process was asked to stop: everything is saved, and the same command resumes."""

    exit_code = 75


def print_error(error: UserError | TrainingFailedError | PreemptedError, debug: bool = False) -> int:
    """Prints the error as one line on stderr and returns its exit code; with `debug`, raises it for the traceback."""
    if debug:
        raise error
    print(f"jaxssl: {escape_controls(str(error))}", file=sys.stderr)
    return error.exit_code


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns "did you mean 'byol'? " for a name close to a known one, else ""; for use inside a message."""
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean '{close[0]}'? " if close else ""


def check_range(path: str, value: float, interval: str, whole: Any = None) -> None:
    """Check that a number lies in an interval such as "(0, 1]"; NaN and values outside are errors.

    Args:
      path: of the field.
      value: the number.
      interval: square brackets include the bound, round ones exclude it; "inf" is no bound, of integers 2**31.
      whole: the value of the field, where `value` is one item of it.
    """
    if isinstance(value, int) and interval.endswith(", inf)"):
        interval = interval.replace("inf)", f"{2**31})")  # JAX counts in 32 bits.
    low, high = map(float, interval[1:-1].split(","))
    above = value > low if interval[0] == "(" else value >= low
    below = value < high if interval[-1] == ")" else value <= high
    if not (above and below):
        shown = value if whole is None else whole
        raise UserError(
            f"{path}={shown} lies outside {interval}: choose a value within it", code="out-of-range", field=path
        )
