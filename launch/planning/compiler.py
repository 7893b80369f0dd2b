"""Compile a training step for TPUs or GPUs on a machine without any; needs libtpu or JAX's plugin for CUDA."""

import importlib.util
import os
import re
from collections.abc import Sequence

import jax
from jax.experimental import topologies
from jax.sharding import Mesh
from ml_collections import ConfigDict
from planning import hlo
from planning.chips import Chip, Slice
from planning.estimate import Program
from planning.steps import Phase

from jaxssl.errors import UserError
from jaxssl.training import sharding
from jaxssl.training.memory import count_step_bytes

SUFFIX = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

# Algorithms of cuDNN and tilings are chosen by trial, for which there is no GPU. Untried tiles of Triton do not fit
# some products, which is an error.
UNTUNED = {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}


def make_mesh(config: ConfigDict, place: Slice) -> Mesh:
    """Return the config's mesh over the chips of a slice.

    Raises:
      UserError: the compiler is not installed, or it knows no such slice, or the mesh does not fit.
    """
    try:
        devices = (gpu_devices if place.chip.target else tpu_devices)(place)
    except jax.errors.JaxRuntimeError as error:
        raise UserError(
            f"topology {place.name!r} cannot be built: {' '.join(str(error).split())}",
            code="unsupported",
            field="topology",
        ) from error
    return sharding.make_mesh(config.mesh.data, config.mesh.fsdp, devices)


def require(module: str, what: str, install: str) -> None:
    """Raise a UserError unless a compiler is installed."""
    if importlib.util.find_spec(module) is None:
        raise UserError(f"{module}, {what}, is not installed: {install}", code="missing", field=module)


def gpu_devices(place: Slice) -> Sequence[jax.Device]:
    """Return the GPUs of one machine. The two wheels hold the compiler; no library of NVIDIA is needed."""
    version = jax.__version__
    wheels = f"pip install jax-cuda13-plugin=={version} jax-cuda13-pjrt=={version}"
    require("jax_cuda13_plugin", "the compiler for GPUs", wheels)
    options = {"topology": f"1x1x{place.chips}", "target_config": place.chip.target}
    return topologies.get_topology_desc("", "cuda", **options).devices


def tpu_devices(place: Slice) -> Sequence[jax.Device]:
    """Return the chips of a slice."""
    require("libtpu", "the compiler for TPUs", "pip install 'jaxssl[tpu]'")
    # Without the first three, libtpu searches for the other hosts of a TPU and prints that it finds none. The last:
    # nothing runs on a TPU, so another process may use one.
    os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}
    os.environ |= {"TPU_ACCELERATOR_TYPE": "v5litepod-4", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    cores = {"chip_config_name": place.chip.cores} if place.chip.cores else {}
    return topologies.get_topology_desc(place.name, "tpu", **cores).devices


def compile_step(phase: Phase, batch_size: int, mesh: Mesh, chip: Chip) -> Program:
    """Compile the training step of a batch size. Raises UserError if the batch does not divide among the devices."""
    sharding.check_batch_size(f"{phase.name}.batch_size", batch_size, mesh)
    step, state, batch = phase.make_step(batch_size, mesh)
    options = UNTUNED if chip.target else None
    try:
        compiled = step.lower(state, batch).compile(options)
    except jax.errors.JaxRuntimeError as error:
        return Program(required_memory(str(error)), fits=False)
    memory = count_step_bytes(compiled) + compiled.memory_analysis().generated_code_size_in_bytes
    # The compiler for GPUs says neither the FLOPs nor that memory is too small.
    flops = count_flops(phase, batch_size) / mesh.size if chip.target else compiled.cost_analysis()["flops"]
    # One round of a loop is counted; gradient accumulation is the only loop here.
    flops *= phase.c.gradient_accumulation
    text = compiled.as_text()
    return Program(memory, memory <= chip.memory, flops, hlo.kernels(text), hlo.collectives(text))


def count_flops(phase: Phase, batch_size: int) -> float:
    """Return the FLOPs of a step as it is before a compiler for GPUs transforms it."""
    step, state, batch = phase.make_step(batch_size, sharding.make_mesh(1, 1))
    return step.trace(state, batch).lower(lowering_platforms=("cuda",)).cost_analysis()["flops"]


def required_memory(error: str) -> float:
    """Return the bytes that a program needs, from the compiler's out-of-memory error; raise UserError for others."""
    match = re.search(r"(?:Used |temporaries \()([\d.]+)([KMGT])", error)
    if "RESOURCE_EXHAUSTED" not in error or not match:
        raise UserError(f"the training step does not compile: {' '.join(error.split())[:500]}", code="unsupported")
    return float(match[1]) * SUFFIX[match[2]]
