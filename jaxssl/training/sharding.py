"""Where arrays live: one mesh with the axes "data" and "fsdp", the batch over both, large parameters over "fsdp"."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxssl.errors import UserError

Tree = Any
SMALLEST_SHARDED = 2**16  # Elements; below this, gathering a parameter costs more than holding it everywhere.


def make_mesh(data: int, fsdp: int, among: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh ("data", "fsdp") over the first data x fsdp devices; `data` -1 takes all. UserError if there are fewer.

    `among` are devices to be planned for; without it, those that are here.
    """
    among = jax.devices() if among is None else among
    devices = len(among)
    data = devices // fsdp if data == -1 else data
    if not 0 < data * fsdp <= devices or (jax.process_count() > 1 and data * fsdp < devices):
        raise UserError(f"mesh.data={data} and mesh.fsdp={fsdp} do not fit the {devices} devices here")
    axes = (AxisType.Auto, AxisType.Auto)
    mesh = jax.make_mesh((data, fsdp), ("data", "fsdp"), axis_types=axes, devices=among[: data * fsdp])
    if jax.process_count() > 1:
        warm_up_collectives(mesh)
    return mesh


def warm_up_collectives(mesh: Mesh) -> None:
    """Lets the devices of all processes meet along each axis, while the processes are still at the same point.

    On CPUs they wait half a minute for one another the first time, and as long as it takes ever after: compiling the
    first step may well take one process longer than another.
    """

    def sums(x: jax.Array) -> tuple[jax.Array, ...]:
        return x.sum(), x.sum(0), x.sum(1)

    places = tuple(NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("fsdp",), ("data",)))
    x = jax.make_array_from_callback(
        mesh.devices.shape, NamedSharding(mesh, PartitionSpec("data", "fsdp")), lambda _: np.ones((1, 1), np.float32)
    )
    jax.block_until_ready(jax.jit(sums, out_shardings=places)(x))
    multihost_utils.sync_global_devices("jaxssl")  # Along the processes, as JAX and orbax do it.


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def of_batch(mesh: Mesh) -> NamedSharding:
    """Examples over all devices."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def of_state(mesh: Mesh, shapes: Tree) -> Tree:
    """For each array of a state: over "fsdp" along its longest axis that divides, if it is large; else everywhere."""
    parts = mesh.shape["fsdp"]

    def spec(array: jax.ShapeDtypeStruct) -> NamedSharding:
        axes = [axis for axis in np.argsort(array.shape)[::-1] if array.shape[axis] % parts == 0]
        if parts == 1 or array.size < SMALLEST_SHARDED or not axes:
            return replicated(mesh)
        return NamedSharding(mesh, PartitionSpec(*["fsdp" if axis == axes[0] else None for axis in range(array.ndim)]))

    return jax.tree.map(spec, shapes)


def check_batch(field: str, batch_size: int, mesh: Mesh) -> None:
    """UserError unless each device gets the same number of images."""
    devices = mesh.size
    if batch_size % devices:
        mend = max(1, batch_size // devices) * devices
        raise UserError(f"{field}={batch_size} does not divide among {devices} devices; {mend} would")
