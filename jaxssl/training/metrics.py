"""What a run says while it runs: metrics.jsonl, TensorBoard files, and the progress bar in the terminal."""

import contextlib
import json
import logging
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tensorboardX import SummaryWriter, summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from jaxssl.errors import TrainingFailedError
from jaxssl.files import flatten, nan_to_null, write_text
from jaxssl.training import distributed, trackers

console = Console()
log = logging.getLogger(__name__)
FAR = 0.25  # Share by which a first loss may miss what theory expects.


def is_far(first_loss: float, expected: float) -> bool:
    """Whether a first loss lies further from what theory expects than another draw of the weights would put it."""
    return abs(first_loss - expected) > FAR * expected


def read(workdir: Path, phase: str | None = None) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, of one phase or all; a line that a crash cut off is left out."""
    file = Path(workdir) / "metrics.jsonl"
    rows = []
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return [row for row in rows if phase in (None, row["phase"])]


def write_pictures(
    workdir: Path, pictures: dict[str, np.ndarray], features: np.ndarray, labels: Sequence[str], images: np.ndarray
) -> None:
    """Writes tensorboard/gallery anew: pictures by name, and the features of some images for the projector.

    Args:
      workdir: of the run.
      pictures: [H, W, 3] uint8.
      features: [N, D] float, or none.
      labels: N texts.
      images: [N, S, S, 1 or 3] uint8.
    """
    folder = Path(workdir) / "tensorboard" / "gallery"
    shutil.rmtree(folder, ignore_errors=True)  # tensorboardX would add to what is there.
    with SummaryWriter(str(folder)) as writer:
        for name, picture in pictures.items():
            writer.add_image(name, picture, dataformats="HWC")
        # tensorboardX leaves the rest of a square of images as memory holds it: a whole square has no rest.
        whole = math.isqrt(len(features)) ** 2
        if whole:
            shown = np.broadcast_to(images[:whole], (*images[:whole].shape[:3], 3)) / 255
            texts = [" ".join(label.split()) for label in labels[:whole]]
            writer.add_embedding(features[:whole], texts, shown.transpose(0, 3, 1, 2), tag="features")


class Writer:
    """Takes the metrics of one phase step by step, one step late, and writes each `log_every`-th as a row.

    A row is of one step alone, so that rows do not depend on where a run was interrupted. Rows that an earlier try
    wrote beyond the step from which this one starts are taken out first.
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
    ) -> None:
        self.workdir, self.phase, self.log_every, self.first_loss = Path(workdir), phase, log_every, first_loss
        self.epochs, self.steps_per_epoch, self.batch_size = epochs, steps_per_epoch, batch_size
        self.pending: tuple[int, dict] | None = None
        self.main = distributed.is_main()
        if self.main:
            self.tracker = trackers.begin(settings.get("logger", ""), self.workdir, settings)
            kept = [r for r in read(workdir) if r["phase"] != phase or 0 < start >= r["step"]]
            write_text(self.workdir / "metrics.jsonl", "".join(json.dumps(r) + "\n" for r in kept))
            self.file = open(self.workdir / "metrics.jsonl", "a", encoding="utf-8")  # noqa: SIM115
            # The writer without a thread: where the disk is full, what goes through a queue is waited for in vain.
            folder = self.workdir / "tensorboard" / phase
            folder.mkdir(parents=True, exist_ok=True)
            self.tensorboard = EventsWriter(str(folder / "events"), f".{start}")
            if start:
                self.event(start, session_log=SessionLog(status=SessionLog.START))
        columns = ("description", "fields[epoch]", "fields[loss]", "fields[speed]")
        texts = [TextColumn(f"{{task.{column}}}") for column in columns]
        self.progress = Progress(
            texts[0], BarColumn(), *texts[1:], TimeRemainingColumn(), console=console, disable=not self.live()
        )
        fields = {"epoch": f"epoch {start // steps_per_epoch}/{epochs}", "loss": "", "speed": "compiling"}
        self.task = self.progress.add_task(phase, total=epochs * steps_per_epoch, completed=start, **fields)
        self.last_row, self.busy, self.clock = start, 0.0, time.perf_counter()

    def live(self) -> bool:
        return self.main and console.is_terminal

    def __enter__(self) -> "Writer":
        self.progress.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()
        if self.main:
            # A second error of a full disk says no more than the first.
            with contextlib.suppress(OSError) if error else contextlib.nullcontext():
                self.file.close()
                self.tensorboard.close()
            self.tracker.end()

    def step(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Notes the metrics of this step and looks at those of the one before."""
        self.flush()
        self.pending = step, metrics

    def flush(self) -> None:
        """Looks at what is pending. Raises TrainingFailedError where the loss or the gradient is not finite."""
        if self.pending is None:
            return
        step, metrics = self.pending
        self.pending = None
        metrics = {k: float(v) for k, v in jax.device_get(metrics).items()}
        now = time.perf_counter()
        self.busy, self.clock = self.busy + now - self.clock, now
        speed = self.batch_size * (step - self.last_row) / self.busy
        epoch = 1 + (step - 1) // self.steps_per_epoch
        ends = step % self.steps_per_epoch == 0
        if step == 1 or ends or step % self.log_every == 0:
            self.row(step, epoch, metrics | {"images_per_second": round(speed, 1), "seconds": round(self.busy, 4)})
            self.last_row, self.busy = step, 0.0
        bad = [k for k in ("loss", "gradient_norm") if not math.isfinite(metrics[k])]
        if bad:
            raise TrainingFailedError(
                f"{self.phase}: {bad[0]} is {metrics[bad[0]]} at step {step}; the checkpoints are from before it; "
                f"a lower learning rate, a longer warm-up or a look at the images may mend it"
            )
        if step == 1 and self.main and self.first_loss is not None:
            self.compare(metrics["loss"], self.first_loss)
        fields = {
            "epoch": f"epoch {epoch}/{self.epochs}",
            "loss": f"loss {metrics['loss']:.4f}",
            "speed": f"{speed:.0f} images/s",
        }
        self.progress.update(self.task, completed=step, **fields)
        if self.main and not self.live() and ends:
            console.print(f"{self.phase}: {', '.join(fields.values())}")

    def compare(self, first: float, expected: float) -> None:
        console.print(f"{self.phase}: the first loss is {first:.4g}; theory expects {expected:.4g}")
        if is_far(first, expected):
            log.warning(
                "%s: the first loss, %.4g, is far from the %.4g that an untrained network should have: "
                "look at the images, the labels and the augmentation",
                *(self.phase, first, expected),
            )

    def resume(self) -> None:
        """Starts the clock again after something that is not training, such as an evaluation or a checkpoint."""
        if self.main:
            self.tensorboard.flush()
        self.clock = time.perf_counter()

    def event(self, step: int, **content: Any) -> None:
        self.tensorboard.write_event(Event(step=step, wall_time=time.time(), **content))

    def row(self, step: int, epoch: int, values: dict[str, Any]) -> None:
        """Writes a row at once, whatever the step; epochs count from 1, and 0 is before training."""
        if not self.main:
            return
        line = {"phase": self.phase, "step": step, "epoch": epoch} | nan_to_null(values)
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        for name, value in values.items():
            if isinstance(value, int | float):
                self.event(step, summary=summary.scalar(f"{self.phase}/{name}", value))
        self.tracker.row(self.phase, step, trackers.numbers(values))


def conclude(workdir: Path, settings: Mapping[str, Any], results: Mapping[str, Any]) -> None:
    """Writes the scores beside the config, for TensorBoard's table of hyper-parameters and for the logger.

    Args:
      workdir: of the run.
      settings: its config, as JSON has it.
      results: the content of results.json.
    """
    found = {
        f"{e['name']}/{metric}": of["value"] for e in results["evaluations"] for metric, of in e["metrics"].items()
    }
    scores, folder = trackers.numbers(found), workdir / "tensorboard" / "results"
    if folder.exists():
        return
    with SummaryWriter(str(folder)) as tensorboard:
        options = {name: v if isinstance(v, int | float | str) else str(v) for name, v in flatten(settings)}
        tensorboard.add_hparams(options, {f"results/{name}": v for name, v in scores.items()}, "hparams")
    tracker = trackers.begin(settings.get("logger", ""), workdir, settings)
    tracker.row("results", 0, scores)
    tracker.end()
