"""Which accelerators the cells of a sweep get. JAX is not asked: it would take their memory in this process."""

import glob
import importlib.util
import math
import os
import subprocess
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

from jaxssl.errors import UserError

CORES_PER_CELL = 4  # More cores hardly make a cell faster.
CUDA_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")
TPU_FILES = ("/dev/accel*", "/dev/vfio/[0-9]*")
MEMORY_SHARE = 0.9  # Of a GPU, for the cells that share it.


class Devices(NamedTuple):
    """The accelerators of this machine that JAX would use: `ids` of GPUs as in CUDA_VISIBLE_DEVICES."""

    kind: Literal["cpu", "gpu", "tpu"]
    ids: tuple[str, ...] = ()


def find_devices(environ: Mapping[str, str]) -> Devices:
    """Return the accelerators of this machine."""
    platforms = environ.get("JAX_PLATFORMS", "").split(",")
    allowed = platforms == [""] or bool({"cuda", "gpu", "tpu"} & set(platforms))
    if allowed and importlib.util.find_spec("libtpu") and any(glob.glob(pattern) for pattern in TPU_FILES):
        return Devices("tpu")
    gpus = find_gpus(environ) if allowed and any(map(importlib.util.find_spec, CUDA_PLUGINS)) else ()
    return Devices("gpu", gpus) if gpus else Devices("cpu")


def find_gpus(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the ids of the NVIDIA GPUs that are visible to this process."""
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        ids = [part.strip() for part in visible.split(",")]
        # CUDA ignores what follows an invalid id.
        end = next((i for i, name in enumerate(ids) if name in ("", "-1")), len(ids))
        return tuple(ids[:end])
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return ()
    return tuple(str(i) for i, line in enumerate(line for line in listed.splitlines() if line.startswith("GPU ")))


def default_jobs(devices: Devices) -> int:
    """Return how many cells run at a time by default: one on each GPU, one on all TPU chips, one per some cores."""
    if devices.kind != "cpu":
        return len(devices.ids) or 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // CORES_PER_CELL)


def check_jobs(jobs: int, devices: Devices) -> None:
    """Raise UserError if so many cells cannot run at a time."""
    if jobs < 1:
        raise UserError(f"--jobs={jobs}: set it to 1 or more", code="out-of-range", field="--jobs")
    if devices.kind == "tpu" and jobs > 1:
        raise UserError(
            f"--jobs={jobs}: one process takes all TPU chips of a machine: set it to 1", code="conflict", field="--jobs"
        )


def free_slot(jobs: int, taken: Collection[int]) -> int:
    """Return the number of the first of `jobs` slots that no running cell has taken."""
    return next(slot for slot in range(jobs) if slot not in taken)


def environment(devices: Devices, jobs: int, slot: int, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that give a cell its GPUs and its share of their memory.

    Args:
      devices: of this machine.
      jobs: cells at a time. With fewer cells than GPUs, each gets several; with more, some share one.
      slot: which of them this is, from 0.
      environ: of this process; what is set there stays.
    """
    if devices.kind != "gpu":
        return {}
    ids: Sequence[str] = devices.ids
    if jobs <= len(ids):
        each = len(ids) // jobs
        return {"CUDA_VISIBLE_DEVICES": ",".join(ids[slot * each : (slot + 1) * each])}
    sharing = math.ceil(jobs / len(ids))
    share = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{MEMORY_SHARE / sharing:.2f}"}
    return {"CUDA_VISIBLE_DEVICES": ids[slot % len(ids)]} | {k: v for k, v in share.items() if k not in environ}
