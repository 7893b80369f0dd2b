"""Several processes that train together: how they connect, agree and end together.

All processes see the workdir on a shared file system. Process 0 alone writes there, except for the shards of each
checkpoint, and broadcasts what it reads through the key-value store of JAX's coordination service, which runs in
process 0. That needs no devices, and signals are handled while a process waits.
"""

import atexit
import contextlib
import functools
import itertools
import json
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace, TracebackType
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxssl.errors import PreemptedError, UserError

# JAX has no public API for its key-value store, nor for whether this is a TPU VM. Without the first, a run has one
# process (`connect` refuses more); without the second, TPU pods need --coordinator and the like.
try:
    from jax._src.distributed import global_state as _global_state

    global_state: Any = _global_state
    HAS_KEY_VALUE_STORE = hasattr(global_state, "client") and hasattr(global_state, "num_processes")
except ImportError:
    HAS_KEY_VALUE_STORE = False
if not HAS_KEY_VALUE_STORE:
    global_state = SimpleNamespace(num_processes=1, process_id=0, client=None, coordinator_address=None)
try:
    from jax._src.cloud_tpu_init import running_in_cloud_tpu_vm
except ImportError:
    running_in_cloud_tpu_vm = False

T = TypeVar("T")
JOIN_SECONDS = 300  # How long a process waits for the others to start.
HEARTBEAT_SECONDS = 300  # A process is lost after this long without a heartbeat; schedulers suspend some for a while.
LINGER_SECONDS = 10  # How long process 0 waits at the end for the others to read the exit code.
POLL_MS = 1000  # Signals are handled between two polls of the key-value store.
EXIT_CODE_KEY = "jaxssl/exit_code"
_counter = itertools.count()


# Connect.


