"""How fast training is here, and where its time goes: one JSON line for one kind of work.

    python launch/bench.py --method byol --model resnet18 --size 64 --batch 128

It trains a few steps on random uint8 images. An image counts once, however many views the method makes of it:
  images_per_second             end to end: reading, augmentation, step, and the metrics of the step before
  images_per_second_step_only   of views that were made beforehand; of "features", the encoder alone
  peak_rss_mib                  of all that
Without --brief there is more: `read` and `augment`, images a second of these alone; `seconds`, of one step by its
parts; `gflop_a_step` (with convolutions counted as such, however they are done here) and its share of what a product of
matrices reaches; `first_step_seconds` from the start of the process, without and with the compilation cache. --streamed
reads from records on the disk.

    python launch/bench.py --grow batch        # or size, depth, images: seconds a step, and the exponent of its growth
    python launch/bench.py --all --turns 5 --peer "peer/bin/python peer_lightly.py" --torch "peer/bin/python"

--all takes turns with the same work in PyTorch, each in a process of its own, and prints medians, ranges and the ratio
of the medians: by --peer, a script with the options of this one for lightly's SimCLR, BYOL and MAE, and by --torch,
which has torch, torchvision and timm, for launch/benchmarks/bench_torch.py.
"""

from jaxssl.training import runtime

if __name__ == "__main__":
    runtime.restart()

import argparse
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxssl import models, objectives
from jaxssl.augment import views
from jaxssl.config import fields, presets
from jaxssl.data import pipeline, records, source
from jaxssl.training import loop, optimizers, sharding

METHODS = ("simclr", "byol", "mae", "supervised", "features")
CLASSES = 10
# What --all does: the options of a line of work, the peer's name of the model, and whether lightly's script has it.
LINES = (
    ("--method simclr --model resnet18 --size 64 --batch 128", "resnet18", True),
    ("--method byol --model resnet18 --size 64 --batch 128", "resnet18", True),
    ("--method mae --model vit_tiny --size 64 --patch 8 --batch 128", "vit_tiny_patch16_224", True),
    ("--method byol --model resnet50 --size 96 --batch 32", "resnet50", True),
    ("--method supervised --model efficientnet_lite0 --size 64 --batch 64", "tf_efficientnet_lite0", False),
    ("--method features --model resnet18 --size 64 --batch 128", "resnet18", False),
)
GROWTH = {
    "batch": (32, 64, 128, 256),
    "size": (32, 64, 96, 128),
    "depth": (1, 2, 3, 4),
    "images": (2048, 8192, 32768),
}
SPEEDS = ("images_per_second_step_only", "images_per_second")


class Work(NamedTuple):
    """What is timed. A state is a `TrainState`, or the variables of an encoder for "features"."""

    state: Any
    view: Callable  # (key, batch) -> batch with views.
    step: Callable  # (state, batch) -> state, what is fetched of it.
    step_only: Callable  # The same of a batch that has its views.
    loss: Callable  # (state, batch with views) -> loss.
    gradient: Callable  # (state, batch with views) -> gradient.
    images: source.Source
    batch: int
    mesh: Mesh


def views_of(method: str) -> dict[str, Any]:
    """Options of `augment.make` as the method is published: those of SimCLR, BYOL and MAE; none for the others."""
    c = fields.base()
    if method in ("simclr", "byol"):
        getattr(presets, method)(c)
        c.pretrain.augment.crop_area = (0.08, 1.0)
    elif method == "mae":
        c.pretrain.augment.crop_area = (0.2, 1.0)
        c.pretrain.augment.flip_horizontal = True
    return dict(c.pretrain.augment)


def objective_of(method: str, encoder: Any) -> objectives.Objective:
    name, kw = {
        "simclr": ("ntxent", {"hidden": 512, "projection": 128, "temperature": 0.5}),
        "byol": ("byol", {"hidden": 4096, "projection": 256}),
        "mae": ("mae", {"decoder_width": 128, "decoder_depth": 2}),
    }.get(method, ("supervised", {}))
    return objectives.load(name)(encoder, classes=CLASSES, steps=1000, **kw)


