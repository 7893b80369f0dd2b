"""Public figures of TPU chips, and slices of them."""

import math
import re
from typing import NamedTuple

from jaxssl.errors import UserError, did_you_mean

GIB = 2**30


class Chip(NamedTuple):
    """Public figures of a chip.

    Attributes:
      flops: peak bfloat16 FLOP/s.
      memory: bytes of HBM.
      bandwidth: bytes/s of HBM.
      clock: cycles/s, computed as `flops` over the operations of its matrix units; nan if their number is not clear.
      link: bytes/s of one link to a neighbour, in one direction.
      axes: of the mesh of links; a chip has two links along each axis.
      ring: an axis whose length is a multiple of this is closed to a ring; on others, the end chips have one link.
      pod: the largest number of chips that links join.
      cores: option that makes the compiler treat both cores of a chip as one device; "" for chips with one core.
      source: of these figures.
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
# Links: all-reduce bandwidth of a pod divided by its chips and their links; for v5p, the chip's bandwidth by its links.
CHIPS = {
    "v4": Chip(275e12, 32 * GIB, 1200e9, 1.05e9, 45e9, 3, 4, 4096, "megacore", DOCS + "v4"),
    "v5e": Chip(197e12, 16 * GIB, 819e9, 1.5e9, 50e9, 2, 16, 256, "", DOCS + "v5e"),
    "v5p": Chip(459e12, 95 * GIB, 2765e9, 1.75e9, 100e9, 3, 4, 8960, "megacore", DOCS + "v5p"),
    "v6e": Chip(918e12, 32 * GIB, 1638e9, math.nan, 100e9, 2, 16, 256, "", DOCS + "v6e"),
}


class Slice(NamedTuple):
    """Chips joined by links, such as "v5e:4x4"."""

    name: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def chips(self) -> int:
        return math.prod(self.shape)


def parse_topology(name: str) -> Slice:
    """Parse "v5e:4x4". Raises UserError unless the chip is in `CHIPS` and a slice of it can have these sides."""
    kind, _, sides = name.partition(":")
    if kind not in CHIPS:
        raise UserError(
            f"topology {name!r}: {kind!r} is not a known chip: {did_you_mean(kind, CHIPS)}use {', '.join(CHIPS)}",
            code="unknown-name",
            field="topology",
        )
    chip = CHIPS[kind]
    shape = tuple(map(int, re.findall(r"\d+", sides)))
    if not re.fullmatch(r"\d+(x\d+)*", sides) or len(shape) != chip.axes or 0 in shape:
        example = "x".join(["4"] * chip.axes)
        raise UserError(
            f"topology {name!r} needs {chip.axes} sides, such as {kind}:{example}",
            code="out-of-range",
            field="topology",
        )
    if math.prod(shape) > chip.pod:
        raise UserError(
            f"topology {name!r} has {math.prod(shape)} chips; a pod of {kind} has at most {chip.pod}",
            code="out-of-range",
            field="topology",
        )
    return Slice(name, chip, shape)