def connect(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Connect to the other processes of this run, if there are any. Call it before any other function of JAX.

    Args:
      coordinator: host:port of process 0; None: detected from Slurm, Open MPI or the TPU.
      num_processes: how many processes there are; None: detected, 1 if nothing is.
      process_id: index of this process; None: detected.

    Raises:
      UserError: one of the three is missing or out of its range, or the other processes do not connect in time.
    """
    if num_processes is not None and num_processes < 1:
        message = f"--num_processes={num_processes}: set it to 1 or more"
        raise UserError(message, code="out-of-range", field="--num_processes")
    if process_id is not None and not 0 <= process_id < (num_processes or math.inf):
        message = f"--process_id={process_id}: processes count from 0 to --num_processes - 1"
        raise UserError(message, code="out-of-range", field="--process_id")
    detected_count, detected_id, local_devices = detect_processes(os.environ)
    count = num_processes or detected_count
    if coordinator is None and process_id is None and count == 1:
        return
    process_id = detected_id if process_id is None else process_id
    if coordinator and (process_id is None or count == 1):
        raise UserError(
            f"--coordinator={coordinator} is incomplete: give --num_processes of 2 or more and --process_id too",
            code="missing",
            field="--num_processes",
        )
    if not HAS_KEY_VALUE_STORE:
        raise UserError(
            f"jax {jax.__version__} lacks the key-value store through which several processes agree: use one process, "
            "or another version of jax",
            code="unsupported",
            field="--num_processes",
        )
    _initialize(coordinator, count, process_id, local_devices)
    over = threading.Event()
    watcher = threading.Thread(target=watch_shutdown, args=(over,), daemon=True)
    watcher.start()
    # A thread that waits for the coordinator while Python ends would abort the process.
    atexit.register(lambda: (over.set(), watcher.join()))
    sys.excepthook = end_all_on_error
    if not is_main():
        logging.getLogger("jaxssl").setLevel(logging.ERROR)  # All processes log the same warnings.


def _initialize(
    coordinator: str | None, count: int | None, process_id: int | None, local_devices: list[int] | None
) -> None:
    """Call `jax.distributed.initialize` with a timeout that raises: JAX itself ends the process without an error."""
    failed: list[Exception] = []

    def initialize() -> None:
        try:
            jax.distributed.initialize(
                coordinator,
                count,
                process_id,
                local_devices,
                initialization_timeout=JOIN_SECONDS + 60,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            )
        except Exception as error:
            failed.append(error)

    joining = threading.Thread(target=initialize, daemon=True)
    joining.start()
    joining.join(JOIN_SECONDS)
    if joining.is_alive() or failed:
        reason = " ".join(str(failed[0]).split())[:200] if failed else f"timeout after {JOIN_SECONDS} s"
        address = coordinator or global_state.coordinator_address or "the address that the cluster gives"
        raise UserError(
            f"the {count or 'several'} processes of this run did not connect at {address} ({reason}): start all of "
            "them, or set --coordinator=host:port, --num_processes and --process_id; --num_processes=1 waits for no "
            "others",
            code="missing",
            field="--coordinator",
        )


def detect_processes(environ: Mapping[str, str]) -> tuple[int | None, int | None, list[int] | None]:
    """Return (number of processes, index of this one, its local devices) as Slurm or Open MPI set them.

    (1, None, None) outside both; None for what JAX detects by itself, as on TPU pods; [] for all local devices. The
    batch shell of a Slurm job with many tasks is one process.
    """
    slurm = ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_STEP_TASKS_PER_NODE", "SLURM_LOCALID")
    mpi = tuple(f"OMPI_COMM_WORLD_{name}" for name in ("SIZE", "RANK", "LOCAL_SIZE", "LOCAL_RANK"))
    for count, rank, per_node, local_rank in (slurm, mpi):
        if int(environ.get(count, 1)) > 1:
            # JAX gives each process one GPU, even if it is alone on its node or sees only one GPU anyway.
            alone = environ.get(per_node, "").split("(")[0] == "1"
            bound = "," not in environ.get("CUDA_VISIBLE_DEVICES", ",")
            return int(environ[count]), int(environ[rank]), [] if alone or bound else [int(environ[local_rank])]
    return (None, None, None) if running_in_cloud_tpu_vm else (1, None, None)


# Agree.


def is_main() -> bool:
    """Return whether this is process 0, or the only one."""
    return jax.process_index() == 0


def from_main(read: Callable[[], T]) -> T:
    """Call `read` on process 0 and return its result, which JSON must be able to hold, on all processes.

    All processes make the same calls in the same order; the others wait.
    """
    if jax.process_count() == 1:
        return read()
    key = f"jaxssl/{next(_counter)}"
    if is_main():
        value = read()
        global_state.client.key_value_set(key, json.dumps(value))
        return value
    return json.loads(wait_for_key(key))


def wait_for_key(key: str) -> str:
    """Return the value of a key of the key-value store once it is set. JaxRuntimeError if the coordinator is gone."""
    while (value := poll_key(key)) is None:
        pass
    return value


def poll_key(key: str) -> str | None:
    """Return the value of a key of the key-value store, or None if it is not set within `POLL_MS`."""
    try:
        return global_state.client.blocking_key_value_get(key, POLL_MS)
    except jax.errors.JaxRuntimeError as error:
        if "DEADLINE_EXCEEDED" not in str(error):
            raise
        return None


def main_first(make: Callable[[], T]) -> T:
    """Call `make` on process 0, then on the others, which find the caches that it filled."""
    made = make() if is_main() else None
    from_main(lambda: None)
    return made if made is not None else make()


def gather(array: jax.Array) -> np.ndarray:
    """Return the whole of an array whose shards may lie on several processes, on each of them."""
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def any_process(flag: bool) -> jax.Array:
    """Return whether the flag of any process is set, on each of them, as an array that may still be computed."""
    flags = jax.make_array_from_callback((jax.device_count(),), _device_sharding(), lambda _: np.full(1, flag))
    return _any()(flags)


@functools.cache
def _device_sharding() -> NamedSharding:
    """Return the sharding with one element on each device of all processes."""
    return NamedSharding(Mesh(np.array(jax.devices()), ("all",)), PartitionSpec("all"))


@functools.cache
def _any() -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda flags: flags.any(), out_shardings=NamedSharding(_device_sharding().mesh, PartitionSpec()))


# End together.


def end_all(code: int) -> None:
    """End all processes of this run, this one included, with the exit code of the first that calls this.

    Returns if there are no others. It may be called at any time, because all files are written atomically.
    """
    if global_state.num_processes > 1 and global_state.client is not None:
        # Another process may have set the key already, or the coordinator may be gone.
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            global_state.client.key_value_set(EXIT_CODE_KEY, str(code))
        shutdown(code)


def end_all_on_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """`sys.excepthook` of several processes: if one fails, the others do not wait for it."""
    sys.__excepthook__(kind, error, trace)
    end_all(1)


def watch_shutdown(over: threading.Event) -> None:
    """Poll until another process calls `end_all`; runs in a thread, as the main thread may wait for devices."""
    # At the normal end of a run, the coordinator closes the connection.
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        while not over.is_set():
            poll_shutdown()


def poll_shutdown() -> None:
    """End this process if another one has called `end_all`."""
    if (code := poll_key(EXIT_CODE_KEY)) is not None:
        shutdown(int(code))


def shutdown(code: int) -> None:
    """End this process; process 0, which holds the key-value store, first waits until the others have read the code."""
    client = global_state.client
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        client.key_value_set(f"{EXIT_CODE_KEY}/{global_state.process_id}", "", allow_overwrite=True)
        until = time.monotonic() + LINGER_SECONDS
        while global_state.process_id == 0 and time.monotonic() < until:
            if len(client.key_value_dir_get(f"{EXIT_CODE_KEY}/")) == global_state.num_processes:
                break
            time.sleep(0.05)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def as_preemption(error: RuntimeError) -> PreemptedError:
    """Return the error to report if `error` was caused by the end of another process; else raise it."""
    causes = ("Connection closed by peer", "Connection reset by peer", "coordination service", "heartbeat")
    if global_state.num_processes == 1 or not any(text in str(error) for text in causes):
        raise error
    # A process that ended with an exit code closes its connections too; the code may arrive later than that.
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        poll_shutdown()
    return PreemptedError(
        "another process of this run was lost; run the same command again to resume from the last checkpoint"
    )
