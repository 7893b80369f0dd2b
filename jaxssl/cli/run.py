"""Run one experiment: pretrain, transfer, evaluate, report.

    jaxssl run own --config.data.dir=data/mine --workdir=runs/mine
    jaxssl run byol_ham --workdir=runs/ham --config.data.manual_dir=data/ham10000 --config.pretrain.epochs=20

CONFIG is the name of a config, or the path of a file with `get_config()`; what follows a colon is its argument, most
often `local`, for two cores. Any field of the config is set as --config.FIELD=VALUE. Run the same command again to
resume. With --from=WORKDIR the run takes over the pretraining of a finished one, to evaluate it with other settings, or
goes on with it where it asks for another number of epochs. `python -m jaxssl.main --config=CONFIG --workdir=DIR` is the
same command.
"""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import jax
from ml_collections import ConfigDict

import jaxssl
from jaxssl import data, files, models
from jaxssl.cli import parser as parsers
from jaxssl.config import checks, fields
from jaxssl.config.load import configs_folder, load_config
from jaxssl.errors import PreemptedError, TrainingFailedError, UserError, print_error
from jaxssl.run import experiment
from jaxssl.training import distributed, loop, runtime

GROUP = "experiments"
TAKES_FIELDS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parsers.add_config_arguments(parser)
    parser.add_argument("--workdir", metavar="DIR", help="Output directory; runs/CONFIG by default.")
    parser.add_argument(
        "--from",
        dest="donor",
        metavar="WORKDIR",
        help="Take over the pretraining of this run; go on with it for pretrain.epochs, if these are others.",
    )
    parser.add_argument(
        "--coordinator", metavar="HOST:PORT", help="Address of process 0, where several processes train."
    )
    parser.add_argument("--num_processes", type=int, metavar="N", help="Number of processes that train together.")
    parser.add_argument("--process_id", type=int, metavar="N", help="Index of this process, from 0.")


FIELDS = """fields, set as --config.FIELD=VALUE:
  --config.pretrain.epochs=20                     a number
  --config.transfer.protocols=probe,knn           a list
  --config.pretrain.augment.rotate90              true; --config.pretrain.augment.rotate90=false
  --config.data.options.table=labels.csv          an option of the dataset
  --config.pretrain.objective=byol --config.pretrain.options.ema=0.99"""


def epilog() -> str:
    """Return how fields are set, and the lists of configs, objectives, encoders and datasets."""
    package = Path(jaxssl.__file__).parent
    model_files = parsers.summaries(package / "models")
    lists = {
        "configs": parsers.summaries(configs_folder()),
        "objectives, --config.pretrain.objective": parsers.summaries(package / "objectives"),
        "encoders, --config.model.name": {name: model_files[file] for name, file in models.available().items()},
        "datasets, --config.data.name": parsers.summaries(package / "data" / "datasets"),
    }
    pretexts = fields.find("pretrain.objective").choices or ()
    allowed = {*lists["configs"], *models.available(), *data.names(), *pretexts}
    tables = (
        parsers.table(title, {name: line for name, line in rows.items() if name in allowed})
        for title, rows in lists.items()
    )
    return "\n\n".join([FIELDS, *tables, parsers.EXIT_CODES])


def run(options: argparse.Namespace) -> int:
    """Run the experiment and return the exit code; the other processes of the run end with the same code."""
    try:
        train(options)
        return 0
    except (UserError, TrainingFailedError, PreemptedError) as error:
        code = print_error(error, options.debug)
    except jax.errors.JaxRuntimeError as error:
        code = print_error(distributed.as_preemption(error), options.debug)
    except KeyboardInterrupt:
        print("jaxssl: stopped; run the same command again to resume from the last checkpoint", file=sys.stderr)
        code = parsers.INTERRUPTED
    distributed.end_all(code)
    return code


def train(options: argparse.Namespace) -> None:
    config = load(options)
    runtime.configure(config.deterministic)
    checks.check(config)
    if threading.current_thread() is threading.main_thread():
        for number in loop.SIGNALS:
            signal.signal(number, preempt)
    distributed.connect(options.coordinator, options.num_processes, options.process_id)
    workdir = files.expand_user(options.workdir or default_workdir(parsers.config_name(options)))
    experiment.run(config, workdir, files.expand_user(options.donor) if options.donor else None)


def load(options: argparse.Namespace) -> ConfigDict:
    """Return the config that the options name, with the fields that they set."""
    return load_config(parsers.config_name(options), options.assignments)


def default_workdir(config: str) -> Path:
    """Return runs/byol_ham-local for byol_ham:local and for configs/byol_ham.py:local."""
    file, _, argument = config.partition(":")
    return Path("runs") / "-".join(filter(None, (Path(file).stem, argument)))


def preempt(number: int, frame: FrameType | None) -> None:
    """End the process at a signal between two trainings; `training.loop` handles those that come during one.

    At once, as `kill -9` would: files are written atomically, and an exception raised here could wait for a lock.
    """
    message = "jaxssl: stopped between two phases, all before is saved; run the same command again to resume\n"
    os.write(2, message.encode())
    distributed.end_all(PreemptedError.exit_code)
    os._exit(PreemptedError.exit_code)
