"""Run the experiments of a study, on this machine or by Slurm.

    jaxssl sweep priors:pneumoniamnist --workdir=runs/priors
    jaxssl compare runs/priors

CONFIG is the name of a config or the path of a file that defines `sweep()`, or `sweep(argument)`: a list of
(name, {field: value}), one for each cell. Each cell is a run in WORKDIR/NAME with these fields set; its output goes to
log.txt there. Fields that are the same for all cells are set as --config.data.dir=DIR. A cell with a results.json is
done, and one that was interrupted resumes. One that fails is tried once more at the end; the others go on.
"""

import argparse
import contextlib
import signal
import threading
from collections.abc import Iterator

from jaxssl import files
from jaxssl.cli.parser import add_config_arguments, config_name
from jaxssl.config.assign import parse_assignments
from jaxssl.study.sweep import cells, local, runner

GROUP = "experiments"
TAKES_FIELDS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument(
        "--workdir", required=True, type=files.expand_user, metavar="DIR", help="Output directory of all cells."
    )
    jobs = f"Cells at a time; here {local.default_jobs()}, one for {local.CORES_PER_CELL} cores; no limit on Slurm."
    parser.add_argument("--jobs", type=int, metavar="N", help=jobs)
    parser.add_argument(
        "--slurm", nargs="?", const="", metavar="OPTIONS", help="Run the cells by Slurm, with these options of sbatch."
    )
    parser.add_argument("--list", action="store_true", help="Only print the commands of the cells that are not done.")


def run(options: argparse.Namespace) -> int:
    config, fields = config_name(options), parse_assignments(options.assignments)
    if options.list:
        print(*cells.list_commands(config, options.workdir, fields), sep="\n")
        return 0
    with collect_signals() as signals:
        return runner.run_sweep(config, options.workdir, fields, options.jobs, options.slurm, signals)


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
