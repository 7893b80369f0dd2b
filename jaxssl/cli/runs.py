"""List the runs below a folder: state, progress, score, and how to resume.

    jaxssl runs runs/ham

A run is done, running (a process holds its lock), stopped (its command resumes it) or broken, with the reason. The
score is the macro AUC of the protocol in which the pretrained encoder does best, next to that of random weights in the
same protocol. If the output is not a terminal: tab-separated values, a line a run.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxssl import files
from jaxssl.errors import UserError
from jaxssl.results import words

GROUP = "results"
_TAIL = 2**16  # Bytes of metrics.jsonl that are looked at; a row has less than a thousand.
STYLES = {"done": "green", "running": "cyan", "stopped": "yellow", "broken": "bold red"}


class Run(NamedTuple):
    """What one row says.

    Attributes:
      folder: of the run, relative to where was looked.
      state: "done", "running", "stopped" or "broken".
      at: the phase and its epoch where it has not ended; what is wrong where it is broken.
      score: "finetune .971, random .979", or nothing.
      age: seconds since it last wrote anything; None where that is not known.
      command: by which it was begun and goes on.
    """

    folder: str
    state: str
    at: str = ""
    score: str = ""
    age: float | None = None
    command: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", nargs="?", default="runs", metavar="FOLDER", help="Where to look; runs by default.")


def run(options: argparse.Namespace) -> int:
    show(listed(options.root), Console(markup=False, emoji=False, highlight=False))
    return 0


def listed(root: str | Path) -> list[Run]:
    """The runs below `root` in the order of their folders. UserError where there are none."""
    root = Path(root).expanduser()
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: name one that holds runs")
    found = [read(folder, folder.relative_to(root).as_posix()) for folder in sorted(find(root))]
    if not found:
        raise UserError(f"{root} holds no run: there is no splits.json or results.json below it")
    return found


def find(root: Path) -> Iterator[Path]:
    """Folders of runs; what lies within a run is not looked at."""
    for folder, inner, names in os.walk(root):
        if {"splits.json", "results.json"} & set(names):
            inner.clear()
            yield Path(folder)
        inner[:] = [name for name in inner if not name.startswith(".")]


def read(folder: Path, name: str) -> Run:
    """A row, whatever the folder holds."""
    # One run must not hide the others: anything may be wrong with its files.
    try:
        config = json.loads((folder / "config.json").read_text())
        run = Run(name, "done", age=age(folder), command=str(config["command"]))
        if (folder / "results.json").exists():
            return run._replace(score=score(json.loads((folder / "results.json").read_text())))
        state = "running" if files.is_locked(folder) else "stopped"
        return run._replace(state=state, at=reached(folder, config["config"]))
    except Exception as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
        at = f"{Path(error.filename).name}: {said}" if isinstance(error, OSError) and error.filename else said
        return Run(name, "broken", at=at)


def age(folder: Path) -> float:
    written = (folder / name for name in ("config.json", "metrics.jsonl", "results.json"))
    return time.time() - max(file.stat().st_mtime for file in written if file.exists())


def reached(folder: Path, settings: dict[str, Any]) -> str:
    """ "pretrain, epoch 3 of 10", from the last whole row of metrics.jsonl."""
    row = last_row(folder / "metrics.jsonl")
    if row is None:
        return "at its start"
    part = "pretrain" if row["phase"] == "pretrain" else "transfer"
    return f"{row['phase']}, epoch {row['epoch']} of {settings[part]['epochs']}"


def last_row(file: Path) -> dict[str, Any] | None:
    if not file.exists():
        return None
    with open(file, "rb") as opened:
        opened.seek(max(0, file.stat().st_size - _TAIL))
        lines = opened.read().splitlines()
    for line in reversed(lines):
        try:
            return json.loads(line)
        except ValueError:
            continue  # A crash cut it off.
    return None


def score(results: dict[str, Any]) -> str:
    scored = [e for e in results["evaluations"] if words.get_score(e)["value"] is not None]
    compared = [e for e in scored if words.find_random_partner(results, e)] or scored
    if not compared:
        return ""
    best = max(compared, key=lambda e: words.get_score(e)["value"])
    said, other = (
        f"{best['protocol']} {words.format_number(words.get_score(best)['value'])}",
        words.find_random_partner(results, best),
    )
    return f"{said}, random {words.format_number(words.get_score(other)['value'])}" if other else said


def show(found: Sequence[Run], console: Console) -> None:
    if not console.is_terminal:
        print(*Run._fields, sep="\t")
        for run in found:
            print(*(cell(value) for value in run._replace(age=in_words(run.age))), sep="\t")
        return
    table = Table("run", "state", "macro AUC, or how far", "age", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in (table.columns[0], table.columns[2]):
        column.overflow = "fold"
    table.columns[3].justify = "right"
    for run in found:
        state = Text(run.state, style=STYLES[run.state])
        table.add_row(cell(run.folder), state, cell(run.at or run.score), in_words(run.age))
    console.print(table)
    for run in found:
        if run.state == "stopped":
            console.print(f"{cell(run.folder)} goes on with", style="dim")
            # One line, so that it can be copied.
            console.print(f"  {cell(run.command)}", soft_wrap=True)


def cell(value: str) -> str:
    """In one line, without what could steer a terminal."""
    return words.clean_text(" ".join(value.split()))


def in_words(seconds: float | None) -> str:
    """ "40 s", "12 min", "3 h", "5 d"."""
    if seconds is None:
        return ""
    for unit, length, limit in (("s", 1, 60), ("min", 60, 60), ("h", 3600, 48)):
        if seconds < limit * length:
            return f"{max(0, int(seconds / length))} {unit}"
    return f"{int(seconds / 86400)} d"
