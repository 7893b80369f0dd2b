"""Measure speed and memory of training steps, and where the time goes."""

import argparse
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from benchmarks.step_profile import profile
from benchmarks.work import Work, batches, make_work

from jaxssl.models.linear import multiply
from jaxssl.training.step import compile_ahead

GROWTH = {
    "batch": (32, 64, 128, 256),
    "size": (32, 64, 96, 128),
    "depth": (1, 2, 3, 4),
    "images": (2048, 8192, 32768),
}
clock = time.perf_counter  # `launch/bench.py --cpu-seconds` sets another.
REPEATED = ("method", "model", "size", "patch", "batch", "images", "depth", "dtype")  # By the processes of first_steps.


def run_steps(step: Callable, state: Any, read: Iterator[dict], steps: int) -> tuple[Any, float]:
    """Return the state after some steps, and their seconds; metrics are fetched one step late, as in training."""
    pending, start = None, clock()
    for _ in range(steps):
        state, metrics = step(state, next(read))
        if pending is not None:
            jax.device_get(pending)
        pending = metrics
    jax.device_get(pending)
    jax.block_until_ready(state)
    return state, clock() - start


def time_call(function: Callable, *args: Any, rounds: int = 5) -> float:
    """Return the median seconds of a call, after one call that is not counted."""
    seconds = []
    for _ in range(rounds + 1):
        start = clock()
        jax.block_until_ready(function(*args))
        seconds.append(clock() - start)
    return statistics.median(seconds[1:])


def measure(a: argparse.Namespace, script: list[str], folder: Path) -> dict[str, Any]:
    """Return the JSON line of `launch/bench.py` for its flags; `script` is the command that runs it."""
    work = make_work(a, folder)
    read = batches(work)
    compile_ahead(work.step, work.state, next(read))
    state, _ = run_steps(work.step, work.state, read, 1)
    if a.first:
        return {"ended": time.time()}
    state, end_to_end = run_steps(work.step, state, read, a.steps)
    # Before the second program is compiled, which no training has.
    peak_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    batch = next(read)
    viewed = work.view(jax.random.key(1), batch)
    state, _ = run_steps(work.step_only, state, iter([viewed]), 1)
    alone = []
    for _ in range(max(3, a.steps // 2)):
        state, seconds = run_steps(work.step_only, state, iter([viewed]), 1)
        alone.append(seconds)
    step = statistics.median(alone)
    result = {name: getattr(a, name) for name in ("method", "model", "size", "batch", "dtype", "streamed")}
    result |= {
        "devices": f"{jax.device_count()} {jax.devices()[0].device_kind}, {len(os.sched_getaffinity(0))} cores",
        "images_per_second": round(a.batch * a.steps / end_to_end, 1),
        "images_per_second_step_only": round(a.batch / step, 1),
        "peak_rss_mib": peak_rss,
    }
    if a.brief:
        return result
    result |= step_details(a, work, state, viewed, batch, step)
    result["share_of_step"] = profile(work.step_only, state, viewed, folder / "profile")
    return result | {"first_step_seconds": dict(zip(("cold", "cached"), first_steps(a, script), strict=True))}


def step_details(
    a: argparse.Namespace, work: Work, state: Any, viewed: dict, batch: dict, step: float
) -> dict[str, Any]:
    """Return the time of a step by its parts, its FLOPs, and the share of the machine's peak."""
    count = max(1, len(work.images.images) // work.batch)
    start, read = clock(), batches(work)
    for _ in range(count):
        jax.block_until_ready(next(read))
    reading = (clock() - start) / count
    augmenting = time_call(work.view, jax.random.key(1), batch)
    # Lowered for a GPU, where convolutions stay convolutions.
    flop = work.step_only.trace(state, viewed).lower(lowering_platforms=("cuda",)).cost_analysis()["flops"]
    parts = {"read": reading, "augment": augmenting, "step": step}
    if a.method != "features":
        forward, gradient = time_call(work.loss, state, viewed), time_call(work.gradient, state, viewed)
        parts |= {"forward": forward, "backward": gradient - forward, "update": step - gradient}
    return {
        "read": round(a.batch / reading, 1),
        "augment": round(a.batch / augmenting, 1),
        "seconds": {name: round(value, 4) for name, value in parts.items()},
        "gflop_a_step": round(flop / 1e9, 1),
        "share_of_peak": round(flop / step / peak_flops(a.dtype), 3),
    }


def peak_flops(dtype: str) -> float:
    """Return the highest FLOP/s of a product of square matrices, over a few sizes."""
    rates = []
    for n in (1024, 2048, 4096):
        x = jnp.ones((n, n), "bfloat16" if dtype == "mixed" else dtype)
        rates.append(2 * n**3 / time_call(jax.jit(multiply if dtype == "mixed" else jnp.matmul), x, x))
    return max(rates)


def first_steps(a: argparse.Namespace, script: list[str]) -> list[float]:
    """Return the seconds from a process's start to the end of its first step, with an empty and a filled cache."""
    seconds = []
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(2):
            start, environ = time.time(), os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
            command = [*script, *(f"--{name}={getattr(a, name)}" for name in REPEATED), "--first"]
            ended = subprocess.run(command, env=environ, check=True, stdout=subprocess.PIPE, text=True)
            # Without the time that the process then takes to exit.
            seconds.append(round(json.loads(ended.stdout)["ended"] - start, 1))
    return seconds


def measure_growth(a: argparse.Namespace, script: list[str], folder: Path) -> dict[str, Any]:
    """Return the seconds per step (per dataset for "images") over the values of `GROWTH`, and the log-log slope."""
    seconds = {}
    for value in GROWTH[a.grow]:
        b = argparse.Namespace(**(vars(a) | {a.grow: value, "brief": True}))
        if a.grow == "images":
            start = clock()
            read = batches(make_work(b, folder))
            for _ in range(value // b.batch):
                jax.block_until_ready(next(read))
            seconds[value] = clock() - start
        else:
            seconds[value] = b.batch / measure(b, script, folder)["images_per_second_step_only"]
    x, y = (np.log(list(of)) for of in (seconds.keys(), seconds.values()))
    rounded = {str(value): round(of, 4) for value, of in seconds.items()}
    return {"grows": a.grow, "seconds": rounded, "exponent": round(float(np.polyfit(x, y, 1)[0]), 2)}
