"""Messages on stderr: warnings of jaxssl once each, in one form; those of libraries only where they are errors."""

import io
import logging
import os
import sys
import warnings

from jaxssl.errors import escape_controls

NAME = "jaxssl"
# GPUs that JAX cannot use: whoever has one wants to know.
KEPT = "GPU may be present"


class Formatter(logging.Formatter):
    """Messages in one line each; names of files in them cannot steer a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return f"jaxssl: {escape_controls(record.getMessage())}"


class Selection(logging.Filter):
    """Passes each warning of jaxssl once, and errors of other libraries."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if record.name.partition(".")[0] != NAME and record.levelno < logging.ERROR and KEPT not in message:
            return False
        is_new = message not in self.seen
        self.seen.add(message)
        return is_new


def configure() -> None:
    """Set up the messages of this process. Python's own warnings stay out, unless they are asked for (`python -W`)."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # Closed by who started it.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):  # Its encoding may lack what names and results are written in.
        sys.stdout.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter())
    handler.addFilter(Selection())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    # Logs of the C++ code of XLA and TensorFlow: errors only.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
