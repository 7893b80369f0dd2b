"""List the runs below a folder: state, data, pretraining, score or progress, and how to resume.

    jaxssl runs runs/ham
    jaxssl runs runs/ham --watch

A run is done, running (a process holds its lock), stopped (its command resumes it) or broken, with the reason. The
score is the macro AUC (of values the mean absolute error) of the protocol in which the pretrained encoder does best,
with its 95 % interval, next to that of what it started from in the same protocol. If the output is not a terminal:
tab-separated values, a line a run.
"""

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jaxssl import files
from jaxssl.errors import UserError, escape_controls
from jaxssl.results import words
from jaxssl.results.names import display_name
from jaxssl.results.schema import Results

GROUP = "results"
DAY = 86_400  # Seconds.
_TAIL = 2**16  # Bytes of metrics.jsonl that are read; a row has less than a thousand.
STYLES = {"done": "green", "running": "cyan", "stopped": "yellow", "broken": "bold red"}


class Run(NamedTuple):
    """One row of the list.

    Attributes:
      folder: of the run, relative to the folder that was searched.
      state: "done", "running", "stopped" or "broken".
      at: the phase and its epoch if the run has not ended; the problem if it is broken.
      score: such as "fine-tuning: pretrained .971 (.95–.98), random .979 (.96–.99)"; "" if there is none.
      age: seconds since the run last wrote a file; None if unknown.
      command: the command line that started the run and resumes it.
      dataset: its name, or that of the folder or file of own images.
      pretraining: the name of the objective; "none" without pretraining.
    """

    folder: str
    state: str
    at: str = ""
    score: str = ""
    age: float | None = None
    command: str = ""
    dataset: str = ""
    pretraining: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", nargs="?", default="runs", metavar="FOLDER", help="Where to look; runs by default.")
    parser.add_argument(
        "--watch", nargs="?", type=float, const=5.0, metavar="SECONDS", help="List again each 5 seconds until Ctrl-C."
    )


def run(options: argparse.Namespace) -> int:
    console = Console(markup=False, emoji=False, highlight=False)
    if options.watch is None:
        show(list_runs(options.root), console)
        return 0
    if not 1 <= options.watch <= DAY:
        message = f"--watch={options.watch:g} s is out of range: give 1 to {DAY:,} seconds"
        raise UserError(message, code="out-of-range", field="--watch")
    with Live(console=console, auto_refresh=False, screen=False) as live:
        while True:
            live.update(make_table(list_runs(options.root)), refresh=True)
            time.sleep(options.watch)


def list_runs(root: str | Path) -> list[Run]:
    """Return the runs below `root`, in the order of their folders. UserError if there are none."""
    root = files.expand_user(root)
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: give one that holds runs", code="missing", field="FOLDER")
    runs = [read_run(folder, folder.relative_to(root).as_posix()) for folder in sorted(find_folders(root))]
    if not runs:
        message = f"{root} holds no run: there is no splits.json or results.json below it"
        raise UserError(message, code="missing", field="FOLDER")
    return runs


def find_folders(root: Path) -> Iterator[Path]:
    """Yield the workdirs of runs below `root`, without looking inside them."""
    for folder, inner, names in os.walk(root):
        if {"splits.json", "results.json"} & set(names):
            inner.clear()
            yield Path(folder)
        inner[:] = [name for name in inner if not name.startswith(".")]


def read_run(folder: Path, name: str) -> Run:
    """Return the row of a run; a run that cannot be read is "broken"."""
    # One run must not hide the others: anything may be wrong with its files.
    try:
        config = files.load_json(folder / "config.json")
        dataset, pretraining = find_subject(config["config"])
        run = Run(name, "done", "", "", find_age(folder), str(config["command"]), dataset, pretraining)
        if (folder / "results.json").exists():
            results = files.load_json(folder / "results.json")
            run = run._replace(score=describe_score(results))
            return run._replace(pretraining=words.method_name(results) if results.get("pretrain") else "none")
        state = "running" if files.is_locked(folder) else "stopped"
        return run._replace(state=state, at=describe_progress(folder, config["config"]))
    except OSError as error:
        reason = error.strerror or str(error)
        return Run(name, "broken", at=f"{Path(error.filename).name}: {reason}" if error.filename else reason)
    except Exception as error:
        return Run(name, "broken", at=f"{type(error).__name__}: {error}")


