"""Runs the cells of a sweep as tasks of Slurm job arrays.

First come all cells that need not wait for a pretraining, then the rest. If this process is lost, what it submitted
goes on, and the same command waits for that first. A preempted task is requeued by `launch/slurm.sbatch`.
"""

import shlex
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress, TaskID

from jaxssl import files
from jaxssl.errors import PreemptedError, UserError
from jaxssl.study.sweep.cells import Cell, command
from jaxssl.study.sweep.state import STOPPED, State, load_state, mark_ended, mark_started, next_cell, prepare_folder

SBATCH = Path(__file__).resolve().parents[3] / "launch" / "slurm.sbatch"
QUEUE_SECONDS = 10.0  # Seconds between two queries of the queue,
QUEUE_TRIES = 12  # and how often in a row it may fail to answer.
END_FILE = ".ended"  # In the folder of a cell: "exit_code seconds" of its task.
FILE_SECONDS = 60.0  # Within this time after its end, other machines see the files of a task.
FILE_POLL_SECONDS = 0.5


def run_on_slurm(
    config: str,
    cells: Sequence[Cell],
    workdir: Path,
    jobs: int,
    progress: Progress,
    options: str,
    signals: Sequence[int] = (),
) -> State:
    """Run the cells that are not done by job arrays, and return the state of the sweep.

    Args:
      config: name or path of the config, with its argument.
      cells: from `cells.list_cells`.
      workdir: of the whole sweep.
      jobs: cells at a time.
      progress: progress display.
      options: further options of sbatch.
      signals: numbers of the signals received so far; the sweep stops once it is no longer empty.

    Raises:
      UserError: there is no Slurm here, or it refuses.
      PreemptedError: the array was cancelled, by this process or another; what ran has saved.
    """
    queue = f"sweep-{zlib.crc32(str(workdir.resolve()).encode()):08x}"
    bar = progress.add_task("cells", total=len(cells), running="")
    wait_for_jobs(cells, queue, progress, bar, signals)
    state = load_state(config, cells, workdir, jobs, progress)
    try:
        while state.waiting:
            submitted = submit_cells(state, queue, jobs, options)
            state.save()
            wait_for_jobs(cells, queue, progress, bar, signals)
            wait_for_files(submitted)
            if "stopped" in [collect_cell(state, cell) for cell in submitted]:
                raise PreemptedError(
                    "cells were cancelled, or Slurm would not requeue them: run the same command again to resume"
                )
    finally:
        if signals:
            for cell in cells:
                if state.record[cell.name]["state"] == "running":
                    collect_cell(state, cell)
        state.save()
    return state


def submit_cells(state: State, queue: str, jobs: int, options: str) -> list[Cell]:
    """Submit a job array of all cells that need not wait for a pretraining, and return them."""
    chosen: list[Cell] = []
    while cell := next_cell(state, state.waiting, chosen):
        state.waiting.remove(cell)
        chosen.append(cell)
    for cell in chosen:
        prepare_folder(state, cell)
        (cell.folder / END_FILE).unlink(missing_ok=True)
    script = state.workdir / "slurm.sh"
    files.write_text(script, make_script(state, chosen, queue, jobs, options))
    job = call_slurm("sbatch", "--parsable", str(script)).strip()
    for cell in chosen:
        mark_started(state, cell, f"is in job {job}")
    return chosen


def call_slurm(*arguments: str, tries: int = 1) -> str:
    """Return the output of a Slurm command. UserError if there is no such command, or it fails `tries` times."""
    error = ""
    for attempt in range(tries):
        if attempt:
            time.sleep(QUEUE_SECONDS)
        try:
            # In a session of its own: Ctrl-C reaches this process only.
            ended = subprocess.run(arguments, capture_output=True, text=True, start_new_session=True, check=False)
        except FileNotFoundError as missing:
            message = f"--slurm: there is no {arguments[0]} here; start the sweep where Slurm accepts jobs"
            raise UserError(message, code="missing", field="--slurm") from missing
        if ended.returncode == 0:
            return ended.stdout
        error = " ".join(ended.stderr.split())
    raise UserError(f"--slurm: {shlex.join(arguments)}: {error}", code="unsupported", field="--slurm")


def wait_for_jobs(cells: Sequence[Cell], queue: str, progress: Progress, bar: TaskID, signals: Sequence[int]) -> None:
    """Wait until no job of this name is in the queue.

    Raises:
      PreemptedError: this process was asked to stop; the jobs were cancelled and have saved.
    """
    query = ("squeue", "--me", f"--name={queue}", "--array", "--noheader", "--format=%T")
    while states := call_slurm(*query, tries=QUEUE_TRIES).split():
        if signals:
            # Repeated while there are any: one may have been about to be requeued.
            call_slurm("scancel", "--me", f"--name={queue}", tries=QUEUE_TRIES)
        running = f"{states.count('RUNNING')} of {len(states)} in the queue"
        progress.update(bar, completed=sum(cell.done for cell in cells), running=running)
        time.sleep(QUEUE_SECONDS)
    progress.update(bar, completed=sum(cell.done for cell in cells), running="")
    if signals:
        raise PreemptedError(STOPPED)


def make_script(state: State, chosen: Sequence[Cell], queue: str, jobs: int, options: str) -> str:
    """Return the job array whose task k runs the k-th of these cells; it can also be submitted by hand."""
    if not SBATCH.is_file():
        message = f"--slurm needs {SBATCH}, which is in a checkout of jaxssl only: run the sweep from a checkout"
        raise UserError(message, code="missing", field="--slurm")
    log = shlex.quote(str(state.workdir / "slurm.log").replace("%", "%%"))
    cases = [
        f"  {k}) folder={shlex.quote(str(cell.folder))} arguments=({shlex.join(command(state.config, cell)[3:])}) ;;"
        for k, cell in enumerate(chosen)
    ]
    requeue = next(line for line in SBATCH.read_text().splitlines() if line.startswith("#SBATCH --requeue"))
    lines = [
        "#!/usr/bin/env bash",
        f"#SBATCH --job-name={queue} --array=0-{len(chosen) - 1}%{jobs} --output={log}",
        "#SBATCH --nodes=1 --ntasks-per-node=1",
        requeue,
        *([f"#SBATCH {options}"] if options else []),
        "case $SLURM_ARRAY_TASK_ID in",
        *cases,
        "esac",
        'exec >>"$folder/log.txt" 2>&1',
        f'PYTHON={shlex.quote(sys.executable)} bash {shlex.quote(str(SBATCH))} "${{arguments[@]}}"',
        f'echo "$? $SECONDS" >"$folder/{END_FILE}"',
    ]
    return "\n".join(lines) + "\n"


def wait_for_files(cells: Sequence[Cell]) -> None:
    """Wait until the files of ended tasks can be seen here; a cancelled task leaves none."""
    until = time.monotonic() + FILE_SECONDS
    while time.monotonic() < until and not all(cell.done or (cell.folder / END_FILE).exists() for cell in cells):
        time.sleep(FILE_POLL_SECONDS)


def collect_cell(state: State, cell: Cell) -> str:
    """Record how a cell ended whose task has left the queue, and return its state."""
    file = cell.folder / END_FILE
    code, seconds = map(int, file.read_text().split()) if file.exists() else (None, 0)
    return mark_ended(state, cell, 0 if cell.done else code, seconds)
