"""Runs a sweep from beginning to end."""

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from jaxssl import files
from jaxssl.errors import UserError
from jaxssl.study.sweep.cells import Cell, check_settings, list_cells
from jaxssl.study.sweep.devices import check_jobs, default_jobs, find_devices
from jaxssl.study.sweep.expand import NO_REPEAT, Repeat
from jaxssl.study.sweep.local import CPU, run_local
from jaxssl.study.sweep.search import Search, search_settings
from jaxssl.study.sweep.slurm import run_on_slurm
from jaxssl.study.sweep.state import summarize

LOCK = ".lock_sweep"  # Held by the sweep of a folder: two would start the same cells.


def run_sweep(
    config: str,
    workdir: Path,
    fields: dict[str, str],
    jobs: int | None = None,
    slurm_options: str | None = None,
    signals: Sequence[int] = (),
    repeat: Repeat = NO_REPEAT,
    search: Search | None = None,
) -> int:
    """Run the cells of a sweep that are not done, print how they ended, and return the exit code.

    Args:
      config: as of `cells.list_cells`.
      workdir: of the whole sweep; each cell has a folder of its name there.
      fields: {config field: value} set in every cell.
      jobs: cells at a time; None: as `devices.default_jobs`, or as many as Slurm runs.
      slurm_options: options of sbatch; None: the cells run on this machine.
      signals: numbers of the signals received so far; the sweep stops once it is no longer empty.
      repeat: seeds, folds and values over which each cell is repeated.
      search: settings to be searched before, in WORKDIR-search; None: none.

    Raises:
      UserError: as `list_cells`; settings that differ from those a cell began with; a workdir that cannot be written,
        or that another sweep is using.
      PreemptedError: the sweep was stopped, and what ran has saved.
    """
    devices = find_devices(os.environ) if slurm_options is None else CPU
    if jobs is not None:
        check_jobs(jobs, devices)
    cells = list_cells(config, workdir, fields, repeat)
    if search is None:
        check_settings(config, cells)
    elif slurm_options is not None:
        message = "--search runs on this machine alone: leave out --slurm"
        raise UserError(message, code="conflict", field="--search")
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    columns = (TextColumn("cells"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    columns += (TextColumn("{task.fields[running]}", markup=False),)
    try:
        with (
            files.lock(workdir / LOCK, "--workdir"),
            Progress(*columns, console=console, disable=not console.is_terminal) as progress,
        ):
            jobs = jobs or (default_jobs(devices) if slurm_options is None else len(cells))
            if search is not None:
                trials = workdir.with_name(f"{workdir.name}-search")
                trials.mkdir(exist_ok=True)

                def run_trials(batch: Sequence[Cell]) -> None:
                    check_settings(config, batch)
                    run_local(config, batch, trials, jobs, progress, signals, devices)

                cells = search_settings(cells, search, trials, run_trials)
                check_settings(config, cells)
            if slurm_options is None:
                state = run_local(config, cells, workdir, jobs, progress, signals, devices)
            else:
                state = run_on_slurm(config, cells, workdir, jobs, progress, slurm_options, signals)
    except OSError as error:
        raise UserError(f"--workdir={workdir}: {error}", code="not-writable", field="--workdir") from error
    console.print(summarize(state))
    return 0 if all(entry["state"] == "done" for entry in state.record.values()) else 1
