"""Run the experiments of a study, on this machine or by Slurm.

    jaxssl sweep own --config.data.dir=data/mine --workdir=runs/study --seeds=5
    jaxssl compare runs/study

CONFIG is the name of a config or the path of a file that defines `sweep()`, or `sweep(argument)`: a list of
(name, {field: value}), one for each cell. Each cell is a run in WORKDIR/NAME with these fields set; its output goes to
log.txt there. Fields that are the same for all cells are set as --config.data.dir=DIR. A cell with a results.json is
done, and one that was interrupted resumes. One that fails is tried once more at the end; the others go on.

--seeds, --folds and --grid repeat the cells, or the config itself if it defines no `sweep()`:

    jaxssl sweep own --config.data.dir=data/mine --workdir=runs/folds --seeds=1 --folds=5
    jaxssl sweep byol_lenses:local --workdir=runs/ema --grid=pretrain.options.ema=0.97,0.99 --seeds=3

--search=N first makes N trials of each arm in WORKDIR-search, whose learning rates, or the fields given by --space,
Optuna suggests, and takes for each arm those that are best on validation.
"""

import argparse
import contextlib
import signal
import threading
from collections.abc import Iterator

from jaxssl import files
from jaxssl.cli.parser import add_config_arguments, config_name
from jaxssl.config.assign import parse_assignments
from jaxssl.errors import UserError
from jaxssl.study.sweep import cells, devices, expand, runner
from jaxssl.study.sweep.search import Search, parse_space

GROUP = "experiments"
TAKES_FIELDS = True
MOST = 10_000  # Seeds, folds or trials.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument(
        "--workdir", required=True, type=files.expand_user, metavar="DIR", help="Output directory of all cells."
    )
    jobs = f"Cells at a time: one per GPU, one on a TPU, or one per {devices.CORES_PER_CELL} cores; on Slurm all."
    parser.add_argument("--jobs", type=int, metavar="N", help=jobs)
    parser.add_argument(
        "--slurm", nargs="?", const="", metavar="OPTIONS", help="Run the cells by Slurm, with these options of sbatch."
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="Repeat each cell with the seeds 0 to N - 1.")
    parser.add_argument("--folds", type=int, metavar="N", help="Repeat each cell for each of N folds of the images.")
    parser.add_argument(
        "--grid", action="append", default=[], metavar="FIELD=A,B", help="Repeat each cell with each value of a field."
    )
    parser.add_argument(
        "--search", type=int, metavar="N", help="Trials of each arm to choose settings by, on validation."
    )
    parser.add_argument(
        "--space", action="append", default=[], metavar="FIELD=LOW:HIGH", help="A field to search, on a log scale."
    )
    parser.add_argument("--list", action="store_true", help="Only print the commands of the cells that are not done.")


def run(options: argparse.Namespace) -> int:
    config, fields = config_name(options), parse_assignments(options.assignments)
    repeat = expand.Repeat(options.seeds, options.folds, expand.parse_grid(options.grid))
    numbers = (("--seeds", repeat.seeds, 1), ("--folds", repeat.folds, 2), ("--search", options.search, 1))
    for flag, number, least in numbers:
        if number is not None and not least <= number <= MOST:
            raise UserError(f"{flag}={number}: set it to {least} to {MOST:,}", code="out-of-range", field=flag)
    space = parse_space(options.space)
    if options.space and not options.search:
        message = f"--space={options.space[0]} is of a search: give --search=N, the number of its trials, too"
        raise UserError(message, code="missing", field="--search")
    if options.list:
        print(*cells.list_commands(config, options.workdir, fields, repeat), sep="\n")
        return 0
    with collect_signals() as signals:
        settings = Search(options.search, space) if options.search else None
        return runner.run_sweep(config, options.workdir, fields, options.jobs, options.slurm, signals, repeat, settings)


@contextlib.contextmanager
def collect_signals() -> Iterator[list[int]]:
    """Collect the signals that end a process in a list, which the sweep reads between two steps.

    An exception at any moment could leave a process behind that was just being started.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, lambda number, frame: received.append(number)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
