"""Compile a training step for TPUs on a machine without any; needs libtpu."""

import importlib.util
import os
import re

import jax
from jax.experimental import topologies
from jax.sharding import Mesh
from ml_collections import ConfigDict
from planning import hlo
from planning.chips import Slice
from planning.estimate import Program
from planning.steps import Phase

from jaxssl.errors import UserError
from jaxssl.training import sharding

SUFFIX = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def make_mesh(config: ConfigDict, place: Slice) -> Mesh:
    """Return the config's mesh over the chips of a slice.

    Raises:
      UserError: libtpu is not installed, or it knows no such slice, or the mesh does not fit.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "libtpu, the compiler for TPUs, is not installed: pip install 'jaxssl[tpu]'", code="missing", field="libtpu"
        )
    # Without the first three, libtpu searches for the other hosts of a TPU and prints that it finds none. The last:
    # nothing runs on a TPU, so another process may use one.
    os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}
    os.environ |= {"TPU_ACCELERATOR_TYPE": "v5litepod-4", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    cores = {"chip_config_name": place.chip.cores} if place.chip.cores else {}
    try:
        devices = topologies.get_topology_desc(place.name, "tpu", **cores).devices
    except jax.errors.JaxRuntimeError as error:
        raise UserError(
            f"topology {place.name!r} cannot be built: {' '.join(str(error).split())}",
            code="unsupported",
            field="topology",
        ) from error
    return sharding.make_mesh(config.mesh.data, config.mesh.fsdp, devices)


def compile_step(phase: Phase, batch_size: int, mesh: Mesh) -> Program:
    """Compile the training step of a batch size. Raises UserError if the batch does not divide among the devices."""
    sharding.check_batch_size(f"{phase.name}.batch_size", batch_size, mesh)
    step, state, batch = phase.make_step(batch_size, mesh)
    try:
        compiled = step.lower(state, batch).compile()
    except jax.errors.JaxRuntimeError as error:
        return Program(required_memory(str(error)), fits=False)
    m = compiled.memory_analysis()
    memory = m.argument_size_in_bytes + m.output_size_in_bytes - m.alias_size_in_bytes
    memory += m.temp_size_in_bytes + m.generated_code_size_in_bytes
    # cost_analysis counts one round of a loop; gradient accumulation is the only loop here.
    flops = compiled.cost_analysis()["flops"] * phase.c.gradient_accumulation
    text = compiled.as_text()
    return Program(memory, True, flops, hlo.kernels(text), hlo.collectives(text))


def required_memory(error: str) -> float:
    """Return the bytes that a program needs, from the compiler's out-of-memory error; raise UserError for others."""
    match = re.search(r"(?:Used |temporaries \()([\d.]+)([KMGT])", error)
    if "RESOURCE_EXHAUSTED" not in error or not match:
        raise UserError(f"the training step does not compile: {' '.join(error.split())[:500]}", code="unsupported")
    return float(match[1]) * SUFFIX[match[2]]
