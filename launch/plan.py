"""What a run on TPUs takes and costs, found by compiling its real training steps for them, on a machine without any.

    python launch/plan.py --config=configs/byol_ham.py --topology=v5e:4x4
    python launch/plan.py --config=configs/byol_ham.py --sweep=v5e:2x2,v5e:4x4,v5e:8x8,v5e:16x16 --to=scaling.svg

It needs the extra `tpu`, which holds the compiler, and no images: their number is known of most datasets, and given by
`--images` of others. `--topology` compiles pretraining and fine-tuning, says whether they fit, and searches the largest
batch that does, which compiles a few times more (`--nolargest` does not). `--sweep` compiles the first of them for each
topology with the batch a chip held: weak scaling. A ResNet-50 in BYOL takes the compiler some ten minutes of a core;
`--once` compiles for the first slice alone, and recounts what its messages take on the others.

The time of a step is the longest of three, FLOPs at the chip's peak, bytes at the bandwidth of its memory, and what the
compiler expects of its kernels, and then that of all messages among chips. None of it is measured on a TPU. Exit codes:
0 planned, whether it fits or not; 2 the user's to mend.
"""

import importlib.util
import inspect
import io
import math
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from jax.experimental import topologies
from jax.sharding import Mesh
from matplotlib.figure import Figure
from ml_collections import ConfigDict, config_flags
from planning import tpu
from rich import box
from rich.console import Console
from rich.table import Table

from jaxssl import data, files
from jaxssl import main as command_line
from jaxssl.augment import views
from jaxssl.config import fields as configuration
from jaxssl.data.datasets import lenses
from jaxssl.errors import UserError, print_error
from jaxssl.objectives import Objective, with_online_probe
from jaxssl.run import setup
from jaxssl.training import loop, optimizers, sharding

Tree = Any
SUFFIX = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
LEFT_OUT = (
    "reading images on the hosts, and their way to the chips",
    "compilation, initialisation, checkpoints, evaluation and report",
    "how far kernels stay behind what the compiler expects, and how far messages hide behind them",
    "networks between slices, waiting for one, preemption and what is done again after it",
)
LEGEND = """Weak scaling: as many images a chip on each slice. GiB: memory a chip. ms: a step, of which
messages take what stands under sent. peak: utilisation. kept: images a second and chip,
against the first slice. hours: of all chips together, for the images that the config sees."""


# What is trained.


class Images(NamedTuple):
    """What is known of images that nobody has read."""

    count: int
    channels: int
    classes: int
    dtype: str


def known_images(d: ConfigDict, count: int, channels: int) -> Images:
    """Number and kind of the images of `config.data`; what is 0 is looked up. UserError where that is in vain."""
    dataset = getattr(data.find_module(d.name), "DATASET", None)
    if dataset:
        known = Images(dataset.images, 3, len(dataset.classes), dataset.dtype)
    elif d.name == "lenses":
        per_class = inspect.signature(lenses.load).parameters["images_per_class"].default
        known = Images(
            len(lenses.CLASSES) * d.options.get("images_per_class", per_class), 1, len(lenses.CLASSES), "float32"
        )
    else:
        known = Images(0, 3, 2, "uint8")
    if not (count or known.count):
        raise UserError(f"--images is missing: how many data.name={d.name!r} has is not known before they are read")
    return known._replace(count=count or known.count, channels=channels or known.channels)


class Phase(NamedTuple):
    """A training of the config.

    Attributes:
      name: "pretrain" or "transfer".
      c: its part of the config.
      seen: images that it sees in all, those of each epoch and of each of the encoders it is done with.
      step: (batch size, mesh) -> the jitted step, the shapes of its state and of its batch.
    """

    name: str
    c: ConfigDict
    seen: int
    step: Callable[[int, Mesh], tuple[Callable, Tree, Tree]]


