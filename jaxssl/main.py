"""`python -m jaxssl.main --config=configs/byol_lenses.py`: flags, the locked config, exit codes; nothing else."""

import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from jaxssl.training import runtime

if __name__ == "__main__":
    runtime.restart()

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxssl.config import fields as configuration
from jaxssl.errors import PreemptedError, TrainingFailedError, UserError, print_error
from jaxssl.run import experiment
from jaxssl.training import distributed, loop


def define(arguments: list[str]) -> flags.FlagValues:
    """The flags for these arguments, none of them read yet."""
    values = flags.FlagValues()
    given = {"flag_values": values}
    config_flags.DEFINE_config_file(
        "config", None, "A file of configs/, its argument after a colon.", sys_argv=arguments, **given
    )
    flags.DEFINE_string("workdir", None, "Where all goes; runs/<config> by default. The same again resumes.", **given)
    flags.DEFINE_bool("debug", False, "Show the traceback of an error that is the user's to mend.", **given)
    flags.DEFINE_string("coordinator", None, "host:port of process 0, where several train together.", **given)
    flags.DEFINE_integer("num_processes", None, "How many processes train together.", **given)
    flags.DEFINE_integer("process_id", None, "Which of them this is.", **given)
    return values


def parse(values: flags.FlagValues, arguments: list[str]) -> ConfigDict:
    """Reads the flags and returns the config, locked.

    Raises:
      UserError: an unknown flag or field, a value of the wrong type, a config file that fails.
    """
    try:
        rest = values(arguments)
        config = values.config
        if config is not None:
            config.keys()  # A file that failed to load says so only once it is asked for something.
    except Exception as error:
        text = error.args[0] if isinstance(error, KeyError) else str(error)
        raise UserError(" ".join(str(text).split())) from error
    if len(rest) > 1:
        raise UserError(f"{rest[1]!r} is not a flag; fields are set as --config.pretrain.epochs=2")
    if config is None:
        raise UserError("--config is missing: python -m jaxssl.main --config=configs/byol_lenses.py")
    return config


def default_workdir(config_path: str) -> Path:
    """runs/byol_ham-local for configs/byol_ham.py:local."""
    file, _, argument = config_path.partition(":")
    return Path("runs") / "-".join(filter(None, (Path(file).stem, argument)))


def preempt(number: int, frame: FrameType | None) -> None:
    """Ends the process at a signal between two trainings; `train.epochs` answers those that come within.

    At once, as `kill -9` would: all files are whole at any moment, and an exception here could wait for a lock.
    """
    message = "jaxssl: stopped between two phases, all before is saved; the same command goes on from there\n"
    os.write(2, message.encode())
    distributed.end(PreemptedError.exit_code)
    os._exit(PreemptedError.exit_code)


def main(arguments: list[str]) -> int:
    """Runs one experiment and returns the exit code: 0 done, 2 the user's to mend, 3 sick, 75 preempted and saved."""
    values = define(arguments)
    if {"--help", "-h"} & {*arguments}:
        print(__doc__, values.get_help(), sep="\n")
        return 0
    try:
        config = parse(values, arguments)
        runtime.apply()
        configuration.check(config)
        for number in loop.SIGNALS:
            signal.signal(number, preempt)
        distributed.connect(values.coordinator, values.num_processes, values.process_id)
        workdir = values.workdir or default_workdir(config_flags.get_config_filename(values["config"]))
        experiment.run(config, Path(workdir).expanduser())
        return 0
    except (UserError, TrainingFailedError, PreemptedError) as error:
        code = print_error(error, values.is_parsed() and values.debug)
    except jax.errors.JaxRuntimeError as error:
        code = print_error(distributed.as_preemption(error), values.debug)
    except KeyboardInterrupt:
        print("jaxssl: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        code = 128 + signal.SIGINT
    distributed.end(code)
    return code


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="jaxssl: %(message)s")
    code = main(sys.argv)
    sys.stdout.flush()
    sys.stderr.flush()
    if code:
        # After a write that failed, orbax has threads that wait for minutes and then have more to say.
        os._exit(code)
