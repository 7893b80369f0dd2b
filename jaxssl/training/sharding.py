"""Shardings on a mesh with the axes "data" and "fsdp": the batch over both, large parameters over "fsdp"."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxssl.errors import UserError

Tree = Any
MIN_SHARDED_SIZE = 2**16  # Elements; to gather a smaller parameter costs more than to replicate it.


def make_mesh(data: int, fsdp: int, devices: Sequence[Any] | None = None) -> Mesh:
    """Return a mesh ("data", "fsdp") over the first data * fsdp devices.

    Args:
      data: size of the axis "data"; -1: as many devices as there are.
      fsdp: size of the axis "fsdp".
      devices: those to use, such as the ones of a compile-only topology; None: all devices of this run.

    Raises:
      UserError: there are fewer devices, or several processes would leave some unused.
    """
    devices = jax.devices() if devices is None else devices
    count = len(devices)
    data = count // fsdp if data == -1 else data
    if not 0 < data * fsdp <= count or (jax.process_count() > 1 and data * fsdp < count):
        raise UserError(
            f"mesh.data={data} and mesh.fsdp={fsdp} do not fit the {count} devices: set mesh.data=-1, or both so that "
            f"their product is {count}",
            code="mismatch",
            field="mesh.data",
        )
    axes = (AxisType.Auto, AxisType.Auto)
    mesh = jax.make_mesh((data, fsdp), ("data", "fsdp"), axis_types=axes, devices=devices[: data * fsdp])
    if jax.process_count() > 1:
        warm_up_collectives(mesh)
    return mesh


def warm_up_collectives(mesh: Mesh) -> None:
    """Run one collective along each axis while the processes are still at the same point.

    On CPUs the first collective times out after half a minute, later ones do not: compiling the first step may take
    one process longer than another.
    """

    def sums(x: jax.Array) -> tuple[jax.Array, ...]:
        return x.sum(), x.sum(0), x.sum(1)

    outputs = tuple(NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("fsdp",), ("data",)))
    x = jax.make_array_from_callback(
        mesh.devices.shape, NamedSharding(mesh, PartitionSpec("data", "fsdp")), lambda _: np.ones((1, 1), np.float32)
    )
    jax.block_until_ready(jax.jit(sums, out_shardings=outputs)(x))
    multihost_utils.sync_global_devices("jaxssl")  # Over the processes, as JAX and orbax do it.


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding of a batch: its first axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def state_shardings(mesh: Mesh, shapes: Tree) -> Tree:
    """Return a sharding per array: large ones over "fsdp" along their longest divisible axis, others replicated."""
    parts = mesh.shape["fsdp"]

    def spec(array: jax.ShapeDtypeStruct) -> NamedSharding:
        axes = [axis for axis in np.argsort(array.shape)[::-1] if array.shape[axis] % parts == 0]
        if parts == 1 or array.size < MIN_SHARDED_SIZE or not axes:
            return replicated(mesh)
        return NamedSharding(mesh, PartitionSpec(*["fsdp" if axis == axes[0] else None for axis in range(array.ndim)]))

    return jax.tree.map(spec, shapes)


def check_batch_size(field: str, batch_size: int, mesh: Mesh) -> None:
    """Raise UserError unless each device gets the same number of images."""
    devices = mesh.size
    if batch_size % devices:
        nearest = max(1, batch_size // devices) * devices
        raise UserError(
            f"{field}={batch_size} is not divisible by the {devices} devices: set it to {nearest}",
            code="mismatch",
            field=field,
        )