def phases(config: ConfigDict, known: Images) -> list[Phase]:
    """Pretraining and fine-tuning, as far as the config has them, as `jaxssl.run.experiment` would do them."""
    d, encoder = config.data, setup.make_encoder(config)
    rows = {"pretrain": int(known.count * (1 - d.validation - (1 / d.folds if d.folds else d.test)))}
    rows["transfer"] = int(rows["pretrain"] * d.label_fraction)
    if d.labels_per_class:
        rows["transfer"] = min(rows["transfer"], d.labels_per_class * known.classes)
    encoders = {"pretrain": 1, "transfer": 1 + bool(config.pretrain.epochs) + bool(config.init.weights)}
    found = []
    for name in configuration.trainings(config):
        c = config[name]
        per_epoch = configuration.steps_per_epoch(rows[name], c, name)
        steps = c.epochs * per_epoch
        if name == "pretrain":
            objective = setup.make_objective(config, encoder, known.classes, steps)
            objective = with_online_probe(objective, known.classes)
        else:
            objective = setup.make_classifier(config, encoder, known.classes)
        seen = steps * c.batch_size * encoders[name]
        found.append(Phase(name, c, seen, stepper(config, c, objective, per_epoch, known)))
    return found


def stepper(
    config: ConfigDict, c: ConfigDict, objective: Objective, per_epoch: int, known: Images
) -> Callable[[int, Mesh], tuple[Callable, Tree, Tree]]:
    """`Phase.step` of an objective; nothing is computed, shapes alone go through."""
    d = config.data
    side = d.stored_size or d.image_size
    # Any numbers do, but for the 0 of 8 bits, which nothing need be done about.
    low, each = 0.0 if known.dtype == "uint8" else 0.1, (0.5,) * known.channels
    pixels = views.Pixels(low, 255.0, each, each, d.asinh)
    view = views.make(pixels, size=d.image_size, views=objective.views, **c.augment)

    def batch_of(size: int, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
        kinds = {"image": ((side, side, known.channels), known.dtype), "label": ((), "int32"), "index": ((), "int32")}
        kinds |= {"mask": ((), "bool")}
        where = sharding.of_batch(mesh)
        return {k: jax.ShapeDtypeStruct((size, *s), np.dtype(t), sharding=where) for k, (s, t) in kinds.items()}

    def step(batch_size: int, mesh: Mesh) -> tuple[Callable, Tree, Tree]:
        tx = optimizers.make(**configuration.optimizer_options(c.optimizer, c.epochs, per_epoch, batch_size))

        def init(batch: dict) -> loop.TrainState:
            return loop.init_state(jax.random.key(config.seed), batch, objective, view, tx)

        shapes = jax.eval_shape(init, batch_of(mesh.size, mesh))
        places = sharding.of_state(mesh, shapes)
        state = jax.tree.map(lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes, places)
        return (
            loop.jit_step(mesh, shapes, objective, view, tx, c.gradient_accumulation),
            state,
            batch_of(batch_size, mesh),
        )

    return step


# What the compiler makes of it.


def mesh_of(config: ConfigDict, place: tpu.Slice) -> Mesh:
    """The config's mesh over the chips of a slice. UserError where there is no compiler, or no such slice or mesh."""
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("libtpu, which compiles for TPUs, is not installed: pip install 'jaxssl[tpu]'")
    # Without the first three it looks for the other hosts of a TPU, and says at length that it finds none. It holds no
    # TPU that another process might want.
    os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}
    os.environ |= {"TPU_ACCELERATOR_TYPE": "v5litepod-4", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    cores = {"chip_config_name": place.chip.cores} if place.chip.cores else {}
    try:
        devices = topologies.get_topology_desc(place.name, "tpu", **cores).devices
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"the topology {place.name!r} cannot be built: {' '.join(str(error).split())}") from error
    return sharding.make_mesh(config.mesh.data, config.mesh.fsdp, devices)


