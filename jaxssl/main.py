"""`python -m jaxssl.main --config=configs/byol_lenses.py`: flags, the locked config, exit codes; nothing else."""

import logging
import os
import sys
from pathlib import Path

import jax
from absl import flags
from ml_collections import config_flags

from jaxssl import config as configuration
from jaxssl import experiment, sharding
from jaxssl.errors import Preempted, SickRun, UserError

FLAGS = flags.FLAGS
config_flags.DEFINE_config_file("config", None, "A file of configs/, with its argument after a colon.", lock_config=True)
flags.DEFINE_string("workdir", None, "Where everything goes; runs/<config> by default. The same again resumes.")
flags.DEFINE_bool("debug", False, "Show the traceback of an error that is the user's to mend.")
flags.DEFINE_string("coordinator", None, "host:port of process 0, where several processes train together.")
flags.DEFINE_integer("num_processes", None, "How many processes train together.")
flags.DEFINE_integer("process_id", None, "Which of them this is.")

COMPILATION_CACHE = "~/.cache/jaxssl/xla"  # JAX_COMPILATION_CACHE_DIR says otherwise.


def parse(arguments: list[str]) -> None:
    """Reads the flags. Raises UserError with one line for an unknown field, a wrong type or a config that fails."""
    try:
        rest = FLAGS(arguments)
    except SystemExit:
        raise
    except Exception as error:
        raise UserError(" ".join(str(error).split())) from error
    if len(rest) > 1:
        raise UserError(f"{rest[1]!r} is not a flag; fields are set as --config.pretrain.epochs=2")
    if FLAGS.config is None:
        raise UserError("--config is missing: python -m jaxssl.main --config=configs/byol_lenses.py")


def default_workdir(arguments: list[str]) -> Path:
    """runs/byol_ham-local for --config=configs/byol_ham.py:local."""
    joined = " ".join(arguments).replace("--config ", "--config=")
    name = joined.split("--config=")[1].split()[0]
    file, _, argument = name.partition(":")
    return Path("runs") / "-".join(filter(None, (Path(file).stem, argument)))


def main(arguments: list[str]) -> int:
    """Runs one experiment and returns the exit code: 0 done, 2 the user's to mend, 3 sick, 75 preempted and saved."""
    try:
        parse(arguments)
        cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", COMPILATION_CACHE)
        jax.config.update("jax_compilation_cache_dir", str(Path(cache).expanduser()))
        configuration.check(FLAGS.config)
        sharding.connect(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
        experiment.run(FLAGS.config, Path(FLAGS.workdir or default_workdir(arguments)))
    except (UserError, SickRun, Preempted) as error:
        if FLAGS.is_parsed() and FLAGS.debug:
            raise
        print(f"jaxssl: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="jaxssl: %(message)s")
    sys.exit(main(sys.argv))
