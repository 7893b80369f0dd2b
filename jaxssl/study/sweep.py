"""Runs what is missing of a sweep: each cell is an ordinary run in a folder of its own.

    jaxssl sweep priors:pneumoniamnist --workdir=runs/priors
    jaxssl compare runs/priors

The file of `--config` has, beside `get_config`, `sweep()`, or `sweep(argument)` where it takes one: a list of
(name, {field: value}), one for each cell. Fields that are the same for all may be set behind, as
`--config.data.dir=DIR`. A cell is `python -m jaxssl.main` with these fields changed, in
WORKDIR/<name>; what it prints goes to log.txt there. Done is what has its results.json; a cell that was cut off goes on
from its checkpoint. One that ends otherwise is tried once more at the end, then reported, and the rest goes on.

Cells that differ only in transfer.*, data.label_fraction and data.labels_per_class have the same pretraining, unless it
reads labels: the first of them pretrains, and the others wait for it and begin with a copy of its encoder.

With `--slurm`, or with options of sbatch as `--slurm="--partition=gpu --gpus=1 --time=8:00:00"`, the cells are tasks of
job arrays, `--jobs` of them at a time, each run by slurm.sbatch: one that is preempted goes on by itself. First come
all that need not wait for a pretraining, then the rest. This process sees to it until the end; if it is lost, what it
submitted goes on, and the same command waits for that first. What Slurm itself says is in WORKDIR/slurm.log.

WORKDIR/sweep.json says of each cell {state, tries, exit_code, seconds, pretrained_by, command}. Exit codes: 0 all done,
1 some cells are broken, 2 the user's to mend, 75 stopped and saved: the same command goes on.
"""

import importlib.util
import inspect
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from jaxssl import files
from jaxssl.errors import PreemptedError, UserError

TRIES = 2
STOPPED = "stopped, and what ran has saved; the same command goes on from here"
WAIT = 0.5  # Seconds between two looks at what runs.
CORES = 4  # A cell makes use of these and hardly of more.
SBATCH = Path(__file__).resolve().parents[2] / "launch" / "slurm.sbatch"
LOOK = 10.0  # Seconds between two looks at Slurm's queue,
LOOKS = 12  # and how often it may give no answer.
ENDED = ".ended"  # In the folder of a cell: "exit_code seconds" of its task.
LATE = 60.0  # So many seconds after its end, what a job has written is seen on other machines too.
# What does not change a pretraining.
AFTER = ("transfer.", "data.label_fraction", "data.labels_per_class")


class Cell(NamedTuple):
    """One run of the sweep."""

    name: str
    folder: Path
    fields: dict[str, Any]

    @property
    def pretraining(self) -> str:
        """The same for cells that may share their pretraining."""
        return json.dumps({k: repr(v) for k, v in sorted(self.fields.items()) if not k.startswith(AFTER)})

    @property
    def done(self) -> bool:
        return (self.folder / "results.json").exists()


