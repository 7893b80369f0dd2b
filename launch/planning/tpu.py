"""What a compiled step takes on TPU chips: the chips' public figures, the compiler's text, and the arithmetic.

Nothing here needs a TPU or its compiler: `launch/plan.py` does, and hands over the text.
"""

import math
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from jaxssl.errors import UserError, did_you_mean

GIB = 2**30


class Chip(NamedTuple):
    """Public figures of a chip.

    Attributes:
      flops: bfloat16 operations a second, at most.
      memory: bytes of HBM.
      bandwidth: bytes a second of HBM.
      clock: cycles a second: `flops` by the multipliers of its matrix units; nan where their number is not clear.
      link: bytes a second of one link to a neighbour, one way.
      axes: of the mesh of links; a chip has two links along each.
      ring: an axis of a multiple of so many chips is closed to a ring; the ends of others have one link along it.
      pod: chips that links join, at most.
      cores: what the compiler is told so that both cores of a chip are one device; "" for chips of one core.
      source: of the figures.
    """

    flops: float
    memory: float
    bandwidth: float
    clock: float
    link: float
    axes: int
    ring: int
    pod: int
    cores: str
    source: str


DOCS = "https://docs.cloud.google.com/tpu/docs/"
# Links: the all-reduce bandwidth of a pod over its chips and their links; of v5p, the bandwidth of a chip over them.
CHIPS = {
    "v4": Chip(275e12, 32 * GIB, 1200e9, 1.05e9, 45e9, 3, 4, 4096, "megacore", DOCS + "v4"),
    "v5e": Chip(197e12, 16 * GIB, 819e9, 1.5e9, 50e9, 2, 16, 256, "", DOCS + "v5e"),
    "v5p": Chip(459e12, 95 * GIB, 2765e9, 1.75e9, 100e9, 3, 4, 8960, "megacore", DOCS + "v5p"),
    "v6e": Chip(918e12, 32 * GIB, 1638e9, math.nan, 100e9, 2, 16, 256, "", DOCS + "v6e"),
}
# Seconds for a message to reach a neighbour (Austin et al. 2025, "How to Scale Your Model", chapter 2).
HOP = 1e-6
PRECISION = 1 / 8  # No number that is more than this share above what `largest` finds fits.


class Slice(NamedTuple):
    """Chips joined by links, such as "v5e:4x4"."""

    name: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def chips(self) -> int:
        return math.prod(self.shape)


def parse_topology(name: str) -> Slice:
    """UserError unless `name` is a chip of `CHIPS` and sides that a slice of it can have."""
    kind, _, sides = name.partition(":")
    if kind not in CHIPS:
        raise UserError(
            f"the topology {name!r} begins with no known chip: {did_you_mean(kind, CHIPS)}{', '.join(CHIPS)}"
        )
    chip = CHIPS[kind]
    shape = tuple(map(int, re.findall(r"\d+", sides)))
    if not re.fullmatch(r"\d+(x\d+)*", sides) or len(shape) != chip.axes or 0 in shape:
        example = "x".join(["4"] * chip.axes)
        raise UserError(f"the topology {name!r} needs {chip.axes} sides, such as {kind}:{example}")
    if math.prod(shape) > chip.pod:
        raise UserError(f"the topology {name!r} has {math.prod(shape)} chips, and links join no more than {chip.pod}")
    return Slice(name, chip, shape)


# The compiler's text.


class Collective(NamedTuple):
    """Messages of one kind and size among chips.

    Attributes:
      kind: "all-reduce", "all-gather", "reduce-scatter", "all-to-all" or "collective-permute".
      bytes: that each chip brings.
      group: chips that take part together.
      count: how often it happens in a step.
    """

    kind: str
    bytes: int
    group: int
    count: int


class Kernel(NamedTuple):
    """One instruction of the program.

    Attributes:
      name: where it comes from, such as "jit(step)/jvp(ResNet)/conv1/conv_general_dilated"; its own where that is lost.
      bytes: to and from HBM, each operand and result once.
      cycles: that the compiler expects it to take; 0 where it says nothing.
      count: how often it runs in a step.
    """

    name: str
    bytes: int
    cycles: int
    count: int


