"""The ways in which a run ends early, each with the exit code that `jaxssl.main` gives it."""


class UserError(Exception):
    """Something the user can mend: the message names the file, field or flag, the value, and the mend."""

    exit_code = 2


class SickRun(Exception):
    """The run itself went wrong: a loss that is not finite, or a collapsed encoder that was to stop it."""

    exit_code = 3


class Preempted(Exception):
    """The machine wants the run gone: everything is saved, and the same command goes on from here."""

    exit_code = 75
