"""Runs the cells of a sweep on this machine, each in a process of its own."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.progress import Progress

from jaxssl import files
from jaxssl.errors import PreemptedError
from jaxssl.study.sweep.cells import Cell, command
from jaxssl.study.sweep.devices import Devices, environment, free_slot
from jaxssl.study.sweep.state import STOPPED, State, load_state, mark_ended, mark_started, next_cell, prepare_folder

POLL_SECONDS = 0.5
LOCK = ".lock_cell"  # Until the cell itself locks its folder, a sweep that follows a killed one could start it again.
CPU = Devices("cpu")


class Running(NamedTuple):
    """A cell that is running."""

    cell: Cell
    process: subprocess.Popen
    since: float  # time.monotonic() at its start.
    slot: int  # Of the cells at a time, for its share of the accelerators.


def run_local(
    config: str,
    cells: Sequence[Cell],
    workdir: Path,
    jobs: int,
    progress: Progress,
    signals: Sequence[int] = (),
    devices: Devices = CPU,
) -> State:
    """Run the cells that are not done, `jobs` at a time, and return the state of the sweep.

    Args:
      config: name or path of the config, with its argument.
      cells: from `cells.list_cells`.
      workdir: of the whole sweep.
      jobs: cells at a time.
      progress: progress display.
      signals: numbers of the signals received so far; the sweep stops once it is no longer empty.
      devices: accelerators of this machine, which the cells share.

    Raises:
      PreemptedError: this process or one of the cells was asked to stop; the others were too, and have saved.
    """
    state = load_state(config, cells, workdir, jobs, progress)
    running: list[Running] = []
    bar = progress.add_task("cells", total=len(cells), completed=sum(cell.done for cell in cells), running="")
    # Cells of an earlier sweep whose process was killed.
    orphans = [cell for cell in state.waiting if files.is_locked(cell.folder)]
    for cell in orphans:
        state.print(f"{cell.name}: still running from an earlier sweep; waiting for it")
    try:
        while state.waiting or running:
            if signals:
                raise PreemptedError(STOPPED)
            orphans = [cell for cell in orphans if files.is_locked(cell.folder)]
            _start_cells(state, running, orphans, jobs, devices)
            progress.update(bar, running=", ".join(one.cell.name for one in running))
            time.sleep(POLL_SECONDS)
            for ended in [one for one in running if one.process.poll() is not None]:
                running.remove(ended)
                result = mark_ended(state, ended.cell, ended.process.returncode, time.monotonic() - ended.since)
                if result == "stopped":
                    message = f"{ended.cell.name} was asked to stop: run the same command again to resume"
                    raise PreemptedError(message)
                progress.advance(bar, int(result == "done"))
                state.save()
    finally:
        stop_all(state, running)
        state.save()
    return state


def _start_cells(state: State, running: list[Running], orphans: Sequence[Cell], jobs: int, devices: Devices) -> None:
    """Start cells until `jobs` are running or none can start."""
    while len(running) < jobs:
        free = [cell for cell in state.waiting if cell not in orphans]
        cell = next_cell(state, free, [*orphans, *(one.cell for one in running)])
        if cell is None:
            return
        state.waiting.remove(cell)
        slot = free_slot(jobs, [one.slot for one in running])
        running.append(start_cell(state, cell, slot, environment(devices, jobs, slot, os.environ)))


def start_cell(state: State, cell: Cell, slot: int, variables: Mapping[str, str]) -> Running:
    """Start the process of a cell with these environment variables besides those of this process."""
    prepare_folder(state, cell)
    mark_started(state, cell)
    log_file, lock = cell.folder / "log.txt", files.lock_to_pass(cell.folder / LOCK)
    with open(log_file, "a", encoding="utf-8") as log, lock as descriptors:
        # In a session of its own: Ctrl-C in the terminal reaches it through this process only.
        process = subprocess.Popen(
            command(state.config, cell),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **variables},
            start_new_session=True,
            pass_fds=descriptors,
        )
    return Running(cell, process, time.monotonic(), slot)


def stop_all(state: State, running: Sequence[Running]) -> None:
    """Ask all running cells to save and end, and wait for them."""
    for one in running:
        one.process.send_signal(signal.SIGTERM)
    for one in running:
        state.record[one.cell.name] |= {"state": "stopped", "exit_code": one.process.wait()}