class Instruction(NamedTuple):
    """A line of the text, `%name = type opcode(operands), rest`."""

    name: str
    type: str
    opcode: str
    operands: tuple[str, ...]
    rest: str


INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%(\S+) = (\(.*?\)|\S+) ([\w-]+)\((.*)$")
COMPUTATION = re.compile(r"^(ENTRY )?%(\S+) \(.*\{$")
ARRAY = re.compile(r"\b(pred|bf16|[sufc]\d+)(?:e\w+)?\[([\d,]*)\](\{[^{}]*\})?")
COLLECTIVE = re.compile(r"(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?")
# These move nothing; what is done by a loop or a call is in the computation that it names.
FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "partition-id", "copy-done", "after-all")


def parse(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """The instructions of each computation of a compiled program, and the name of the one that it begins with."""
    computations, entry, inside = {}, "", []
    for line in text.splitlines():
        if head := COMPUTATION.match(line):
            inside = computations[head[2]] = []
            entry = head[2] if head[1] else entry
        elif found := INSTRUCTION.match(re.sub(r"/\*index=\d+\*/", "", line)):
            operands, _, rest = found[4].partition(")")
            names = operands.split(", ") if found[3] == "constant" else re.findall(r"%([^\s,()]+)", operands)
            inside.append(Instruction(found[1], found[2], found[3], tuple(names), rest))
    return computations, entry


def run(computations: dict[str, list[Instruction]], name: str, times: int = 1) -> Iterator[tuple[Instruction, int]]:
    """Instructions of a computation and of those that it calls, each with how often it runs; kernels stay whole."""
    for instruction in computations[name]:
        inner = re.findall(r"(?:body|to_apply|\w+_computation)=%([\w.-]+)", instruction.rest)
        if instruction.opcode == "while":
            condition = re.search(r"condition=%([\w.-]+)", instruction.rest)[1]
            yield from run(computations, inner[0], times * trips(computations[condition]))
        elif instruction.opcode in ("call", "conditional"):
            for called in inner:
                yield from run(computations, called, times)
        else:
            yield instruction, times


def trips(condition: list[Instruction]) -> int:
    """Rounds of a loop that counts up from 0: what its condition compares with; 1 where that is not a number."""
    numbers = [i.operands[0] for i in condition if i.opcode == "constant" and i.type.startswith("s32[]")]
    return max(map(int, numbers), default=1)


def array_bytes(type: str, everywhere: bool = True) -> int:
    """Of all arrays of a type; with `everywhere` false, of those alone that lie in HBM, which is memory space 0."""
    total = 0
    for kind, shape, layout in ARRAY.findall(type):
        if everywhere or not re.search(r"S\([1-9]\d*\)", layout):
            bits = {"pred": 8, "bf16": 16}.get(kind) or int(kind[1:])
            total += math.prod(int(n) for n in shape.split(",") if n) * bits // 8
    return total


def copied(type: str) -> int:
    """Bytes to and from HBM of a copy beside the kernels, whose type names both ends: the smaller is what is copied."""
    ends = [found[0] for found in ARRAY.finditer(type)][:2]
    return min(map(array_bytes, ends)) * sum(array_bytes(end, everywhere=False) > 0 for end in ends)


def group_size(rest: str) -> int:
    """Chips that take part together, of the three ways in which a collective says it; 2 for pairs."""
    if found := re.search(r"replica_groups=mesh\[(.*?)\].*?\{([^{}]*)\}", rest):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", found[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", found[2]))
    if found := re.search(r"replica_groups=\[(\d+),(\d+)\]<=", rest):
        return int(found[2])
    if found := re.search(r"replica_groups=\{\{([\d,]*)\}", rest):
        return len(found[1].split(","))
    return 2


