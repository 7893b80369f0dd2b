"""What is set of JAX, XLA and the memory before they start, with a reason each; and freed memory, given back.

An environment variable of an option's name goes before it, and so does a flag that stands in XLA_FLAGS already.
"""

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

OPTIONS: dict[str, Any] = {
    # A run that goes on, as after each preemption, compiles nothing that it compiled before.
    "jax_compilation_cache_dir": str(Path("~/.cache/jaxssl/xla").expanduser()),
    # What the processes of one run talk by where they have CPUs alone.
    "jax_cpu_collectives_implementation": "gloo",
    # It would take SIGTERM for itself, and knows nothing of SIGUSR1; jaxssl.training.loop agrees on both.
    "jax_enable_preemption_service": False,
}
# Not xla_cpu_prefer_vector_width=512, though a step is 4 % faster with it: simulated lenses then differ from one run to
# the next (jaxlib 0.10.2, AVX-512), as if values of other places were read.
XLA_FLAGS = {
    # The scheduler that lets operations run beside one another takes twice the memory, and with two cores no less time.
    "xla_cpu_enable_concurrency_optimized_scheduler": "false",
}
# On CPUs each step takes its memory anew: by pages of 2 MiB instead of 4 KiB it is a seventh faster.
HUGE_PAGES = ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")


def restart() -> None:
    """Starts this command anew, once, with what the C library reads when a process begins and at no other time."""
    name, value = HUGE_PAGES
    if sys.platform == "linux" and name not in os.environ:
        os.environ[name] = value
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def apply() -> None:
    """Sets the rest. Call it before JAX computes anything."""
    import jax  # Not above: a command that restarts need not load it twice.

    for name, value in OPTIONS.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)
    given = os.environ.get("XLA_FLAGS", "")
    new = [f"--{name}={value}" for name, value in XLA_FLAGS.items() if name not in given]
    os.environ["XLA_FLAGS"] = " ".join([given, *new]).strip()


def trim_heap() -> None:
    """To the system, what was freed and kept for later: a compiler leaves most of a gigabyte behind."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc has it, musl has not.
        libc.malloc_trim(0)
