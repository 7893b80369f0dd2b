"""Estimate the time of one training step on TPU chips, and search the largest batch. Needs no TPU and no compiler."""

import math
from collections.abc import Callable
from typing import NamedTuple

from planning.chips import Slice
from planning.hlo import Collective, Kernel

# Seconds for a message to reach a neighbour (Austin et al. 2025, "How to Scale Your Model", chapter 2).
HOP = 1e-6
PRECISION = 1 / 8  # No batch larger by more than this share than the result of `search_largest` fits.


class Program(NamedTuple):
    """One step on one chip.

    Attributes:
      memory: bytes of HBM that it needs.
      fits: whether the chip has them; if not, the rest is not known.
      flops: operations.
      kernels: its instructions.
      collectives: its messages to other chips.
    """

    memory: float
    fits: bool
    flops: float = math.nan
    kernels: tuple[Kernel, ...] = ()
    collectives: tuple[Collective, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(kernel.bytes * kernel.count for kernel in self.kernels)

    @property
    def cycles(self) -> int:
        return sum(kernel.cycles * kernel.count for kernel in self.kernels)


class Estimate(NamedTuple):
    """Seconds of one step.

    Attributes:
      compute: its FLOPs at the chip's peak.
      memory: its bytes at the bandwidth of HBM.
      kernels: the compiler's estimate of its kernels; nan if the clock is not known.
      messages: its collectives, as if none overlapped with computation.
      step: the longest of the first three, plus the messages.
      utilisation: `compute` / `step`.
    """

    compute: float
    memory: float
    kernels: float
    messages: float
    step: float
    utilisation: float


def estimate_step(program: Program, place: Slice) -> Estimate:
    """Estimate the time of one step on the chips of a slice."""
    chip = place.chip
    compute, memory = program.flops / chip.flops, program.bytes / chip.bandwidth
    kernels = program.cycles / chip.clock
    messages = sum(c.count * message_seconds(c, place) for c in program.collectives)
    step = max(t for t in (compute, memory, kernels) if not math.isnan(t)) + messages
    return Estimate(compute, memory, kernels, messages, step, compute / step)


def message_seconds(collective: Collective, place: Slice) -> float:
    """Return the seconds of one collective that uses all links at once, in rings, plus the delay of the first byte.

    A ring of n chips passes each byte n - 1 times, in n parts, and twice for an all-reduce (Patarasuk and Yuan 2009,
    J. Parallel Distrib. Comput. 69:117).
    """
    kind, size, n, _ = collective
    links = sum(2 if side % place.chip.ring == 0 else 1 for side in place.shape if side > 1)
    hops = sum(side // 2 if side % place.chip.ring == 0 else side - 1 for side in place.shape)
    if n < place.chips:
        # The groups of one collective share the links. The distance within a group is not known; this is its limit.
        hops = min(hops, n - 1)
    if n == 1 or not links:
        return 0.0
    passes = {
        "all-reduce": 2 * (n - 1) / n,
        "reduce-scatter": (n - 1) / n,
        "all-to-all": (n - 1) / n,
        "all-gather": n - 1,
        "collective-permute": 1.0,
    }[kind]
    rounds = 2 if kind == "all-reduce" else 1
    return rounds * hops * HOP + passes * size / (links * place.chip.link)


def search_largest(fits: Callable[[int], bool], start: int, unit: int) -> int:
    """Return the largest multiple of `unit` that fits, up to `PRECISION`, by bisection; 0 if none fits.

    A trial may take minutes. The search leaves `start` in steps that double, so that a good start needs two trials.

    Args:
      fits: whether a number fits; if it does, all smaller ones do.
      start: the first trial; a multiple of `unit`.
      unit: the smallest number.
    """
    low, high, share = 0, math.inf, PRECISION
    trial = start
    while high - low > max(unit, PRECISION * low):
        if fits(trial):
            low = trial
        else:
            high = trial
        if low and high < math.inf:
            trial = (low + high) / 2
        else:
            trial = low * (1 + share) if low else high / (1 + share)
            share *= 2
        trial = max(unit * (low // unit + 1), int(trial) // unit * unit)
    return low