def compile_step(phase: Phase, batch_size: int, mesh: Mesh) -> tpu.Program:
    """The training step of these many images, as the compiler has it. UserError where they do not divide."""
    sharding.check_batch(f"{phase.name}.batch_size", batch_size, mesh)
    step, state, batch = phase.step(batch_size, mesh)
    try:
        compiled = step.lower(state, batch).compile()
    except jax.errors.JaxRuntimeError as error:
        return tpu.Program(too_much(str(error)), fits=False)
    m = compiled.memory_analysis()
    memory = m.argument_size_in_bytes + m.output_size_in_bytes - m.alias_size_in_bytes
    memory += m.temp_size_in_bytes + m.generated_code_size_in_bytes
    # It counts one round of a loop, and the parts of a batch are all that loops here.
    flops = compiled.cost_analysis()["flops"] * phase.c.gradient_accumulation
    text = compiled.as_text()
    return tpu.Program(memory, True, flops, tpu.kernels(text), tpu.collectives(text))


def too_much(error: str) -> float:
    """Bytes that a program asks for, from the compiler's refusal; any other error is raised."""
    found = re.search(r"(?:Used |temporaries \()([\d.]+)([KMGT])", error)
    if "RESOURCE_EXHAUSTED" not in error or not found:
        raise UserError(f"the step does not compile: {' '.join(error.split())[:500]}")
    return float(found[1]) * SUFFIX[found[2]]


# The plan.


def plan(phase: Phase, place: tpu.Slice, batch_size: int, program: tpu.Program) -> dict[str, Any]:
    """The numbers of one training on one slice, as `--json` has them."""
    found = {
        "phase": phase.name,
        "topology": place.name,
        "chips": place.chips,
        "batch_size": batch_size,
        "memory_bytes": program.memory,
        "memory_of_chip": place.chip.memory,
        "fits": program.fits,
    }
    if not program.fits:
        return found
    e = tpu.estimate(program, place)
    images_per_second = batch_size / e.step
    return found | {
        "flops": program.flops,
        "bytes": program.bytes,
        "collectives": [c._asdict() for c in program.collectives],
        "seconds": e._asdict(),
        "utilisation": e.utilisation,
        "images_per_second": images_per_second,
        "chip_hours": phase.seen / images_per_second * place.chips / 3600,
        "kernels": [{"from": name, "share": share} for name, share in shares(program)],
    }


def shares(program: tpu.Program, most: int = 8) -> list[tuple[str, float]]:
    """Parts of the program and their shares of the cycles that the compiler expects, the largest first."""
    found: dict[str, int] = {}
    for kernel in program.kernels:
        name = part_of(kernel.name)
        found[name] = found.get(name, 0) + kernel.cycles * kernel.count
    ordered = sorted(found.items(), key=lambda item: -item[1])
    return [(name, cycles / max(1, program.cycles)) for name, cycles in ordered[:most]]


def part_of(name: str) -> str:
    """What a kernel has in common with others of its kind: "backward of ResNet/layer/conv/conv_general_dilated"."""
    backward = "backward of " * ("/transpose(" in name)
    name = re.sub(r"jit\(step\)/|\w+\(|\)|closed_call/|cond/branch_\d+_fun/", "", name)
    return backward + re.sub(r"[_.]?\d+|/(?=/)", "", name).strip("/")


def largest_batch(phase: Phase, mesh: Mesh, planned: dict[str, Any]) -> int:
    """The largest batch that fits, within an eighth; 0 where none does."""
    known, unit = {planned["batch_size"]: planned["fits"]}, mesh.size * phase.c.gradient_accumulation

    def fits(batch_size: int) -> bool:
        if batch_size not in known:
            known[batch_size] = compile_step(phase, batch_size, mesh).fits
        return known[batch_size]

    # What the state takes stays, the rest grows with the batch: a start that is nearly right.
    _, state, _ = phase.step(planned["batch_size"], mesh)
    parts = ((a.sharding.shard_shape(a.shape), a.dtype) for a in jax.tree.leaves(state) if a.dtype != state.key.dtype)
    stays = sum(math.prod(shape) * dtype.itemsize for shape, dtype in parts)
    grows = (planned["memory_bytes"] - stays) / planned["batch_size"]
    start = int((0.95 * planned["memory_of_chip"] - stays) / grows) // unit * unit
    return tpu.largest(fits, max(unit, start), unit)


