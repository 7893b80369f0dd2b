"""Plan memory, time and cost of a run on TPUs or GPUs by compiling its real training steps, on a machine without any.

    python launch/plan.py --config=configs/byol_ham.py --topology=v5e:4x4
    python launch/plan.py --config=configs/byol_ham.py --topology=h100:8          # or a100:1, h200:4
    python launch/plan.py --config=configs/byol_ham.py --sweep=v5e:2x2,v5e:4x4,v5e:8x8,v5e:16x16 --to=scaling.svg

It needs the compiler: for TPUs the extra `tpu`, for GPUs the wheels jax-cuda13-plugin and jax-cuda13-pjrt in jax's
version, without NVIDIA's libraries. It needs no images: their number is known for most datasets; set `--images` for the
others. `--topology` compiles pretraining and fine-tuning, says whether they fit, and searches the largest batch that
fits, which takes a few more compilations (`--no-largest` skips it). `--sweep` compiles pretraining for each slice with
a constant batch per chip (weak scaling). Compiling BYOL with a ResNet-50 for TPUs takes about ten minutes on one core;
`--once` compiles for the first slice only and recalculates the messages for the others.

The time of a step is the longest of three (its FLOPs at the chip's peak, its bytes at the memory's bandwidth, and the
compiler's own estimate) plus the time of all messages between chips. None of it is measured on a TPU or GPU.

GPUs are those of one machine, joined by NVSwitch, of whose memory JAX takes three quarters by default. Algorithms of
their convolutions and products are chosen on the GPU, so the compiler estimates no time: a step takes longer than
planned.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
from planning import output, plans, steps
from planning.chips import parse_topology
from rich.console import Console

from jaxssl import files
from jaxssl.config.checks import check
from jaxssl.config.load import load_config
from jaxssl.errors import UserError, print_error

LEFT_OUT = (
    "reading images on the hosts, and sending them to the chips",
    "compilation, initialisation, checkpoints, evaluation and report",
    "how much slower kernels are than the compiler's estimate, and how many messages overlap with them",
    "networks between slices, waiting for one, and work repeated after a preemption",
)
LEFT_OUT_ON_GPUS = (
    "working memory of cuDNN, whose algorithms are chosen on the GPU",
    "the start of each kernel and message, which takes longest in small networks",
)


def make_parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        "python launch/plan.py",
        description=__doc__,
        epilog="Exit codes: 0 planned, whether it fits or not; 2 invalid input.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("--config", required=True, help="a config's name or file, its argument after a colon")
    p.add_argument("--topology", help="the slice or GPUs to plan for, such as v5e:4x4 or h100:8")
    p.add_argument("--sweep", default="", help="slices or numbers of GPUs to compare, separated by commas")
    p.add_argument("--once", action="store_true", help="compile only for the first slice of a sweep")
    p.add_argument("--images", type=int, default=0, help="number of images of all splits; default: as published")
    p.add_argument("--channels", type=int, default=0, help="channels of an image; default: as published, or 3")
    p.add_argument(
        "--no-largest", "--nolargest", dest="largest", action="store_false", help="skip the search of the largest batch"
    )
    p.add_argument("--to", type=Path, help="write the picture of a sweep to this .svg")
    p.add_argument("--json", type=Path, help="write the numbers to this file")
    p.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return p


def main(arguments: Sequence[str]) -> int:
    """Print the plan and return the exit code."""
    args, assignments = make_parser().parse_known_args(arguments)
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    try:
        config = load_config(args.config, assignments)
        if bool(args.topology) == bool(args.sweep):
            raise UserError(
                "set either --topology=v5e:4x4 or --sweep=v5e:2x2,v5e:4x4", code="conflict", field="--topology"
            )
        check(config)
        places = [parse_topology(name) for name in args.sweep.split(",") if name] or [parse_topology(args.topology)]
        known = steps.known_images(config.data, args.images, args.channels)
        # Nothing runs on a TPU or GPU, so one that is here stays free; and its programs cannot be cached without one.
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_enable_compilation_cache", False)
        found = []
        if args.sweep:
            found = plans.plan_sweep(config, known, places, args.once)
            console.print(output.LEGEND)
            console.print(output.make_table(found))
            if args.to:
                files.write_text(args.to, output.draw_sweep(found))
        else:
            for plan in plans.plan_slice(config, known, places[0], args.largest):
                found.append(plan)
                console.print(output.format_plan(plan))
            if all(p["fits"] for p in found):
                console.print(f"in total {sum(p['chip_hours'] for p in found):,.1f} chip-hours")
        left_out = LEFT_OUT + LEFT_OUT_ON_GPUS * any(place.chip.target for place in places)
        console.print(f"Not included: {'; '.join(left_out)}.")
        if args.json:
            files.write_json(args.json, {"plans": found, "left_out": left_out, "chip": places[0].chip._asdict()})
    except UserError as error:
        return print_error(error, args.debug)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