def random_images(a: argparse.Namespace, folder: Path) -> source.Source:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (a.images, a.size, a.size, 3), np.uint8)
    if a.streamed:
        file = folder / "images.array_record"
        records.write(file, images, lambda: {"shape": images.shape, "dtype": "uint8"})
        images = records.load(file)[0]
    return source.make(images, rng.integers(0, CLASSES, a.images), np.arange(a.images), tuple("abcdefghij"))


def work_of(a: argparse.Namespace, folder: Path) -> Work:
    mesh = sharding.make_mesh(-1, 1)
    kw = {"patch": a.patch} if a.model.startswith("vit") else {"stem": "imagenet"}
    if a.depth:
        kw["stages"] = (a.depth,) * 4
    encoder = models.make(a.model, dtype=jnp.dtype(a.dtype), **kw)
    objective = objective_of(a.method, encoder)
    pixels = views.Pixels(0.0, 255.0, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    view = views.make(pixels, size=a.size, views=objective.views, **views_of(a.method))
    tx = optimizers.make("sgd", learning_rate=0.05, steps=1000)
    images = random_images(a, folder)
    key, sample = jax.random.key(0), pipeline.gather(images, np.arange(mesh.size))
    init = partial(loop.init_state, objective=objective, augment=view, tx=tx)
    shapes = jax.eval_shape(init, key, sample)
    state = jax.jit(init, out_shardings=sharding.of_state(mesh, shapes))(key, sample)

    def loss(params: Any, state: loop.TrainState, batch: dict) -> jax.Array:
        return objective.loss(params, state.model_state, state.target, batch, state.key)[0]

    def given(key: jax.Array, batch: dict) -> dict:
        return batch

    if a.method == "features":
        variables = {"params": state.params["encoder"], **state.model_state["encoder"]}

        def encode(variables: Any, batch: dict) -> tuple[Any, jax.Array]:
            image = batch["views"][0] if "views" in batch else views.plain(batch["image"], pixels, a.size)
            return variables, encoder.apply(variables, image, train=False)["pooled"]

        steps, state = (jax.jit(encode, donate_argnums=0),) * 2, variables
    else:
        steps = tuple(loop.jit_step(mesh, shapes, objective, of, tx) for of in (view, given))
    return Work(
        state,
        jax.jit(view),
        *steps,
        jax.jit(lambda state, batch: loss(state.params, state, batch)),
        jax.jit(lambda state, batch: jax.grad(loss)(state.params, state, batch)),
        images,
        a.batch,
        mesh,
    )


def batches(work: Work) -> Iterator[dict]:
    """Epoch after epoch, without end."""
    rows, epoch = np.arange(len(work.images.images)), 0
    while True:
        kw = {"batch_size": work.batch, "steps": len(rows) // work.batch, "seed": 0, "skip": 0}
        yield from pipeline.training(work.images, rows, epoch=epoch, sharding=sharding.of_batch(work.mesh), **kw)
        epoch += 1


def run(step: Callable, state: Any, read: Iterator[dict], steps: int) -> tuple[Any, float]:
    """The state and the seconds of so many steps; what is fetched of one is fetched once the next is under way."""
    pending, since = None, time.perf_counter()
    for _ in range(steps):
        state, fetched = step(state, next(read))
        if pending is not None:
            jax.device_get(pending)
        pending = fetched
    jax.device_get(pending)
    jax.block_until_ready(state)
    return state, time.perf_counter() - since


def seconds(function: Callable, *args: Any, rounds: int = 5) -> float:
    """The median of a call, after one that is not counted."""
    taken = []
    for _ in range(rounds + 1):
        since = time.perf_counter()
        jax.block_until_ready(function(*args))
        taken.append(time.perf_counter() - since)
    return statistics.median(taken[1:])


def measure(a: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The JSON line."""
    work = work_of(a, folder)
    read = batches(work)
    loop.compile_ahead(work.step, work.state, next(read))
    state, _ = run(work.step, work.state, read, 1)
    if a.first:
        return {"ended": time.time()}
    state, whole = run(work.step, state, read, a.steps)
    # Before there is a second program, which no training has.
    peak_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    batch = next(read)
    viewed = work.view(jax.random.key(1), batch)
    state, _ = run(work.step_only, state, iter([viewed]), 1)
    alone = []
    for _ in range(max(3, a.steps // 2)):
        state, taken = run(work.step_only, state, iter([viewed]), 1)
        alone.append(taken)
    step = statistics.median(alone)
    found = {name: getattr(a, name) for name in ("method", "model", "size", "batch", "dtype", "streamed")}
    found |= {
        "devices": f"{jax.device_count()} {jax.devices()[0].device_kind}, {len(os.sched_getaffinity(0))} cores",
        "images_per_second": round(a.batch * a.steps / whole, 1),
        "images_per_second_step_only": round(a.batch / step, 1),
        "peak_rss_mib": peak_rss,
    }
    return found if a.brief else found | details(a, work, state, viewed, batch, step)


def details(a: argparse.Namespace, work: Work, state: Any, viewed: dict, batch: dict, step: float) -> dict[str, Any]:
    count = max(1, len(work.images.images) // work.batch)
    since, read = time.perf_counter(), batches(work)
    for _ in range(count):
        jax.block_until_ready(next(read))
    reading = (time.perf_counter() - since) / count
    augmenting = seconds(work.view, jax.random.key(1), batch)
    # Lowered for a GPU, where convolutions stay what they are.
    flop = work.step_only.trace(state, viewed).lower(lowering_platforms=("cuda",)).cost_analysis()["flops"]
    parts = {"read": reading, "augment": augmenting, "step": step}
    if a.method != "features":
        forward, gradient = seconds(work.loss, state, viewed), seconds(work.gradient, state, viewed)
        parts |= {"forward": forward, "backward": gradient - forward, "update": step - gradient}
    return {
        "read": round(a.batch / reading, 1),
        "augment": round(a.batch / augmenting, 1),
        "seconds": {name: round(value, 4) for name, value in parts.items()},
        "gflop_a_step": round(flop / 1e9, 1),
        "share_of_peak": round(flop / step / peak(jnp.dtype(a.dtype)), 3),
        "first_step_seconds": dict(zip(("cold", "cached"), first_steps(a), strict=True)),
    }


def peak(dtype: jnp.dtype) -> float:
    """FLOP/s of the fastest product of square matrices of a few sizes."""
    found = []
    for n in (1024, 2048, 4096):
        x = jnp.ones((n, n), dtype)
        found.append(2 * n**3 / seconds(jax.jit(jnp.matmul), x, x))
    return max(found)


def first_steps(a: argparse.Namespace) -> list[float]:
    """Seconds from the start of a process to the end of its first step: with an empty compilation cache, and again."""
    found = []
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(2):
            since, environ = time.time(), os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
            command = [*this(), *arguments_of(a), "--first"]
            ended = subprocess.run(command, env=environ, check=True, stdout=subprocess.PIPE, text=True)
            # How long the process then takes to give its memory back is not counted.
            found.append(round(json.loads(ended.stdout)["ended"] - since, 1))
    return found


def this() -> list[str]:
    return [sys.executable, __file__]


def arguments_of(a: argparse.Namespace) -> list[str]:
    names = ("method", "model", "size", "patch", "batch", "images", "depth", "dtype")
    return [f"--{name}={getattr(a, name)}" for name in names]


def grow(a: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds a step, or of the preparation of so many images, by what grows; and the slope of their logarithms."""
    taken = {}
    for value in GROWTH[a.grow]:
        b = argparse.Namespace(**(vars(a) | {a.grow: value, "brief": True}))
        if a.grow == "images":
            since = time.perf_counter()
            read = batches(work_of(b, folder))
            for _ in range(value // b.batch):
                jax.block_until_ready(next(read))
            taken[value] = time.perf_counter() - since
        else:
            taken[value] = b.batch / measure(b, folder)["images_per_second_step_only"]
    x, y = (np.log(list(of)) for of in (taken.keys(), taken.values()))
    rounded = {str(value): round(of, 4) for value, of in taken.items()}
    return {"grows": a.grow, "seconds": rounded, "exponent": round(float(np.polyfit(x, y, 1)[0]), 2)}


def in_turn(a: argparse.Namespace) -> str:
    """The table of --all, in Markdown."""
    rows = ["| work | step alone | end to end | peak MiB |", "|---|---|---|---|"]
    for options, model, of_lightly in LINES:
        if not (a.peer if of_lightly else a.torch):
            continue
        theirs = a.peer if of_lightly else f"{a.torch} {Path(__file__).with_name('bench_torch.py')}"
        peer = [*shlex.split(theirs), *options.replace(options.split()[3], model).split()]
        runs: tuple[list, list] = ([], [])
        for _ in range(a.turns):
            for command, of in zip(([*this(), *options.split(), "--brief"], peer), runs, strict=True):
                of.append(last_line([*command, f"--steps={a.steps}"]))
        cells = [compared(*([r[field] for r in of] for of in runs)) for field in (*SPEEDS, "peak_rss_mib")]
        rows.append(f"| `{options}` | {' | '.join(cells)} |")
        print(rows[-1], file=sys.stderr, flush=True)
    return "\n".join(rows)


def last_line(command: Sequence[str]) -> dict[str, Any]:
    # What is set for us is not set for the peer: it runs as its users run it.
    environ = {k: v for k, v in os.environ.items() if k not in ("GLIBC_TUNABLES", "XLA_FLAGS")}
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{shlex.join(command)} ended with {ended.returncode}: {ended.stderr.strip()[-500:]}")
    return json.loads(ended.stdout.strip().splitlines()[-1])


def compared(ours: list[float], theirs: list[float]) -> str:
    """ "ratio: ours (range) against theirs (range)", of medians."""

    def told(values: list[float]) -> str:
        return f"{statistics.median(values):.0f} ({min(values):.0f}-{max(values):.0f})"

    ratio = statistics.median(ours) / max(statistics.median(theirs), 1e-9)
    return f"**{ratio:.2f}**: {told(ours)} against {told(theirs)}"


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--method", choices=METHODS, default="simclr")
    p.add_argument("--model", default="resnet18", help="An encoder of jaxssl/models.")
    p.add_argument("--size", type=int, default=64, help="Side of the images in pixels.")
    p.add_argument("--patch", type=int, default=8, help="Of a ViT.")
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--steps", type=int, default=6)
    p.add_argument("--images", type=int, default=2048, help="How many there are.")
    p.add_argument("--depth", type=int, default=0, help="Blocks in each stage of a ResNet; 0: as published.")
    p.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    p.add_argument("--streamed", action="store_true", help="Read from records on the disk.")
    p.add_argument("--brief", action="store_true", help="Speeds and memory alone.")
    p.add_argument("--first", action="store_true", help="One step, and when it ended, in seconds since 1970.")
    p.add_argument("--grow", choices=GROWTH)
    p.add_argument("--all", action="store_true")
    p.add_argument("--turns", type=int, default=5)
    p.add_argument("--peer", default="", help="Command of lightly's script.")
    p.add_argument("--torch", default="", help="Python that has torch, torchvision and timm.")
    return p


def main(arguments: Sequence[str]) -> None:
    a = parser().parse_args(arguments)
    runtime.apply()
    if a.all:
        print(in_turn(a))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps((grow if a.grow else measure)(a, Path(folder))))


if __name__ == "__main__":
    main(sys.argv[1:])