def cells(config: str, workdir: Path) -> list[Cell]:
    """The cells of the sweep that a config file describes, in its order.

    Args:
      config: its path and, after a colon, its argument.
      workdir: of the whole sweep.

    Raises:
      UserError: a file that is missing, fails or has no sweep; a name that stands twice or is no name of a folder.
    """
    path, _, argument = config.partition(":")
    if not Path(path).is_file():
        raise UserError(f"--config={config}: there is no file {path}")
    try:
        spec = importlib.util.spec_from_file_location("sweep_config", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        make = module.sweep
        found = list(make(argument) if argument and inspect.signature(make).parameters else make())
        listed = [Cell(name, workdir / name, dict(fields)) for name, fields in found]
    except AttributeError as error:
        raise UserError(f"{path} describes no sweep: give it sweep() beside get_config() ({error})") from error
    except Exception as error:
        raise UserError(f"{path}: sweep() failed: {type(error).__name__}: {' '.join(str(error).split())}") from error
    names = [cell.name for cell in listed]
    for name in names:
        if name in ("", ".", "..") or Path(name).name != name:
            raise UserError(f"{path}: the cell {name!r} must be the name of a folder, without a slash")
        if names.count(name) > 1:
            raise UserError(f"{path}: two cells are called {name!r}")
    if not listed:
        raise UserError(f"{path}: sweep() has no cells")
    return listed


def command(config: str, cell: Cell) -> list[str]:
    """What runs a cell, by hand too."""
    fields = [f"--config.{field}={value}" for field, value in cell.fields.items()]
    return [sys.executable, "-m", "jaxssl.main", f"--config={config}", f"--workdir={cell.folder}", *fields]


def refuse_other_settings(config: str, listed: Sequence[Cell]) -> None:
    """UserError where a cell has begun with other settings: it would count as done, and lend its encoder to others."""
    for cell in listed:
        if (cell.folder / "config.json").exists():
            from jaxssl import main
            from jaxssl.run import setup  # Not above: a sweep that begins has no need of JAX.

            arguments = command(config, cell)[2:]
            setup.refuse_other_config(main.parse(main.define(arguments), arguments), cell.folder)


def share_pretraining(cell: Cell, donor: Cell) -> bool:
    """Copies the pretrained encoder of a cell that is done into one that has not begun; whether it did."""
    encoder = Path("checkpoints") / "encoder"
    if (cell.folder / "config.json").exists() or not (donor.folder / encoder).is_dir():
        return False
    pretraining = json.loads((donor.folder / "results.json").read_text())["pretrain"]
    if not pretraining or pretraining["supervised"]:
        return False
    lines = (donor.folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    files.write_text(
        cell.folder / "metrics.jsonl", "".join(line for line in lines if json.loads(line)["phase"] == "pretrain")
    )
    aside = cell.folder / ".encoder.part"
    shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(cell.folder / encoder, ignore_errors=True)
    shutil.copytree(donor.folder / encoder, aside)
    (cell.folder / encoder).parent.mkdir(exist_ok=True)
    aside.rename(cell.folder / encoder)
    return True


class Running(NamedTuple):
    """A cell at work."""

    cell: Cell
    process: subprocess.Popen
    since: float


def run(
    config: str, listed: Sequence[Cell], workdir: Path, jobs: int, progress: Progress, signals: Sequence[int] = ()
) -> dict[str, dict[str, Any]]:
    """Runs all cells that are not done, `jobs` at a time, and returns the cells of sweep.json.

    Args:
      config: the file and its argument.
      listed: from `cells`.
      workdir: of the whole sweep.
      jobs: how many cells run at a time.
      progress: what shows how far it is; single lines go to its console.
      signals: grows when this process is told to stop.

    Raises:
      PreemptedError: this process or one of the cells was told to stop; all others have been told, and have saved.
    """
    record, donors, waiting = take_stock(config, listed, jobs, progress.console)
    at_work: list[Running] = []
    bar = progress.add_task("cells", total=len(listed), completed=len(listed) - len(waiting), running="")
    elsewhere = [cell for cell in waiting if files.is_locked(cell.folder)]
    for cell in elsewhere:
        progress.console.print(f"{cell.name}: at work since a sweep that was lost; it is waited for")
    try:
        while waiting or at_work:
            if signals:
                raise PreemptedError(STOPPED)
            elsewhere = [cell for cell in elsewhere if files.is_locked(cell.folder)]
            free = [cell for cell in waiting if cell not in elsewhere]
            while len(at_work) < jobs and (cell := choose(free, [*elsewhere, *(r.cell for r in at_work)], donors)):
                free.remove(cell)
                waiting.remove(cell)
                at_work.append(start(config, cell, donors.get(cell.pretraining), record[cell.name], progress.console))
            progress.update(bar, running=", ".join(running.cell.name for running in at_work))
            time.sleep(WAIT)
            for running in [running for running in at_work if running.process.poll() is not None]:
                at_work.remove(running)
                code, seconds = running.process.returncode, time.monotonic() - running.since
                state = finish(running.cell, code, seconds, record[running.cell.name], progress.console)
                if state == "stopped":
                    raise PreemptedError(f"{running.cell.name} was told to stop; the same command goes on from here")
                if state == "done":
                    donors.setdefault(running.cell.pretraining, running.cell)
                    progress.advance(bar)
                elif state == "waiting":
                    waiting.append(running.cell)
                files.write_json(workdir / "sweep.json", {"cells": record})
    finally:
        stop(at_work, record)
        files.write_json(workdir / "sweep.json", {"cells": record})
    return record


def take_stock(
    config: str, listed: Sequence[Cell], jobs: int, console: Console
) -> tuple[dict[str, dict[str, Any]], dict[str, Cell], list[Cell]]:
    """What sweep.json says of the cells, who of them has which pretraining, and which are still to run."""
    record = {cell.name: entry(config, cell) for cell in listed}
    donors = {cell.pretraining: cell for cell in reversed(listed) if cell.done}
    waiting = [cell for cell in listed if not cell.done]
    console.print(f"{len(listed)} cells, {len(waiting)} of them to run, up to {jobs} at a time")
    return record, donors, waiting


def entry(config: str, cell: Cell) -> dict[str, Any]:
    """What sweep.json says of a cell before it is run."""
    state = "done" if cell.done else "waiting"
    nothing = {"tries": 0, "exit_code": None, "seconds": 0.0, "pretrained_by": None}
    return {"state": state, **nothing, "command": shlex.join(command(config, cell))}


def choose(waiting: Sequence[Cell], at_work: Sequence[Cell], donors: dict[str, Cell]) -> Cell | None:
    """The first cell that need not wait for a pretraining that is on its way."""
    busy = {cell.pretraining for cell in at_work} - donors.keys()
    return next((cell for cell in waiting if cell.pretraining not in busy), None)


def prepare(cell: Cell, donor: Cell | None, of: dict[str, Any]) -> None:
    """Makes the folder of a cell, with the pretraining of `donor` where it can have it."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    if donor and share_pretraining(cell, donor):
        of["pretrained_by"] = donor.name


def begin(cell: Cell, of: dict[str, Any], console: Console, how: str = "begins") -> None:
    of |= {"state": "running", "tries": of["tries"] + 1}
    console.print(f"{cell.name}: {how}" + (f", pretrained by {of['pretrained_by']}" if of["pretrained_by"] else ""))


def start(config: str, cell: Cell, donor: Cell | None, of: dict[str, Any], console: Console) -> Running:
    """Starts the process of a cell, with the pretraining of `donor` where it can have it."""
    prepare(cell, donor, of)
    begin(cell, of, console)
    with open(cell.folder / "log.txt", "a") as log:
        # In a session of its own: what is typed in the terminal reaches it through this process, once.
        process = subprocess.Popen(
            command(config, cell), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    return Running(cell, process, time.monotonic())


def finish(cell: Cell, code: int | None, seconds: float, of: dict[str, Any], console: Console) -> str:
    """Records how a cell ended and returns its state: "done", "waiting" for its second try, "broken", or "stopped".

    Args:
      cell: what ran.
      code: its exit code; None where it was ended from without.
      seconds: how long it ran.
      of: what sweep.json says of it; changed here.
      console: where it is told.
    """
    of |= {"exit_code": code, "seconds": round(of["seconds"] + seconds, 1)}
    if code in (None, PreemptedError.exit_code):
        of["state"] = "stopped"
    elif code == 0 and cell.done:
        of["state"] = "done"
        console.print(f"{cell.name}: done in {seconds:.0f} s")
    else:
        of["state"] = "waiting" if of["tries"] < TRIES else "broken"
        then = "it is tried once more" if of["state"] == "waiting" else "broken"
        console.print(f"{cell.name}: ended with {code}, {then}: {last_line(cell)}")
    return of["state"]


def last_line(cell: Cell) -> str:
    lines = (cell.folder / "log.txt").read_text(errors="replace").strip().splitlines()
    return f"{lines[-1]} ({cell.folder / 'log.txt'})" if lines else "it printed nothing"


def stop(at_work: Sequence[Running], record: dict[str, dict[str, Any]]) -> None:
    """Tells what still runs to save and end, and waits for it."""
    for running in at_work:
        running.process.send_signal(signal.SIGTERM)
    for running in at_work:
        record[running.cell.name] |= {"state": "stopped", "exit_code": running.process.wait()}


# On Slurm.


def run_on_slurm(
    config: str,
    listed: Sequence[Cell],
    workdir: Path,
    jobs: int,
    options: str,
    progress: Progress,
    signals: Sequence[int] = (),
) -> dict[str, dict[str, Any]]:
    """The same as `run`, by job arrays with these further options of sbatch.

    Raises:
      UserError: there is no Slurm here, or it refuses.
      PreemptedError: this process was told to stop, and has cancelled the array; or another did; what ran has saved.
    """
    queue = f"sweep-{zlib.crc32(str(workdir.resolve()).encode()):08x}"
    bar = progress.add_task("cells", total=len(listed), running="")
    drain(queue, listed, progress, bar, signals)
    record, donors, waiting = take_stock(config, listed, jobs, progress.console)
    try:
        while waiting:
            chosen: list[Cell] = []
            while cell := choose(waiting, chosen, donors):
                waiting.remove(cell)
                chosen.append(cell)
            for cell in chosen:
                prepare(cell, donors.get(cell.pretraining), record[cell.name])
                (cell.folder / ENDED).unlink(missing_ok=True)
            files.write_text(workdir / "slurm.sh", script(config, chosen, workdir, queue, jobs, options))
            number = slurm("sbatch", "--parsable", str(workdir / "slurm.sh")).strip()
            for cell in chosen:
                begin(cell, record[cell.name], progress.console, f"is in job {number}")
            files.write_json(workdir / "sweep.json", {"cells": record})
            drain(queue, listed, progress, bar, signals)
            settle(chosen)
            states = [collect(cell, record[cell.name], progress.console) for cell in chosen]
            if "stopped" in states:
                raise PreemptedError(
                    "cells were cancelled, or Slurm would not requeue them; the same command goes on from here"
                )
            for cell, state in zip(chosen, states, strict=True):
                if state == "done":
                    donors.setdefault(cell.pretraining, cell)
                elif state == "waiting":
                    waiting.append(cell)
    finally:
        if signals:
            for cell in listed:
                if record[cell.name]["state"] == "running":
                    collect(cell, record[cell.name], progress.console)
        files.write_json(workdir / "sweep.json", {"cells": record})
    return record


def slurm(*command: str, tries: int = 1) -> str:
    """What a command of Slurm prints. UserError where there is no such command, or it fails so many times."""
    for left in reversed(range(tries)):
        try:
            # Ctrl-C is for this process alone.
            ended = subprocess.run(command, capture_output=True, text=True, start_new_session=True)
        except FileNotFoundError as error:
            raise UserError(f"--slurm: there is no {command[0]} here; start it where Slurm takes jobs") from error
        if ended.returncode == 0:
            return ended.stdout
        if left:
            time.sleep(LOOK)
    raise UserError(f"--slurm: {shlex.join(command)}: {' '.join(ended.stderr.split())}")


def drain(queue: str, listed: Sequence[Cell], progress: Progress, bar: TaskID, signals: Sequence[int]) -> None:
    """Waits for the end of all jobs of this name. PreemptedError, once they have saved, if this process is told to stop."""
    look = ("squeue", "--me", f"--name={queue}", "--array", "--noheader", "--format=%T")
    while states := slurm(*look, tries=LOOKS).split():
        if signals:
            # Once more while there are any: one may have been about to be requeued.
            slurm("scancel", "--me", f"--name={queue}", tries=LOOKS)
        running = f"{states.count('RUNNING')} of {len(states)} in the queue"
        progress.update(bar, completed=sum(cell.done for cell in listed), running=running)
        time.sleep(LOOK)
    progress.update(bar, completed=sum(cell.done for cell in listed), running="")
    if signals:
        raise PreemptedError(STOPPED)


def script(config: str, chosen: Sequence[Cell], workdir: Path, queue: str, jobs: int, options: str) -> str:
    """The job array in which task k runs the k-th of these cells; sbatch takes it by hand too."""
    log = shlex.quote(str(workdir / "slurm.log").replace("%", "%%"))
    cases = [
        f"  {k}) folder={shlex.quote(str(cell.folder))} arguments=({shlex.join(command(config, cell)[3:])}) ;;"
        for k, cell in enumerate(chosen)
    ]
    lines = [
        "#!/usr/bin/env bash",
        f"#SBATCH --job-name={queue} --array=0-{len(chosen) - 1}%{jobs} --output={log}",
        "#SBATCH --nodes=1 --ntasks-per-node=1",
        next(line for line in SBATCH.read_text().splitlines() if line.startswith("#SBATCH --requeue")),
        *([f"#SBATCH {options}"] if options else []),
        "case $SLURM_ARRAY_TASK_ID in",
        *cases,
        "esac",
        'exec >>"$folder/log.txt" 2>&1',
        f'PYTHON={shlex.quote(sys.executable)} bash {shlex.quote(str(SBATCH))} "${{arguments[@]}}"',
        f'echo "$? $SECONDS" >"$folder/{ENDED}"',
    ]
    return "\n".join(lines) + "\n"


def settle(cells: Sequence[Cell]) -> None:
    """Waits until one sees how cells ended whose tasks have left the queue; of one cancelled one sees nothing."""
    until = time.monotonic() + LATE
    while time.monotonic() < until and not all(cell.done or (cell.folder / ENDED).exists() for cell in cells):
        time.sleep(WAIT)


def collect(cell: Cell, of: dict[str, Any], console: Console) -> str:
    """What `finish` says of a cell whose task has left the queue."""
    file = cell.folder / ENDED
    code, seconds = map(int, file.read_text().split()) if file.exists() else (None, 0)
    return finish(cell, 0 if cell.done else code, seconds, of, console)


def summary(record: dict[str, dict[str, Any]], workdir: Path) -> str:
    broken = [name for name, of in record.items() if of["state"] == "broken"]
    done = sum(of["state"] == "done" for of in record.values())
    said = [f"{done} of {len(record)} cells are done: jaxssl compare {shlex.quote(str(workdir))}"]
    said += [f"broken: {name}: exit code {record[name]['exit_code']}: {record[name]['command']}" for name in broken]
    return "\n".join(said)


def default_jobs() -> int:
    return max(1, len(os.sched_getaffinity(0)) // CORES)


def run_sweep(
    config: str,
    workdir: Path,
    fields: dict[str, str],
    jobs: int | None = None,
    slurm_options: str | None = None,
    signals: Sequence[int] = (),
) -> int:
    """Run the cells of a sweep that are not done, print how they ended, and return the exit code.

    Args:
      config: as of `cells`.
      workdir: of the whole sweep; each cell has a folder of its name there.
      fields: {config field: value} set in every cell.
      jobs: cells at a time; None: one for `CORES` cores, or as many as Slurm runs.
      slurm_options: options of sbatch; None: the cells run on this machine.
      signals: numbers of the signals received so far; the sweep stops once it is no longer empty.

    Raises:
      UserError: as `cells`; settings that differ from those a cell began with; a workdir that cannot be written.
      PreemptedError: the sweep was stopped, and what ran has saved.
    """
    console = make_console()
    columns = (TextColumn("cells"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    columns += (TextColumn("{task.fields[running]}", markup=False),)
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs={jobs}: set it to 1 or more", code="out-of-range", field="--jobs")
    listed = cells_with(config, workdir, fields)
    refuse_other_settings(config, listed)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            if slurm_options is None:
                record = run(config, listed, workdir, jobs or default_jobs(), progress, signals)
            else:
                record = run_on_slurm(config, listed, workdir, jobs or len(listed), slurm_options, progress, signals)
    except OSError as error:
        raise UserError(f"--workdir={workdir}: {error}", code="not-writable", field="--workdir") from error
    console.print(summary(record, workdir))
    return 0 if all(of["state"] == "done" for of in record.values()) else 1


def list_commands(config: str, workdir: Path, fields: dict[str, str]) -> None:
    """Print the commands of the cells that are not done, one a line."""
    for cell in cells_with(config, workdir, fields):
        if not cell.done:
            make_console().print(shlex.join(command(config, cell)))


def cells_with(config: str, workdir: Path, fields: dict[str, str]) -> list[Cell]:
    """Return `cells`, each with these fields set besides."""
    return [cell._replace(fields=cell.fields | fields) for cell in cells(config, workdir)]


def make_console() -> Console:
    return Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
