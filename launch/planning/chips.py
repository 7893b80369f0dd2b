"""Public figures of TPU chips and GPUs, and slices or machines of them."""

import math
import re
from typing import NamedTuple

from jaxssl.errors import UserError, did_you_mean

GIB = 2**30


class Chip(NamedTuple):
    """Public figures of a chip.

    Attributes:
      flops: peak bfloat16 FLOP/s.
      memory: bytes of HBM that a program can have.
      bandwidth: bytes/s of HBM.
      clock: cycles/s, computed as `flops` over the operations of its matrix units; nan if their number is not clear.
      link: bytes/s of one link to a neighbour, in one direction; of GPUs, half of what goes to the switch.
      axes: of the mesh of links; a chip has two links along each axis.
      ring: an axis whose length is a multiple of this is closed to a ring; on others, the end chips have one link.
      pod: the largest number of chips that links join.
      cores: option that makes the compiler treat both cores of a chip as one device; "" for chips with one core.
      source: of these figures.
      target: the compiler's description of a GPU; "" for TPUs.
    """

    flops: float
    memory: float
    bandwidth: float
    clock: float
    link: float
    axes: int
    ring: int
    pod: int
    cores: str
    source: str
    target: str = ""


# JAX takes this share of a GPU's memory, unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise.
PREALLOCATED = 0.75
# The same for compute capabilities 8.0 and 9.0 (CUDA C++ Programming Guide); the versions are those of the compiler.
GPU_LIMITS = """
threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048 shared_memory_per_block: 49152
registers_per_core_limit: 65536 registers_per_block_limit: 65536 block_dim_limit_x: 2147483647
block_dim_limit_y: 65535 block_dim_limit_z: 65535 thread_dim_limit_x: 1024 thread_dim_limit_y: 1024
thread_dim_limit_z: 64 dnn_version: "9.12.0" runtime_version: "13.0.0" compile_time_toolkit_version: "13.0.0"
driver_version: "13.0.0"
"""


def make_gpu(
    source: str,
    *,
    flops: float,
    gib: int,
    bandwidth: float,
    nvlink: float,
    capability: int,
    processors: int,
    units: int,
    clock: float,
    shared_kib: int,
    cache_mib: int,
) -> Chip:
    """Return an NVIDIA GPU in SXM form, of which a machine has up to eight, all joined by NVSwitch.

    Args:
      source: of the figures.
      flops: peak bfloat16 FLOP/s, dense.
      gib: GiB of HBM.
      bandwidth: bytes/s of HBM.
      nvlink: bytes/s to and from the switch together.
      capability: major compute capability; the minor one is 0.
      processors: number of streaming multiprocessors.
      units: float32 units of each.
      clock: in GHz.
      shared_kib: KiB of shared memory of each; a block can have all but one.
      cache_mib: MiB of L2 cache.
    """
    feature = "ACCELERATED_FEATURES" if capability >= 9 else "NONE"
    info = f"""
    cuda_compute_capability {{ major: {capability} feature_extension: {feature} }}
    core_count: {processors} fpus_per_core: {units} clock_rate_ghz: {clock}
    shared_memory_per_core: {shared_kib << 10} shared_memory_per_block_optin: {(shared_kib - 1) << 10}
    l2_cache_size: {cache_mib << 20} device_memory_size: {gib << 30} memory_bandwidth: {int(bandwidth)}"""
    target = (
        f'gpu_device_info {{ {info} {GPU_LIMITS} }} platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 12 }}'
    )
    memory = PREALLOCATED * gib * GIB
    return Chip(flops, memory, bandwidth, math.nan, nvlink / 4, 1, 1, 8, "", source, target)


NVIDIA = "https://www.nvidia.com/en-us/data-center/"
AMPERE = dict(flops=312e12, capability=8, processors=108, units=64, clock=1.41, shared_kib=164, cache_mib=40)
HOPPER = dict(flops=989e12, capability=9, processors=132, units=128, clock=1.98, shared_kib=228, cache_mib=50)
DOCS = "https://docs.cloud.google.com/tpu/docs/"
# Links: all-reduce bandwidth of a pod divided by its chips and their links; for v5p, the chip's bandwidth by its links.
CHIPS = {
    "v4": Chip(275e12, 32 * GIB, 1200e9, 1.05e9, 45e9, 3, 4, 4096, "megacore", DOCS + "v4"),
    "v5e": Chip(197e12, 16 * GIB, 819e9, 1.5e9, 50e9, 2, 16, 256, "", DOCS + "v5e"),
    "v5p": Chip(459e12, 95 * GIB, 2765e9, 1.75e9, 100e9, 3, 4, 8960, "megacore", DOCS + "v5p"),
    "v6e": Chip(918e12, 32 * GIB, 1638e9, math.nan, 100e9, 2, 16, 256, "", DOCS + "v6e"),
    "a100": make_gpu(NVIDIA + "a100", gib=80, bandwidth=2039e9, nvlink=600e9, **AMPERE),
    "h100": make_gpu(NVIDIA + "h100", gib=80, bandwidth=3350e9, nvlink=900e9, **HOPPER),
    "h200": make_gpu(NVIDIA + "h200", gib=141, bandwidth=4800e9, nvlink=900e9, **HOPPER),
}


class Slice(NamedTuple):
    """Chips joined by links, such as "v5e:4x4" or "h100:8"."""

    name: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def chips(self) -> int:
        return math.prod(self.shape)


def parse_topology(name: str) -> Slice:
    """Parse "v5e:4x4" or "h100:8". Raises UserError unless the chip is in `CHIPS` and slices can have these sides."""
    kind, _, sides = name.partition(":")
    if kind not in CHIPS:
        raise UserError(
            f"topology {name!r}: {kind!r} is not a known chip: {did_you_mean(kind, CHIPS)}use {', '.join(CHIPS)}",
            code="unknown-name",
            field="topology",
        )
    chip = CHIPS[kind]
    shape = tuple(map(int, re.findall(r"\d+", sides)))
    if not re.fullmatch(r"\d+(x\d+)*", sides) or len(shape) != chip.axes or 0 in shape:
        example = "x".join(["4"] * chip.axes)
        needs = f"{chip.axes} sides" if chip.axes > 1 else "a number"
        raise UserError(
            f"topology {name!r} needs {needs}, such as {kind}:{example}",
            code="out-of-range",
            field="topology",
        )
    if math.prod(shape) > chip.pod:
        raise UserError(
            f"topology {name!r} has {math.prod(shape)} chips; at most {chip.pod} of {kind} are linked",
            code="out-of-range",
            field="topology",
        )
    return Slice(name, chip, shape)
