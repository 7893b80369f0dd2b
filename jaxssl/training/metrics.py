"""Metrics of a run: metrics.jsonl, TensorBoard files, an external tracker, and progress in the terminal."""

import contextlib
import json
import logging
import math
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from clu.metrics import Average
from clu.parameter_overview import get_parameter_overview
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from tensorboardX import SummaryWriter, summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]

from jaxssl.errors import TrainingFailedError
from jaxssl.files import flatten, nan_to_null, parse_json, write_text
from jaxssl.training import distributed, trackers

console = Console()
log = logging.getLogger(__name__)
# Relative deviation from the expected first loss that other random weights do not explain.
FAR = 0.25
# The first steps compile; after so many more, the time that is left is printed, unless it is short (seconds).
WARM_STEPS, TIMED_STEPS, SHORT = 2, 5, 10


def is_far(first_loss: float, expected: float) -> bool:
    """Return whether a first loss is further from its expected value than other random weights would put it."""
    return abs(first_loss - expected) > FAR * expected


def read(workdir: Path, phase: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl, of one phase or all. Lines that a crash cut off or damaged are left out."""
    file = Path(workdir) / "metrics.jsonl"
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else ()
    rows = filter(None, map(parse_row, lines))
    return [row for row in rows if phase in (None, row["phase"])]


def parse_row(line: str) -> dict[str, Any] | None:
    """Return the row of a line of metrics.jsonl; None if it is damaged."""
    try:
        row = parse_json(line)
    except ValueError:
        return None
    known = isinstance(row, dict) and isinstance(row.get("phase"), str)
    return row if known and all(isinstance(row.get(name), int) for name in ("step", "epoch")) else None


def is_complete(workdir: Path, phase: str, step: int, steps_per_epoch: int, log_every: int) -> bool:
    """Return whether metrics.jsonl has every row that `Writer` writes of a phase up to a step."""
    rows = read(workdir, phase)
    expected = {s for s in range(1, step + 1) if s == 1 or s % steps_per_epoch == 0 or s % log_every == 0}
    measured = {row["epoch"] for row in rows if "loss" not in row}
    trained = {row["step"] for row in rows if "loss" in row}
    return expected <= trained and set(range(step // steps_per_epoch + 1)) <= measured


def write_pictures(
    workdir: Path,
    pictures: dict[str, np.ndarray],
    features: np.ndarray,
    labels: Sequence[str],
    images: np.ndarray | None,
) -> None:
    """Write tensorboard/gallery, replacing what is there: pictures, and features of images for the projector.

    Args:
      workdir: of the run.
      pictures: [H, W, 3] uint8 by name.
      features: [N, D] float; N may be 0.
      labels: N texts.
      images: [N, S, S, 1 or 3] uint8; None if N is 0.
    """
    folder = Path(workdir) / "tensorboard" / "gallery"
    shutil.rmtree(folder, ignore_errors=True)  # tensorboardX appends.
    with SummaryWriter(str(folder)) as writer:
        for name, picture in pictures.items():
            writer.add_image(name, picture, dataformats="HWC")
        # tensorboardX arranges the images in a square and leaves its rest uninitialized: show a square number of them.
        count = math.isqrt(len(features)) ** 2
        if count and images is not None:
            shown = np.broadcast_to(images[:count], (*images[:count].shape[:3], 3)) / 255
            texts = [" ".join(label.split()) for label in labels[:count]]
            writer.add_embedding(features[:count], texts, shown.transpose(0, 3, 1, 2), tag="features")


def write_parameters(workdir: Path, variables: Mapping[str, Any]) -> None:
    """Write parameters.txt, the names, shapes and sizes of all variables of the encoder; print the total."""
    file = Path(workdir) / "parameters.txt"
    if not file.exists():
        table = get_parameter_overview(variables, include_stats=False)
        write_text(file, table + "\n")
        # The last line is "Total: 702,928 -- 2,811,712 bytes".
        console.print(f"encoder: {table.splitlines()[-1].split()[1]} numbers, listed in {file.name}")


class Writer:
    """Writes the metrics of one phase, one step late, a row for each `log_every`-th step.

    A row is of one step alone, so that rows do not depend on where a run was interrupted. Rows that an earlier start
    wrote beyond the step from which this one begins are deleted first.
    """

    def __init__(
        self,
        workdir: Path,
        phase: str,
        start: int,
        epochs: int,
        steps_per_epoch: int,
        batch_size: int,
        log_every: int,
        first_loss: float | None = None,
        settings: Mapping[str, Any] = MappingProxyType({}),
        title: str = "",
        other_steps: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Open the files.

        Args:
          workdir: of the run.
          phase: "pretrain", or the name of a fine-tuning.
          start: step from which it begins.
          epochs: total number of epochs.
          steps_per_epoch: steps of an epoch.
          batch_size: images of a step.
          log_every: steps from one row to the next; the first and last step of an epoch have one too.
          first_loss: expected loss of the first step; None if unknown.
          settings: the config as JSON has it.
          title: what the progress calls the phase; by default its name.
          other_steps: work of the phases before and after this one, in steps of it, for the share that is done.
        """
        self.title, (self.earlier_steps, self.later_steps) = title or phase, other_steps
        self.workdir, self.phase, self.log_every, self.first_loss = Path(workdir), phase, log_every, first_loss
        self.epochs, self.steps_per_epoch, self.batch_size = epochs, steps_per_epoch, batch_size
        self.pending: tuple[int, dict] | None = None
        self.losses: list[float] = []  # Of this epoch.
        self.main = distributed.is_main()
        if self.main:
            self._open(start, settings)
        self.progress = _make_progress(disable=not self._is_live())
        fields: dict[str, Any] = {
            "epoch": f"epoch {start // steps_per_epoch}/{epochs}",
            "loss": "",
            "speed": "compiling",
            "left": "",
        }
        # Steps and their time without the first ones, which compile.
        self.timed_steps, self.timed_seconds = -WARM_STEPS, 0.0
        # One bar for all trainings of the run.
        self.total = self.earlier_steps + epochs * steps_per_epoch + self.later_steps
        self.task = self.progress.add_task(self.title, total=self.total, **fields)
        self.progress.update(self.task, completed=self.earlier_steps + start)
        self.last_row, self.busy, self.clock = start, 0.0, time.perf_counter()

    def _open(self, start: int, settings: Mapping[str, Any]) -> None:
        self.tracker = trackers.begin(settings.get("logger", ""), self.workdir, settings)
        kept = [r for r in read(self.workdir) if r["phase"] != self.phase or 0 < start >= r["step"]]
        write_text(self.workdir / "metrics.jsonl", "".join(json.dumps(r) + "\n" for r in kept))
        self.file = open(self.workdir / "metrics.jsonl", "a", encoding="utf-8")  # noqa: SIM115
        # EventsWriter has no thread: on a full disk, the thread of SummaryWriter would never end.
        folder = self.workdir / "tensorboard" / self.phase
        folder.mkdir(parents=True, exist_ok=True)
        self.tensorboard = EventsWriter(str(folder / "events"), f".{start}")
        if start:
            self._write_event(start, session_log=SessionLog(status=SessionLog.START))

    def _is_live(self) -> bool:
        return self.main and console.is_terminal

    def __enter__(self) -> "Writer":
        self.progress.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()
        if self.main:
            # On a full disk, a second error says no more than the first.
            with contextlib.suppress(OSError) if error else contextlib.nullcontext():
                self.file.close()
                self.tensorboard.close()

    def step(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Take the metrics of this step, and write those of the previous one."""
        self.flush()
        self.pending = step, metrics

    def flush(self) -> None:
        """Write the pending metrics. Raises TrainingFailedError if the loss or the gradient is not finite."""
        if self.pending is None:
            return
        step, metrics = self.pending
        self.pending = None
        metrics = {k: float(v) for k, v in jax.device_get(metrics).items()}
        now = time.perf_counter()
        self._time(now - self.clock)
        self.busy, self.clock = self.busy + now - self.clock, now
        speed = self.batch_size * (step - self.last_row) / self.busy
        epoch = 1 + (step - 1) // self.steps_per_epoch
        ends = step % self.steps_per_epoch == 0
        if step == 1 or ends or step % self.log_every == 0:
            self.row(step, epoch, metrics | {"images_per_second": round(speed, 1), "seconds": round(self.busy, 4)})
            self.last_row, self.busy = step, 0.0
        self._check_finite(step, metrics)
        if step == 1 and self.main and self.first_loss is not None:
            self._check_first_loss(metrics["loss"], self.first_loss)
        self._show(step, epoch, ends, metrics["loss"], speed)

    def _time(self, seconds: float) -> None:
        self.timed_steps += 1
        self.timed_seconds += seconds if self.timed_steps > 0 else 0.0

    def _seconds_left(self, step: int) -> tuple[float, float] | None:
        """Return the seconds that this phase and the whole run will take from this step on; None if too few are timed.

        Neither includes the evaluations.
        """
        if self.timed_steps < 1:
            return None
        per_step, rest = self.timed_seconds / self.timed_steps, self.epochs * self.steps_per_epoch - step
        return per_step * rest, per_step * (rest + self.later_steps)

    def _check_finite(self, step: int, metrics: dict[str, float]) -> None:
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(metrics[name]):
                raise TrainingFailedError(
                    f"{self.phase}: {name} is {metrics[name]} at step {step}; the last checkpoint is from before. "
                    "Reduce the learning rate, lengthen the warm-up, or check the images"
                )

    def _show(self, step: int, epoch: int, ends: bool, loss: float, speed: float) -> None:
        """Update the progress bar; without a terminal, print a line per epoch with the mean loss of its steps."""
        self.losses.append(loss)
        fields: dict[str, Any] = {
            "epoch": f"epoch {epoch}/{self.epochs}",
            "loss": f"loss {loss:.4f}",
            "speed": f"{speed:.0f} images/s",
        }
        left = self._seconds_left(step)
        fields["left"] = f"{format_duration(left[1])} left" if left else ""
        done = self.earlier_steps + step
        self.progress.update(self.task, completed=done, **fields)
        if self.main and left and self.timed_steps == TIMED_STEPS and left[1] > SHORT:
            console.print(f"{self.title}: about {format_duration(left[0])}, all trainings {format_duration(left[1])}")
        if not ends:
            return
        if self.main and not self._is_live():
            mean = Average.from_model_output(jnp.asarray(self.losses)).compute()
            rest = f", {done / self.total:.0%} of all trainings, {fields['left']}" if left and left[1] > SHORT else ""
            console.print(f"{self.title}: {fields['epoch']}, mean loss {mean:.4f}, {fields['speed']}{rest}")
        self.losses = []

    def _check_first_loss(self, first: float, expected: float) -> None:
        console.print(f"{self.title}: the first loss is {first:.4g}; theory expects {expected:.4g}")
        if is_far(first, expected):
            log.warning(
                "%s: the first loss, %.4g, is far from the %.4g that an untrained network should have: "
                "check the images, the labels and the augmentation",
                *(self.phase, first, expected),
            )

    def resume(self) -> None:
        """Restart the clock after something that is not training, such as an evaluation or a checkpoint."""
        if self.main:
            self.tensorboard.flush()
        self.clock = time.perf_counter()

    def _write_event(self, step: int, **content: Any) -> None:
        self.tensorboard.write_event(Event(step=step, wall_time=time.time(), **content))

    def row(self, step: int, epoch: int, values: dict[str, Any]) -> None:
        """Write a row immediately; epochs count from 1, and 0 is before training."""
        if not self.main:
            return
        line = {"phase": self.phase, "step": step, "epoch": epoch} | nan_to_null(values)
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        for name, value in values.items():
            if isinstance(value, int | float):
                # One tag for a quantity, such as finetune/loss: the arms, a folder each, are drawn together.
                protocol = re.match("segment_linear|[^_]*", self.phase)
                tag = f"{protocol[0] if protocol else self.phase}/{name}"
                self._write_event(step, summary=summary.scalar(tag, value))
        self.tracker.row(self.phase, step, trackers.finite_numbers(values))


def _make_progress(disable: bool) -> Progress:
    columns = ("description", "fields[epoch]", "fields[loss]", "fields[speed]", "fields[left]")
    texts = [TextColumn(f"{{task.{column}}}") for column in columns]
    return Progress(texts[0], BarColumn(), TaskProgressColumn(), *texts[1:], console=console, disable=disable)


def format_duration(seconds: float) -> str:
    """Return "40 s", "25 min" or "3.5 h"."""
    if seconds < 99:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99 * 60 else f"{seconds / 3600:.1f} h"


def conclude(workdir: Path, settings: Mapping[str, Any], results: Mapping[str, Any]) -> None:
    """Write config and scores for the hyperparameter table of TensorBoard, and to the external tracker, once.

    Args:
      workdir: of the run.
      settings: its config as JSON has it.
      results: the content of results.json.
    """
    values = {
        f"{e['name']}/{metric}": estimate["value"]
        for e in results["evaluations"]
        for metric, estimate in e["metrics"].items()
    }
    scores, folder = trackers.finite_numbers(values), workdir / "tensorboard" / "results"
    if folder.exists():
        return
    with SummaryWriter(str(folder)) as tensorboard:
        options = {name: v if isinstance(v, int | float | str) else str(v) for name, v in flatten(settings)}
        tensorboard.add_hparams(options, {f"results/{name}": v for name, v in scores.items()}, "hparams")
    tracker = trackers.begin(settings.get("logger", ""), workdir, settings)
    tracker.row("results", 0, scores)
