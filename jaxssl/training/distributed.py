"""Several processes that are one run: how they find one another, agree, and end together.

All of them see the workdir, as one file system. Process 0 alone writes there, but for the parts of each checkpoint.
What it finds there is told to the others by the coordinator that JAX starts in process 0: that needs no devices, and
signals are answered while one waits for another.
"""

import atexit
import contextlib
import functools
import itertools
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TypeVar

import jax
import numpy as np

# Neither has a public door: whether this is the machine of a TPU, which knows of the others, and the coordinator.
from jax._src.cloud_tpu_init import running_in_cloud_tpu_vm
from jax._src.distributed import global_state
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxssl.errors import PreemptedError, UserError

T = TypeVar("T")
JOIN_SECONDS = 300  # How long a process waits for the others to start.
LOST_SECONDS = 300  # So long without a sign of life, it counts as lost: schedulers suspend some for a while.
LEAVE_SECONDS = 10  # How long process 0 stays for the others to hear of the end.
POLL_MS = 1000  # Signals are answered between two questions to the coordinator.
ENDED = "jaxssl/ended"
numbers = itertools.count()


# Finding one another.


def connect(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins the other processes of this run, if there are any. Call it before anything else of JAX.

    Args:
      coordinator: host:port of process 0; None: Slurm, Open MPI or the TPU say it.
      num_processes: how many there are; None: they say it, and 1 where they say nothing.
      process_id: which of them this is; None: they say it.

    Raises:
      UserError: something is missing of the three, or the others do not come.
    """
    there, known_id, local = announced(os.environ)
    count = num_processes or there
    if coordinator is None and process_id is None and count == 1:
        return
    process_id = known_id if process_id is None else process_id
    if coordinator and (process_id is None or count == 1):
        raise UserError(f"--coordinator={coordinator} needs --num_processes of 2 or more, and --process_id, beside it")
    failed: list[Exception] = []

    def join() -> None:
        try:
            jax.distributed.initialize(
                coordinator,
                count,
                process_id,
                local,
                initialization_timeout=JOIN_SECONDS + 60,
                heartbeat_timeout_seconds=LOST_SECONDS,
            )
        except Exception as error:
            failed.append(error)

    # JAX ends the process without a word to Python when it has waited long enough.
    joining = threading.Thread(target=join, daemon=True)
    joining.start()
    joining.join(JOIN_SECONDS)
    if joining.is_alive() or failed:
        why = " ".join(str(failed[0]).split())[:200] if failed else f"after {JOIN_SECONDS} s"
        where = coordinator or global_state.coordinator_address or "the place that the cluster names"
        raise UserError(
            f"the {count or 'many'} processes of this run did not meet at {where} ({why}): start every one of them, "
            "or name another place by --coordinator=host:port, --num_processes and --process_id; --num_processes=1 "
            "waits for no others"
        )
    over = threading.Event()
    following = threading.Thread(target=watch_shutdown, args=(over,), daemon=True)
    following.start()
    # A thread that waits for the coordinator while Python ends aborts the process.
    atexit.register(lambda: (over.set(), following.join()))
    sys.excepthook = fail
    if not is_main():
        logging.getLogger("jaxssl").setLevel(logging.ERROR)  # Warnings are the same on all.


def announced(environ: Mapping[str, str]) -> tuple[int | None, int | None, list[int] | None]:
    """How many processes the environment says this run has, which of them this is, and which of its devices it takes.

    (1, None, None) where it says nothing; None of what JAX finds out by itself; [] for all devices. The shell of a job
    with many tasks is one process.
    """
    slurm = ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_STEP_TASKS_PER_NODE", "SLURM_LOCALID")
    mpi = tuple(f"OMPI_COMM_WORLD_{name}" for name in ("SIZE", "RANK", "LOCAL_SIZE", "LOCAL_RANK"))
    for count, rank, beside, local in (slurm, mpi):
        if int(environ.get(count, 1)) > 1:
            # JAX gives each process one GPU, also where it has the machine to itself or sees no other GPU anyway.
            alone = environ.get(beside, "").split("(")[0] == "1"
            bound = "," not in environ.get("CUDA_VISIBLE_DEVICES", ",")
            return int(environ[count]), int(environ[rank]), [] if alone or bound else [int(environ[local])]
    return (None, None, None) if running_in_cloud_tpu_vm else (1, None, None)


# Agreeing.


def is_main() -> bool:
    """Whether this is process 0, or the only one."""
    return jax.process_index() == 0


def from_main(read: Callable[[], T]) -> T:
    """What `read` gives on process 0, on all of them, as JSON has it; the others wait for it and do not call `read`.

    All processes ask the same in the same order.
    """
    if jax.process_count() == 1:
        return read()
    key = f"jaxssl/{next(numbers)}"
    if is_main():
        value = read()
        global_state.client.key_value_set(key, json.dumps(value))
        return value
    return json.loads(wait_for(key))


def wait_for(key: str) -> str:
    """What another process says under this key, whenever it does. JaxRuntimeError where the coordinator is gone."""
    while (said := ask(key)) is None:
        pass
    return said


def ask(key: str) -> str | None:
    """The same, or None where it is not said within a moment."""
    try:
        return global_state.client.blocking_key_value_get(key, POLL_MS)
    except jax.errors.JaxRuntimeError as error:
        if "DEADLINE_EXCEEDED" not in str(error):
            raise
        return None


def main_first(make: Callable[[], T]) -> T:
    """What `make` gives; the others begin once process 0 is done, and find the cache as it left it."""
    made = make() if is_main() else None
    from_main(lambda: None)
    return made if is_main() else make()


def gather(array: jax.Array) -> np.ndarray:
    """The whole of an array that may lie on the devices of several processes, on each of them."""
    return multihost_utils.process_allgather(array, tiled=True)


def any_of_all(flag: bool) -> jax.Array:
    """Whether the flag of any process is set, on each of them; it is under way when this returns."""
    flags = jax.make_array_from_callback((jax.device_count(),), over_all(), lambda _: np.full(1, flag))
    return disjunction()(flags)


@functools.cache
def over_all() -> NamedSharding:
    """One element a device of all processes."""
    return NamedSharding(Mesh(np.array(jax.devices()), ("all",)), PartitionSpec("all"))


@functools.cache
def disjunction() -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda flags: flags.any(), out_shardings=NamedSharding(over_all().mesh, PartitionSpec()))


# Ending together.


def end(code: int) -> None:
    """Ends all processes of this run, this one included, with the code that the first of them gives.

    Returns where there are no others. None of them is asked what it is at: every file is whole at any moment.
    """
    if global_state.num_processes > 1 and global_state.client is not None:
        # Another may have been first, or the coordinator be gone.
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            global_state.client.key_value_set(ENDED, str(code))
        shutdown(code)


def fail(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """`sys.excepthook` where there are several processes: one that fails does not leave the others waiting."""
    sys.__excepthook__(kind, error, trace)
    end(1)


def watch_shutdown(over: threading.Event) -> None:
    """Ends this process when another one calls `end`; runs in a thread, for the main one may be waiting for devices."""
    # At the usual end of a run, the coordinator leaves without a word.
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        while not over.is_set():
            poll_shutdown()


def poll_shutdown() -> None:
    """Ends this process where another one has called `end`."""
    if (code := ask(ENDED)) is not None:
        shutdown(int(code))


def shutdown(code: int) -> None:
    client = global_state.client
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        client.key_value_set(f"{ENDED}/{global_state.process_id}", "", allow_overwrite=True)
        until = time.monotonic() + LEAVE_SECONDS
        while global_state.process_id == 0 and time.monotonic() < until:
            if len(client.key_value_dir_get(f"{ENDED}/")) == global_state.num_processes:
                break
            time.sleep(0.05)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def as_preemption(error: jax.errors.JaxRuntimeError) -> PreemptedError:
    """What to say of an error of the devices that tells of the end of another process; any other is raised."""
    told = ("Connection closed by peer", "Connection reset by peer", "coordination service", "heartbeat")
    if global_state.num_processes == 1 or not any(text in str(error) for text in told):
        raise error
    # One that ended with a word is gone, too, and the word may be heard later than that.
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        poll_shutdown()
    return PreemptedError("another process of this run was lost; the same command goes on from the last checkpoint")
