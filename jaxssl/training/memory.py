"""Memory: what a compiled step needs, what a device has, and one-line errors where it is not enough."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

try:
    import resource
except ImportError:  # Windows
    resource = None

log = logging.getLogger(__name__)
OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory", "bad_alloc")
CGROUPS = Path("/sys/fs/cgroup")
SMALLEST_RUN = 2 * 2**30  # EfficientNet-Lite0 on 32 px in batches of 64 took 1.8 GiB, most of it to compile.


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the host or a device had too little memory."""
    if isinstance(error, MemoryError):
        return True
    # A full disk is RESOURCE_EXHAUSTED, too.
    text = str(error)
    is_jax = isinstance(error, jax.errors.JaxRuntimeError)
    return is_jax and any(part in text for part in OUT_OF_MEMORY) and "os_error_code" not in text


def count_step_bytes(compiled: Any) -> int | None:
    """Return the bytes that a compiled function needs on each device, with arguments and results; None if unknown."""
    try:
        memory = compiled.memory_analysis()
        return (
            memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            + memory.temp_size_in_bytes
            - memory.alias_size_in_bytes
        )
    except (AttributeError, NotImplementedError, TypeError, jax.errors.JaxRuntimeError):
        return None


def count_device_bytes() -> int | None:
    """Return the bytes that a program can have on each device; None if unknown.

    On CPUs it is a share of the host's, without what Python, the libraries and the images in this process take.
    """
    devices = jax.local_devices()
    if devices[0].platform != "cpu":
        stats = devices[0].memory_stats() or {}
        return stats.get("bytes_limit")
    limits = list(_host_limits())
    return max(0, min(limits) - _count_other_bytes()) // len(devices) if limits else None


def _count_other_bytes() -> int:
    """Return the bytes of this process that are no arrays of JAX; 0 if unknown."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    except (OSError, ValueError, IndexError):  # Not Linux.
        return 0
    return max(0, pages * os.sysconf("SC_PAGE_SIZE") - sum(array.nbytes for array in jax.live_arrays()))


def _host_limits() -> Iterator[int]:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if resource and (limit := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
        yield limit
    yield from cgroup_limits(Path("/proc/self/cgroup"), CGROUPS)


def cgroup_limits(groups: Path, root: Path) -> Iterator[int]:
    """Yield the limits of memory, in bytes, that Linux sets to this process by a container or a job of a cluster.

    Args:
      groups: the file that names the groups of the process, a line "number:controllers:/path" for each hierarchy.
      root: the folder where they are mounted.
    """
    try:
        lines = groups.read_text(encoding="utf-8").splitlines()
    except OSError:  # Not Linux.
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            # Each group is held to the limits of those around it, too. In a container the path may be the host's.
            top, file = (root, "memory.max") if not controllers else (root / "memory", "memory.limit_in_bytes")
            for group in (Path(path), *Path(path).parents):
                try:
                    yield int((top / group.relative_to("/") / file).read_text())
                except (OSError, ValueError):  # There is no such file, or it says "max".
                    continue


def warn_if_too_little() -> None:
    """Log a warning if the host lets a process have so little that the system may kill it before the first step."""
    limits = list(_host_limits())
    if limits and min(limits) < SMALLEST_RUN:
        log.warning(
            "memory: this process can have %s, and even small runs take %s: if it is killed, free memory or raise the "
            "limit, and the same command goes on",
            *(format_bytes(min(limits)), format_bytes(SMALLEST_RUN)),
        )


def warn_if_too_large(phase: str, needed: int | None) -> None:
    """Log a warning if a training step needs more memory than a device has."""
    available = count_device_bytes()
    if needed and available and needed > available:
        log.warning(
            "%s: a step needs about %s of memory and each device has %s: reduce batch_size, increase "
            "gradient_accumulation or set model.dtype=bfloat16",
            *(phase, format_bytes(needed), format_bytes(available)),
        )


def largest_batch(count_bytes: Callable[[int], int | None], batch_size: int, unit: int) -> int | None:
    """Return the largest batch that fits into the memory of a device, 0 if none does; None if unknown.

    Memory grows linearly with the batch: two sizes that are compiled tell of all others, and the answer is compiled to
    be sure.

    Args:
      count_bytes: batch size -> bytes that the compiled step needs; None if unknown.
      batch_size: the size that is too large.
      unit: batches are multiples of it.
    """
    available = count_device_bytes()
    half = max(unit, batch_size // 2 // unit * unit)
    if not available or half >= batch_size:
        return None
    small, large = count_bytes(half), count_bytes(batch_size)
    if not small or not large or large <= small:
        return None
    each = (large - small) / (batch_size - half)
    size = int((available - (small - each * half)) / each) // unit * unit
    size = max(0, min(size, batch_size - unit))
    # Some convolutions are computed in another way at another size.
    while size and (count_bytes(size) or 0) > available:
        size = size * 3 // 4 // unit * unit
    return size


def format_bytes(count: float) -> str:
    """Return "1.5 GiB"."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
