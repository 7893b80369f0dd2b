"""Settings of JAX, XLA and the memory allocator, each with its reason.

An environment variable with the name of an option, or a flag in XLA_FLAGS, takes precedence.
"""

import ctypes
import os
import sys
import threading
from pathlib import Path
from typing import Any

CACHE = os.path.expanduser("~/.cache/jaxssl/xla")
OPTIONS: dict[str, Any] = {
    # A resumed run does not compile again what it has compiled before. Some users of containers have no home folder.
    "jax_compilation_cache_dir": None if CACHE.startswith("~") else CACHE,
    # Collectives between the processes of one run on CPUs.
    "jax_cpu_collectives_implementation": "gloo",
    # It would handle SIGTERM and ignore SIGUSR1; jaxssl.training.loop handles both.
    "jax_enable_preemption_service": False,
}
# Not xla_cpu_prefer_vector_width=512, although a step is 4 % faster with it: simulated lenses then differ between runs
# (jaxlib 0.10.2, AVX-512), as if values were read from other addresses.
XLA_FLAGS = {
    # The scheduler that runs operations concurrently takes twice the memory and, with two cores, as much time.
    "xla_cpu_enable_concurrency_optimized_scheduler": "false",
}
# On GPUs otherwise some sums are in the order in which threads end, and the fastest kernels are chosen at each start.
DETERMINISTIC_FLAGS = {"xla_gpu_deterministic_ops": "true"}
# On CPUs each step allocates its memory anew: with pages of 2 MiB instead of 4 KiB it is a seventh faster.
HUGE_PAGES = ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
DEBUGGERS = ("pydevd", "debugpy", "pdb", "ipykernel", "cProfile", "pyinstrument", "memray", "scalene")


def restart() -> None:
    """Start this command again, once, with settings that the C library reads only when a process starts.

    Call it from the code that runs as `__main__`. It does nothing where replacing the process would do harm: in a
    debugger, a profiler, a notebook, a thread, or a process that another program started and that imports jaxssl.
    """
    name, value = HUGE_PAGES
    if sys.platform == "linux" and name not in os.environ and owns_process() and not is_observed():
        os.environ[name] = value
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def owns_process() -> bool:
    """Return whether the process runs a command of jaxssl, or the script that calls `restart`, in its main thread."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    program = spec.name if spec else Path(getattr(main, "__file__", None) or "").stem
    is_command = program.split(".")[0] == "jaxssl"
    calls_restart = sys._getframe(2).f_globals is vars(main)
    return (is_command or calls_restart) and threading.current_thread() is threading.main_thread()


def is_observed() -> bool:
    """Return whether a debugger, a profiler, a coverage tool or a notebook is attached to this process."""
    monitoring = getattr(sys, "monitoring", None)  # From Python 3.12 on.
    tools = [monitoring.get_tool(number) for number in range(6)] if monitoring else []
    traced = sys.gettrace() is not None or sys.getprofile() is not None or any(tools)
    return traced or hasattr(sys, "ps1") or any(name in sys.modules for name in DEBUGGERS)


def configure(deterministic: bool = False) -> None:
    """Set `OPTIONS` and `XLA_FLAGS`. Call it before JAX computes anything.

    Args:
      deterministic: whether GPUs, too, give the same bytes in each run.
    """
    import jax  # Here, so that a command that restarts does not import it twice.

    for name, value in OPTIONS.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)
    flags = os.environ.get("XLA_FLAGS", "")
    wanted = XLA_FLAGS | (DETERMINISTIC_FLAGS if deterministic else {})
    new = [f"--{name}={value}" for name, value in wanted.items() if name not in flags]
    os.environ["XLA_FLAGS"] = " ".join([flags, *new]).strip()


def trim_heap() -> None:
    """Return freed memory from the C library to the system: the compiler leaves most of a gigabyte."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc has it, musl has not.
        libc.malloc_trim(0)