def find_subject(config: dict[str, Any]) -> tuple[str, str]:
    """Return the name of the dataset and of the objective of pretraining, "none" without pretraining."""
    data, pretrain = config.get("data", {}), config.get("pretrain", {})
    dataset = Path(data.get("dir") or "").name or str(data.get("name", ""))
    return dataset, display_name(str(pretrain.get("objective", ""))) if pretrain.get("epochs") else "none"


def find_age(folder: Path) -> float:
    """Return the seconds since the run in this folder last wrote a file."""
    written = (folder / name for name in ("config.json", "metrics.jsonl", "results.json"))
    return time.time() - max(file.stat().st_mtime for file in written if file.exists())


def describe_progress(folder: Path, config: dict[str, Any]) -> str:
    """Return "pretraining, epoch 3 of 10", from the last complete row of metrics.jsonl."""
    row = last_row(folder / "metrics.jsonl")
    if row is None:
        return "at its start"
    part = "pretrain" if row["phase"] == "pretrain" else "transfer"
    return f"{words.describe_phase(row['phase'])}, epoch {row['epoch']} of {config[part]['epochs']}"


def last_row(file: Path) -> dict[str, Any] | None:
    """Return the last complete row of a file of JSON lines, or None."""
    if not file.exists():
        return None
    with files.open_regular(file) as opened:
        opened.seek(max(0, file.stat().st_size - _TAIL))
        lines = opened.read().splitlines()
    for line in reversed(lines):
        try:
            return files.parse_json(line)
        except ValueError:
            continue  # Truncated by a crash.
    return None


def describe_score(results: Results) -> str:
    """Return the best evaluation and that of what it started from in the same protocol, with their intervals."""
    scored = [e for e in results["evaluations"] if words.get_score(e)["value"] is not None]
    compared = [e for e in scored if words.find_start(results, e)] or scored
    if not compared:
        return ""
    metric = words.primary_metric(compared[0])  # Scores of classes and masks are not alike.
    better = min if metric in words.LOWER_IS_BETTER else max
    alike = [e for e in compared if words.primary_metric(e) == metric]
    best = better(alike, key=lambda e: words.get_score(e)["value"] or 0.0)
    partner = words.find_start(results, best)
    init = words.describe_start(best["init"])
    text = f"{words.protocol_name(best['protocol'])}: {init} {words.format_estimate(words.get_score(best))}"
    if partner is None:
        return text
    return f"{text}, {words.describe_start(partner['init'])} {words.format_estimate(words.get_score(partner))}"


def show(runs: Sequence[Run], console: Console) -> None:
    """Print the table, or tab-separated values if the output is not a terminal."""
    if not console.is_terminal:
        print(*Run._fields, sep="\t")
        for run in runs:
            print(*map(clean_cell, run._replace(age=format_age(run.age))), sep="\t")
        return
    console.print(make_table(runs))
    for run in runs:
        if run.state == "stopped":
            console.print(f"{clean_cell(run.folder)} resumes with", style="dim")
            # One line, so that it can be copied.
            console.print(f"  {clean_cell(run.command)}", soft_wrap=True)


def make_table(runs: Sequence[Run]) -> Table:
    """Return the table for a terminal."""
    head = ("run", "state", "pretraining", "score, or progress", "age")
    table = Table(*head, box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[:4]:
        column.overflow = "fold"
    table.columns[4].justify = "right"
    for run in runs:
        state = Text(run.state, style=STYLES[run.state])
        subject = f"{run.pretraining} on {run.dataset}" if run.dataset else ""
        cells = map(clean_cell, (subject, run.at or run.score))
        table.add_row(clean_cell(run.folder), state, *cells, format_age(run.age))
    return table


def clean_cell(value: object) -> str:
    """Return text in one line, without what could steer a terminal."""
    return escape_controls(" ".join(str(value).split()))


def format_age(seconds: float | None) -> str:
    """Return "40 s", "12 min", "3 h", "5 d", or "" if unknown."""
    if seconds is None:
        return ""
    for unit, length, limit in (("s", 1, 60), ("min", 60, 60), ("h", 3600, 48)):
        if seconds < limit * length:
            return f"{max(0, int(seconds / length))} {unit}"
    return f"{int(seconds / DAY)} d"