def sweep(config: ConfigDict, known: Images, places: list[tpu.Slice], once: bool) -> list[dict[str, Any]]:
    """The first training of a config on each slice, with as many images a chip as the config has on the first.

    With `once` the program of the first slice stands for all, whose chips do the same and wait for others: that of
    another number of chips may differ a little in how messages are put together.
    """
    phase, mesh = phases(config, known)[0], mesh_of(config, places[0])
    first = compile_step(phase, phase.c.batch_size, mesh)
    if once and (mesh.size < places[0].chips or any(c.group not in (2, mesh.size) for c in first.collectives)):
        raise UserError("--once needs a mesh of all chips with mesh.fsdp=1: else messages go to parts of the slice")
    each = phase.c.batch_size // mesh.size
    points = [plan(phase, places[0], phase.c.batch_size, first)]
    for place in places[1:]:
        if once:
            wider = tuple(c._replace(group=place.chips) if c.group == mesh.size else c for c in first.collectives)
            points.append(plan(phase, place, each * place.chips, first._replace(collectives=wider)))
        else:
            mesh = mesh_of(config, place)
            points.append(plan(phase, place, each * mesh.size, compile_step(phase, each * mesh.size, mesh)))
    return points


# What is said.


def said(p: dict[str, Any]) -> str:
    """A plan in lines of text."""
    lines = [f"{p['phase']} on {p['topology']}, {p['chips']} chips, {p['batch_size']:,} images a step"]
    fits = "fits" if p["fits"] else "does not fit"
    lines += [f"  memory a chip    {gib(p['memory_bytes'])} of {gib(p['memory_of_chip'])}: {fits}"]
    if "largest_batch" in p:
        lines[-1] += f"; the largest batch that does is about {p['largest_batch']:,}" if p["largest_batch"] else ""
    if p["fits"]:
        s = {name: 1e3 * value for name, value in p["seconds"].items()}
        lines += [
            f"  FLOPs, bytes     {p['flops'] / 1e12:.2f} TFLOP and {p['bytes'] / 1e9:.2f} GB a chip and step",
            *(
                f"  {c['kind']:<17}{c['count']} of {c['bytes'] / 1e3:,.1f} kB among {c['group']} chips"
                for c in sorted(p["collectives"], key=lambda c: -c["count"] * c["bytes"])[:5]
            ),
            f"  a step           {s['step']:.1f} ms: compute {s['compute']:.1f}, memory {s['memory']:.1f}, kernels "
            f"{s['kernels']:.1f}, messages {s['messages']:.1f}",
            f"  utilisation      {100 * p['utilisation']:.0f} % of the chips' peak",
            f"  speed            {p['images_per_second']:,.0f} images a second",
            f"  cost             {p['chip_hours']:,.1f} chip-hours for all epochs",
            *(
                f"  {'cycles go to' if i == 0 else '':<17}{100 * k['share']:.0f} %  {k['from']}"
                for i, k in enumerate(p["kernels"])
            ),
        ]
    return "\n".join(lines)


def gib(value: float) -> str:
    return f"{value / tpu.GIB:.1f} GiB"


def table(points: list[dict[str, Any]]) -> Table:
    """A row for each slice of a sweep; fits 80 columns."""
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    found.add_column("slice", no_wrap=True)
    for name in ("chips", "batch", "GiB", "ms", "sent", "peak", "images/s", "kept", "hours"):
        found.add_column(name, justify="right", no_wrap=True)
    base = next((p["images_per_second"] / p["chips"] for p in points if p["fits"]), None)
    for p in points:
        row = [p["topology"], f"{p['chips']}", f"{p['batch_size']:,}", f"{p['memory_bytes'] / tpu.GIB:.1f}"]
        if p["fits"]:
            row += [f"{1e3 * p['seconds'][name]:.1f}" for name in ("step", "messages")]
            row += [f"{100 * p['utilisation']:.0f} %", f"{p['images_per_second']:,.0f}"]
            row += [f"{100 * p['images_per_second'] / p['chips'] / base:.0f} %", f"{p['chip_hours']:,.1f}"]
        found.add_row(*row, *["too large"] * (not p["fits"]))
    return found


