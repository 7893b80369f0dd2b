"""The training loop, which pretraining, fine-tuning and training from scratch share; preemption by signals."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType

import jax

from jaxssl.errors import PreemptedError
from jaxssl.training import checkpoint, distributed, memory
from jaxssl.training.metrics import Writer
from jaxssl.training.step import Step, Storage, TrainState, compile_ahead

# Slurm and the clouds send these before they take a machine away. Windows has no SIGUSR1.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))
STORAGE = Storage()
SAME_SIGNAL_SECONDS = 1.0  # Slurm sends SIGTERM twice if it preempts without grace time; that counts as one.


def train_epochs(
    state: TrainState,
    step_of: Callable[[int], Step],
    batches: Callable[[int, int], Iterator[dict]],
    *,
    finished: Callable[[int], bool],
    steps_per_epoch: int,
    writer: Writer,
    checkpoints: Path,
    save_every: int = 0,
    storage: Storage = STORAGE,
) -> Iterator[tuple[int, TrainState]]:
    """Train from `state` on. Yields (epochs done, state) after each epoch and saves the state after the yield.

    The metrics of a step are fetched after the next step has been dispatched, so that the device never waits for the
    host. Before a checkpoint is saved, all metrics are known to be finite.

    Args:
      state: fresh or restored, also from the middle of an epoch.
      step_of: epoch -> its jitted step.
      batches: (epoch, batches to skip) -> the remaining batches of this epoch on the devices; deterministic.
      finished: step -> whether training ends there, at the end of an epoch.
      steps_per_epoch: batches per epoch.
      writer: takes the metrics; raises `TrainingFailedError` if they are not finite.
      checkpoints: folder of the checkpoints.
      save_every: steps between checkpoints within an epoch; 0: none.
      storage: what checkpoints hold.

    Raises:
      PreemptedError: after SIGTERM or SIGUSR1, once the state is saved.
    """

    def save() -> None:
        ended = finished(step)
        checkpoint.save(checkpoints, step, storage.select(state, ended), storage.count(ended))

    step, compiled = int(state.step), None
    writer.resume()
    with Preemption() as preemption:
        while not finished(step):
            epoch = step // steps_per_epoch
            train = step_of(epoch)
            for batch in batches(epoch, step % steps_per_epoch):
                if train is not compiled:
                    memory.warn_if_too_large(writer.phase, compile_ahead(train, state, batch))
                    compiled = train
                state, metrics = train(state, batch)
                step += 1
                writer.step(step, metrics)
                ended = step % steps_per_epoch == 0
                preempted = preemption.requested()
                if not ended and (preempted or (save_every and step % save_every == 0)):
                    writer.flush()
                    save()
                    if preempted:
                        raise PreemptedError(f"saved at step {step}; run the same command again to resume")
            writer.flush()
            yield epoch + 1, state
            save()
            writer.resume()
            if preemption.requested():
                raise PreemptedError(f"saved after epoch {epoch + 1}; run the same command again to resume")


class Preemption:
    """Context in which the first SIGTERM or SIGUSR1 is noted instead of ending the process; a later one ends it.

    Python lets only the main thread handle signals: in any other thread the context does nothing.
    """

    def __init__(self) -> None:
        self.signalled, self.since = False, 0.0
        self.pending: jax.Array | None = None
        self.handlers: dict[int, object] = {}

    def __enter__(self) -> "Preemption":
        if threading.current_thread() is threading.main_thread():
            self.handlers = {number: signal.signal(number, self.handle) for number in SIGNALS}
        return self

    def requested(self) -> bool:
        """Return whether any process of the run got a signal. All processes call this after the same steps.

        With several processes the answer is that of the previous call, so that none waits for the devices.
        """
        if jax.process_count() == 1:
            return self.signalled
        previous, self.pending = self.pending, distributed.any_process(self.signalled)
        return previous is not None and bool(previous)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if not self.signalled:
            self.signalled, self.since = True, time.monotonic()
        elif time.monotonic() - self.since > SAME_SIGNAL_SECONDS:
            # An exception could wait for a lock of the code that it interrupts. All files are written atomically.
            distributed.end_all(PreemptedError.exit_code)
            os._exit(PreemptedError.exit_code)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
        if self.signalled and error is None and self.handlers:
            # The signal came after the last call of `requested`: pass it on to the handler outside.
            signal.raise_signal(signal.SIGTERM)
