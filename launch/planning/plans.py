"""Plan the trainings of a config on slices of TPUs or on GPUs: memory, time and cost."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict
from planning import compiler, estimate, steps
from planning.chips import Chip, Slice
from planning.estimate import Program
from planning.steps import Images, Phase

from jaxssl.errors import UserError


def make_plan(phase: Phase, place: Slice, batch_size: int, program: Program) -> dict[str, Any]:
    """Return the numbers of one training on one slice, as `--json` writes them."""
    plan = {
        "phase": phase.name,
        "topology": place.name,
        "chips": place.chips,
        "batch_size": batch_size,
        "memory_bytes": program.memory,
        "memory_of_chip": place.chip.memory,
        "fits": program.fits,
    }
    if not program.fits:
        return plan
    e = estimate.estimate_step(program, place)
    images_per_second = batch_size / e.step
    return plan | {
        "flops": program.flops,
        "bytes": program.bytes,
        "collectives": [c._asdict() for c in program.collectives],
        "seconds": e._asdict(),
        "utilisation": e.utilisation,
        "images_per_second": images_per_second,
        "chip_hours": phase.seen / images_per_second * place.chips / 3600,
        "kernels_by": "cycles" if program.cycles else "bytes",
        "kernels": [{"from": name, "share": share} for name, share in kernel_shares(program)],
    }


def kernel_shares(program: Program, top: int = 8) -> list[tuple[str, float]]:
    """Return the `top` operations of a program and their shares of its estimated cycles, or bytes, largest first."""
    costs: Counter[str] = Counter()
    for kernel in program.kernels:
        cost = kernel.cycles if program.cycles else kernel.bytes
        costs[operation_name(kernel.name)] += cost * kernel.count
    return [(name, of / max(1, costs.total())) for name, of in costs.most_common(top)]


def operation_name(name: str) -> str:
    """Return a kernel's name without layer numbers, as "backward of ResNet/layer/conv/conv_general_dilated"."""
    backward = "backward of " * ("/transpose(" in name)
    name = re.sub(r"jit\(step\)/|\w+\(|\)|closed_call/|cond/branch_\d+_fun/", "", name)
    return backward + re.sub(r"[_.]?\d+|/(?=/)", "", name).strip("/")


def largest_batch(phase: Phase, mesh: Mesh, chip: Chip, plan: dict[str, Any]) -> int:
    """Return the largest batch that fits, to within an eighth; 0 if none fits."""
    known, unit = {plan["batch_size"]: plan["fits"]}, mesh.size * phase.c.gradient_accumulation

    def fits(batch_size: int) -> bool:
        if batch_size not in known:
            known[batch_size] = compiler.compile_step(phase, batch_size, mesh, chip).fits
        return known[batch_size]

    # First guess: the state's memory is constant, the rest is proportional to the batch.
    _, state, _ = phase.make_step(plan["batch_size"], mesh)
    parts = ((a.sharding.shard_shape(a.shape), a.dtype) for a in jax.tree.leaves(state) if a.dtype != state.key.dtype)
    constant = sum(math.prod(shape) * dtype.itemsize for shape, dtype in parts)
    per_image = (plan["memory_bytes"] - constant) / plan["batch_size"]
    start = int((0.95 * plan["memory_of_chip"] - constant) / per_image) // unit * unit
    return estimate.search_largest(fits, max(unit, start), unit)


def plan_slice(config: ConfigDict, known: Images, place: Slice, search: bool) -> Iterator[dict[str, Any]]:
    """Yield the plan of each training of a config on one slice; with `search`, find the largest batch too."""
    mesh = compiler.make_mesh(config, place)
    for phase in steps.phases(config, known):
        program = compiler.compile_step(phase, phase.c.batch_size, mesh, place.chip)
        plan = make_plan(phase, place, phase.c.batch_size, program)
        yield plan | {"largest_batch": largest_batch(phase, mesh, place.chip, plan)} if search else plan


def plan_sweep(config: ConfigDict, known: Images, places: list[Slice], once: bool) -> list[dict[str, Any]]:
    """Plan the first training of a config on several slices, with as many images per chip as on the first of them.

    With `once` the program of the first slice serves for all: each chip does the same, only the messages take another
    time. A program compiled for another number of chips may combine its messages a little differently.
    """
    phase, mesh = steps.phases(config, known)[0], compiler.make_mesh(config, places[0])
    first = compiler.compile_step(phase, phase.c.batch_size, mesh, places[0].chip)
    if once and (mesh.size < places[0].chips or any(c.group not in (2, mesh.size) for c in first.collectives)):
        raise UserError(
            "--once needs a mesh of all chips: set mesh.data=-1 and mesh.fsdp=1", code="conflict", field="--once"
        )
    per_chip = phase.c.batch_size // mesh.size
    plans = [make_plan(phase, places[0], phase.c.batch_size, first)]
    for place in places[1:]:
        if once:
            wider = tuple(c._replace(group=place.chips) if c.group == mesh.size else c for c in first.collectives)
            plans.append(make_plan(phase, place, per_chip * place.chips, first._replace(collectives=wider)))
        else:
            mesh = compiler.make_mesh(config, place)
            batch_size = per_chip * mesh.size
            program = compiler.compile_step(phase, batch_size, mesh, place.chip)
            plans.append(make_plan(phase, place, batch_size, program))
    return plans