def picture(points: list[dict[str, Any]]) -> str:
    """Images a second over chips, beside as many times those of the first slice as there are chips; SVG."""
    points = [p for p in points if p["fits"]]
    chips, speed = [p["chips"] for p in points], [p["images_per_second"] for p in points]
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(chips, [speed[0] * n / chips[0] for n in chips], color="0.6", linestyle="--", label="in proportion")
    axes.plot(chips, speed, color="C0", marker="o", label="planned")
    axes.set(xscale="log", yscale="log", xlabel="chips", ylabel="images a second")
    axes.set_xticks(chips, [p["topology"] + f"\n{p['chips']}" for p in points], minor=False)
    axes.set_xticks([], minor=True)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()


def define(arguments: list[str]) -> flags.FlagValues:
    values = flags.FlagValues()
    given = {"flag_values": values}
    config_flags.DEFINE_config_file(
        "config", None, "A file of configs/, its argument after a colon.", sys_argv=arguments, **given
    )
    flags.DEFINE_string("topology", None, "The slice to plan for, such as v5e:4x4.", **given)
    flags.DEFINE_list("sweep", [], "Slices to compare, the batch a chip held.", **given)
    flags.DEFINE_bool(
        "once", False, "Compile for the first slice of a sweep alone, and count its messages anew.", **given
    )
    flags.DEFINE_integer("images", 0, "How many the dataset has, all splits together; 0: as published.", **given)
    flags.DEFINE_integer("channels", 0, "Of an image; 0: as published, or 3.", **given)
    flags.DEFINE_bool("largest", True, "Search the largest batch that fits.", **given)
    flags.DEFINE_string("to", None, "File for the picture of a sweep, an .svg.", **given)
    flags.DEFINE_string("json", None, "File for the numbers.", **given)
    flags.DEFINE_bool("debug", False, "Show the traceback of an error that is the user's to mend.", **given)
    return values


def main(arguments: list[str]) -> int:
    """Plans and returns the exit code."""
    values = define(arguments)
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    if {"--help", "-h"} & {*arguments}:
        print(__doc__, values.get_help(), sep="\n")
        return 0
    try:
        config = command_line.parse(values, arguments)
        if bool(values.topology) == bool(values.sweep):
            raise UserError("give one of --topology=v5e:4x4 and --sweep=v5e:2x2,v5e:4x4")
        configuration.check(config)
        places = [tpu.parse_topology(name) for name in values.sweep or [values.topology]]
        known = known_images(config.data, values.images, values.channels)
        # The compiler is enough: nothing is run, and a TPU that is here is left to others.
        jax.config.update("jax_platforms", "cpu")
        # What is compiled for a TPU cannot be read back without one.
        jax.config.update("jax_enable_compilation_cache", False)
        if values.sweep:
            points = sweep(config, known, places, values.once)
            console.print(LEGEND)
            console.print(table(points))
            if values.to:
                files.write_text(Path(values.to), picture(points))
        else:
            (place,) = places
            mesh, points = mesh_of(config, place), []
            for phase in phases(config, known):
                program = compile_step(phase, phase.c.batch_size, mesh)
                points.append(plan(phase, place, phase.c.batch_size, program))
                if values.largest:
                    points[-1]["largest_batch"] = largest_batch(phase, mesh, points[-1])
                console.print(said(points[-1]))
            if all(p["fits"] for p in points):
                console.print(f"in all {sum(p['chip_hours'] for p in points):,.1f} chip-hours")
        console.print(f"Left out: {'; '.join(LEFT_OUT)}.")
        if values.json:
            files.write_json(
                Path(values.json), {"plans": points, "left_out": LEFT_OUT, "chip": places[0].chip._asdict()}
            )
    except UserError as error:
        return print_error(error, values.is_parsed() and values.debug)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