def collectives(text: str) -> tuple[Collective, ...]:
    """The messages among chips in one run of a compiled program, those of one kind and size together."""
    computations, entry = parse(text)
    types = {i.name: i.type for inside in computations.values() for i in inside}
    found: dict[tuple[str, int, int], int] = {}
    for instruction, times in run(computations, entry):
        called = re.search(r"calls=%([\w.-]+)", instruction.rest)
        inside = computations[called[1]] if called else [instruction]
        # A message that goes on beside several kernels stands in each of them; one of them starts it.
        going_on = any("AsyncCollectiveStart" in i.rest for i in inside)
        for i in inside:
            kind = COLLECTIVE.fullmatch(i.opcode)
            if not kind or ("chain_id" in i.rest and not going_on):
                continue
            scatters = called and called[1].startswith("all-reduce-scatter")
            size = sum(array_bytes(types[name]) for name in i.operands)
            key = "reduce-scatter" if scatters else kind[1], size, group_size(i.rest)
            found[key] = found.get(key, 0) + times
    return tuple(Collective(*key, count) for key, count in found.items())


def kernels(text: str) -> tuple[Kernel, ...]:
    """What a chip runs by itself in one run of a compiled program, in its order."""
    computations, entry = parse(text)
    types = {i.name: i.type for inside in computations.values() for i in inside}
    found = []
    for i, times in run(computations, entry):
        if i.opcode in FREE or i.opcode.endswith("-done") or COLLECTIVE.fullmatch(i.opcode):
            continue
        moved = array_bytes(i.type, everywhere=False) + sum(array_bytes(types[n], everywhere=False) for n in i.operands)
        if i.opcode in ("copy-start", "slice-start"):
            moved = copied(i.type)
        name = re.search(r'op_name="([^"]*)"', i.rest)
        cycles = re.search(r'"estimated_cycles":"(\d+)"', i.rest)
        found.append(Kernel(name[1] if name else i.name, moved, int(cycles[1]) if cycles else 0, times))
    return tuple(found)


# The arithmetic.


class Program(NamedTuple):
    """One step on one chip.

    Attributes:
      memory: bytes of HBM that it takes.
      fits: whether the chip has them; where not, nothing else is known.
      flops: operations.
      kernels: what it runs.
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
      compute: its FLOPs at the peak of the chip.
      memory: its bytes at the bandwidth of HBM.
      kernels: what the compiler expects its kernels to take; nan where the clock is not known.
      messages: its collectives, as if none were hidden behind computation.
      step: the longest of the first three, and the messages.
      utilisation: `compute` / `step`.
    """

    compute: float
    memory: float
    kernels: float
    messages: float
    step: float
    utilisation: float


def estimate(program: Program, place: Slice) -> Estimate:
    """The time of one step on the chips of a slice."""
    chip = place.chip
    compute, memory = program.flops / chip.flops, program.bytes / chip.bandwidth
    kernels = program.cycles / chip.clock
    messages = sum(c.count * message_seconds(c, place) for c in program.collectives)
    # nan, which is no time, is never the longest.
    step = max(t for t in (compute, memory, kernels) if not math.isnan(t)) + messages
    return Estimate(compute, memory, kernels, messages, step, compute / step)


def message_seconds(collective: Collective, place: Slice) -> float:
    """Of one collective whose chips send at once over all links, in rings, and wait for the first byte from afar.

    A ring of n chips passes each byte n - 1 times, in n parts, and twice for an all-reduce (Patarasuk and Yuan 2009,
    J. Parallel Distrib. Comput. 69:117).
    """
    kind, size, n, _ = collective
    links = sum(2 if side % place.chip.ring == 0 else 1 for side in place.shape if side > 1)
    far = sum(side // 2 if side % place.chip.ring == 0 else side - 1 for side in place.shape)
    if n < place.chips:
        # The groups of one collective share the links; how far their chips lie apart is not known, but no farther.
        far = min(far, n - 1)
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
    return rounds * far * HOP + passes * size / (links * place.chip.link)


def largest(fits: Callable[[int], bool], start: int, unit: int) -> int:
    """The largest multiple of `unit` that fits, but for a share of `PRECISION`, by bisection; 0 for none.

    A trial may take minutes: from `start` it goes on in steps that double, so that a good start needs two.

    Args:
      fits: whether so many do; if some do, fewer do.
      start: where to begin; a multiple of `unit`.
      unit: the least number.
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
