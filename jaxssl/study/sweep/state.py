"""State of a sweep, on this machine or on Slurm: what sweep.json holds, and which cell can start next."""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import Progress

from jaxssl.errors import PreemptedError
from jaxssl.results import workdir as workdirs
from jaxssl.run.workdir import describe_command
from jaxssl.study.sweep.cells import Cell, command, share_pretraining

MAX_TRIES = 2
KILLED = (-9, 137)  # By SIGKILL, as Python and as a shell tell it.
STOPPED = "stopped, and what ran has saved: run the same command again to resume"


@dataclasses.dataclass
class State:
    """A sweep while it runs.

    Attributes:
      config: name or path of the config, with its argument.
      workdir: of the whole sweep.
      record: "cells" of sweep.json, by name.
      donors: {key of a pretraining: a finished cell that has it}.
      waiting: cells that are still to be started.
      progress: progress display; its console takes single lines.
    """

    config: str
    workdir: Path
    record: dict[str, dict[str, Any]]
    donors: dict[str, Cell]
    waiting: list[Cell]
    progress: Progress

    def save(self) -> None:
        """Write sweep.json."""
        workdirs.write(self.workdir / "sweep.json", {"command": describe_command(self.workdir), "cells": self.record})

    def print(self, line: str) -> None:
        self.progress.console.print(line)


def load_state(config: str, cells: Sequence[Cell], workdir: Path, jobs: int, progress: Progress) -> State:
    """Return the state of a sweep from the folders of its cells.

    Args:
      config: name or path of the config, with its argument.
      cells: from `cells.list_cells`.
      workdir: of the whole sweep.
      jobs: cells at a time.
      progress: progress display.
    """
    record = {cell.name: _new_entry(config, cell) for cell in cells}
    donors = {cell.pretraining: cell for cell in reversed(cells) if cell.done}
    waiting = [cell for cell in cells if not cell.done]
    state = State(config, workdir, record, donors, waiting, progress)
    state.print(f"{len(cells)} cells, {len(waiting)} of them to run, up to {jobs} at a time")
    return state


def _new_entry(config: str, cell: Cell) -> dict[str, Any]:
    """Return the entry of a cell in sweep.json before it is started."""
    return {
        "state": "done" if cell.done else "waiting",
        "tries": 0,
        "exit_code": None,
        "seconds": 0.0,
        "pretrained_by": None,
        "command": shlex.join(command(config, cell)),
    }


def next_cell(state: State, candidates: Sequence[Cell], running: Sequence[Cell]) -> Cell | None:
    """Return the first candidate whose pretraining no running cell is doing; None if all have to wait."""
    busy = {cell.pretraining for cell in running} - state.donors.keys()
    return next((cell for cell in candidates if cell.pretraining not in busy), None)


def prepare_folder(state: State, cell: Cell) -> None:
    """Create the folder of a cell, with the encoder of another cell if it can share its pretraining."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    donor = state.donors.get(cell.pretraining)
    if donor and share_pretraining(cell, donor):
        state.record[cell.name]["pretrained_by"] = donor.name


def mark_started(state: State, cell: Cell, how: str = "started") -> None:
    """Record and print that a cell is running."""
    entry = state.record[cell.name]
    entry |= {"state": "running", "tries": entry["tries"] + 1}
    by = f", pretrained by {entry['pretrained_by']}" if entry["pretrained_by"] else ""
    state.print(f"{cell.name}: {how}{by}")


def mark_ended(state: State, cell: Cell, code: int | None, seconds: float) -> str:
    """Record how a cell ended, and queue it again after a first failure.

    Args:
      state: changed in place.
      cell: the cell.
      code: its exit code; None if it was ended from outside.
      seconds: how long it ran.

    Returns:
      Its state: "done", "waiting" for its second try, "broken" or "stopped".
    """
    entry = state.record[cell.name]
    entry |= {"exit_code": code, "seconds": round(entry["seconds"] + seconds, 1)}
    if code in (None, PreemptedError.exit_code):
        entry["state"] = "stopped"
    elif code == 0 and cell.done:
        entry["state"] = "done"
        state.donors.setdefault(cell.pretraining, cell)
        state.print(f"{cell.name}: done in {seconds:.0f} s")
    else:
        entry["state"] = "waiting" if entry["tries"] < MAX_TRIES else "broken"
        if entry["state"] == "waiting":
            state.waiting.append(cell)
        then = "it is tried once more" if entry["state"] == "waiting" else "broken"
        why = " (killed, mostly by the system for want of memory: try fewer --jobs)" if code in KILLED else ""
        state.print(f"{cell.name}: ended with {code}{why}, {then}: {_last_line(cell)}")
    return entry["state"]


def _last_line(cell: Cell) -> str:
    log = cell.folder / "log.txt"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"{lines[-1]} ({log})" if lines else "it printed nothing"


def summarize(state: State) -> str:
    """Return how many cells are done, the command that compares them, and the broken cells with their commands."""
    broken = [name for name, entry in state.record.items() if entry["state"] == "broken"]
    done = sum(entry["state"] == "done" for entry in state.record.values())
    lines = [f"{done} of {len(state.record)} cells are done: jaxssl compare {shlex.quote(str(state.workdir))}"]
    for name in broken:
        entry = state.record[name]
        lines.append(f"broken: {name}: exit code {entry['exit_code']}: {entry['command']}")
    return "\n".join(lines)
