"""Read a program compiled for TPUs or GPUs: its kernels and its messages between chips, from the compiler's text."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple


class Collective(NamedTuple):
    """Messages of one kind and size between chips.

    Attributes:
      kind: "all-reduce", "all-gather", "reduce-scatter", "all-to-all" or "collective-permute".
      bytes: contributed by each chip.
      group: number of chips that take part together.
      count: occurrences per step.
    """

    kind: str
    bytes: int
    group: int
    count: int


class Kernel(NamedTuple):
    """One instruction of the program.

    Attributes:
      name: its origin, such as "jit(step)/jvp(ResNet)/conv1/conv_general_dilated"; else the instruction's own name.
      bytes: moved to and from HBM, each operand and result once.
      cycles: estimated by the compiler; 0 if it gives no estimate.
      count: runs per step.
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
# These move nothing. The work of a loop or a call is in the computation that it names.
FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "partition-id", "copy-done", "after-all")


def parse(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """Return the instructions of each computation of a compiled program, and the name of its entry computation."""
    computations, entry, inside = {}, "", []
    for line in text.splitlines():
        if head := COMPUTATION.match(line):
            inside = computations[head[2]] = []
            entry = head[2] if head[1] else entry
        elif match := INSTRUCTION.match(re.sub(r"/\*index=\d+\*/", "", line)):
            operands, _, rest = match[4].partition(")")
            names = operands.split(", ") if match[3] == "constant" else re.findall(r"%([^\s,()]+)", operands)
            inside.append(Instruction(match[1], match[2], match[3], tuple(names), rest))
    return computations, entry


def walk(computations: dict[str, list[Instruction]], name: str, times: int = 1) -> Iterator[tuple[Instruction, int]]:
    """Yield each instruction of a computation and of those it calls, with its runs per step; fusions stay whole."""
    for instruction in computations[name]:
        inner = re.findall(r"(?:body|to_apply|\w+_computation)=%([\w.-]+)", instruction.rest)
        if instruction.opcode == "while":
            known = re.search(r'"known_trip_count":\{"n":"(\d+)"', instruction.rest)
            condition = re.search(r"condition=%([\w.-]+)", instruction.rest)[1]
            rounds = int(known[1]) if known else trip_count(computations[condition])
            yield from walk(computations, inner[0], times * rounds)
        elif instruction.opcode in ("call", "conditional"):
            for called in inner:
                yield from walk(computations, called, times)
        else:
            yield instruction, times


def trip_count(condition: list[Instruction]) -> int:
    """Return the rounds of a loop that counts up from 0: the number in its condition, or 1 if there is none."""
    numbers = [i.operands[0] for i in condition if i.opcode == "constant" and i.type.startswith("s32[]")]
    return max(map(int, numbers), default=1)


def array_bytes(type: str, hbm_only: bool = False) -> int:
    """Return the bytes of all arrays of a type, or only of those in HBM, which is memory space 0."""
    total = 0
    for kind, shape, layout in ARRAY.findall(type):
        if not (hbm_only and re.search(r"S\([1-9]\d*\)", layout)):
            bits = {"pred": 8, "bf16": 16}.get(kind) or int(kind[1:])
            total += math.prod(int(n) for n in shape.split(",") if n) * bits // 8
    return total


def copied_bytes(type: str) -> int:
    """Return the bytes that an asynchronous copy moves to and from HBM; its type names both ends."""
    ends = [match[0] for match in ARRAY.finditer(type)][:2]  # The smaller one is what is copied.
    return min(map(array_bytes, ends)) * sum(array_bytes(end, hbm_only=True) > 0 for end in ends)


def group_size(rest: str) -> int:
    """Return the number of chips in a group of a collective, from any of its three notations; 2 for pairs."""
    if match := re.search(r"replica_groups=mesh\[(.*?)\].*?\{([^{}]*)\}", rest):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", match[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", match[2]))
    if match := re.search(r"replica_groups=\[(\d+),(\d+)\]<=", rest):
        return int(match[2])
    if match := re.search(r"replica_groups=\{\{([\d,]*)\}", rest):
        return len(match[1].split(","))
    return 2


def collectives(text: str) -> tuple[Collective, ...]:
    """Return the messages between chips in one run of a compiled program, grouped by kind, size and group."""
    computations, entry = parse(text)
    types = {i.name: i.type for inside in computations.values() for i in inside}
    counts: dict[tuple[str, int, int], int] = {}
    for instruction, times in walk(computations, entry):
        called = re.search(r"calls=%([\w.-]+)", instruction.rest)
        inside = computations[called[1]] if called else [instruction]
        # A message that overlaps several kernels is listed in each of them; only one of them starts it.
        starts_here = any("AsyncCollectiveStart" in i.rest for i in inside)
        for i in inside:
            kind = COLLECTIVE.fullmatch(i.opcode)
            if not kind or ("chain_id" in i.rest and not starts_here):
                continue
            scatters = called and called[1].startswith("all-reduce-scatter")
            size = sum(array_bytes(types[name]) for name in i.operands)
            key = "reduce-scatter" if scatters else kind[1], size, group_size(i.rest)
            counts[key] = counts.get(key, 0) + times
    return tuple(Collective(*key, count) for key, count in counts.items())


def kernels(text: str) -> tuple[Kernel, ...]:
    """Return what a chip computes in one run of a compiled program, in order."""
    computations, entry = parse(text)
    types = {i.name: i.type for inside in computations.values() for i in inside}
    result = []
    for i, times in walk(computations, entry):
        if i.opcode in FREE or i.opcode.endswith("-done") or COLLECTIVE.fullmatch(i.opcode):
            continue
        if i.opcode in ("copy-start", "slice-start"):
            moved = copied_bytes(i.type)
        else:
            moved = sum(array_bytes(type, hbm_only=True) for type in (i.type, *(types[n] for n in i.operands)))
        name = re.search(r'op_name="([^"]*)"', i.rest)
        cycles = re.search(r'"estimated_cycles":"(\d+)"', i.rest)
        result.append(Kernel(name[1] if name else i.name, moved, int(cycles[1]) if cycles else 0, times))
    return tuple(result)
