"""Compiled steps read back (tests/golden/make_hlo.py), against what their shapes say; arithmetic in closed form."""

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning import tpu

from jaxssl.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden"
HIDDEN, WIDTH = 2048, 512
WEIGHTS = 4 * HIDDEN * WIDTH  # Bytes of one of the two matrices, in float32.
FSDP, PARTS = ((GOLDEN / f"hlo_{name}.txt").read_text() for name in ("fsdp", "parts"))


def messages(text, kind):
    """{(bytes, group): count} of one kind of collective."""
    return {(c.bytes, c.group): c.count for c in tpu.collectives(text) if c.kind == kind}


def test_weights_split_among_four_are_gathered_and_their_gradients_scattered():
    # Both matrices, in bfloat16, of which each chip brings a quarter.
    assert messages(FSDP, "all-gather")[WEIGHTS // 2 // 4, 4] == 2
    assert messages(FSDP, "reduce-scatter") == {(WEIGHTS, 4): 2}
    # What a chip keeps of both is added up along the other axis of the mesh.
    assert messages(FSDP, "all-reduce")[2 * WEIGHTS // 4, 4] == 1


def test_a_loop_counts_as_often_as_it_runs():
    # A mean over the batch forth and back in each of three parts, and both gradients once, after the loop.
    assert messages(PARTS, "all-reduce") == {(4 * HIDDEN, 16): 6, (2 * WEIGHTS, 16): 1}
    looped = {k.name for k in tpu.kernels(PARTS) if k.count == 3}
    assert any("while/body" in name and "dot_general" in name for name in looped)
    assert {k.count for k in tpu.kernels(FSDP)} == {1}


@pytest.mark.parametrize("text", [FSDP, PARTS])
def test_kernels_have_the_cycles_of_the_text(text):
    entry = text[text.index("\nENTRY") :]
    assert text.count("\nENTRY") == 1 and "estimated_cycles" in entry
    once = sum(map(int, re.findall(r'"estimated_cycles":"(\d+)"', entry)))
    assert sum(k.cycles for k in tpu.kernels(text) if k.count == 1) >= once > 0
    if text == FSDP:  # Nothing runs elsewhere.
        assert sum(k.cycles for k in tpu.kernels(text)) == once


def test_bytes_are_at_least_those_of_the_weights_read_and_written():
    own = 2 * WEIGHTS // 4
    moved = sum(k.bytes * k.count for k in tpu.kernels(FSDP))
    assert 2 * own <= moved < 20 * own


# One line of each notation, with what it says by its shapes.
LINES = """
%loop_body (p: s32[]) -> s32[] {
  %x = f32[8,128]{1,0:T(8,128)} parameter(0)
  %s = (f32[8,128]{1,0}, f32[32,128]{1,0}) all-gather-start(%x), replica_groups=[4,4]<=[16], dimensions={0}
  %d = f32[32,128]{1,0} all-gather-done(%s)
}

%cond (p: s32[]) -> pred[] {
  %n = s32[]{:T(128)} constant(5)
  ROOT %lt = pred[] compare(%p, %n), direction=LT
}

ENTRY %main (a: bf16[64]) -> bf16[64] {
  %a = bf16[64]{0} parameter(0)
  %w = s32[] while(%a), condition=%cond, body=%loop_body
  %r = (bf16[64]{0}, /*index=1*/bf16[64]{0}) all-reduce(%a, %a), replica_groups={{0,1},{2,3}}, to_apply=%add
  %m = bf16[64]{0} all-reduce(%a), replica_groups=mesh['p'=4,'q'=2], device_ids=([4,2]T(1,0)) {'q'}, to_apply=%add
  %c = bf16[64]{0:S(1)} collective-permute(%a), source_target_pairs={{0,1},{1,0}}
  %k = (bf16[64]{0:S(1)}, bf16[64]{0}, u32[]{:S(2)}) copy-start(%a)
  %l = ((bf16[64]{0}), bf16[16]{0:S(1)}, s32[]{:S(2)}) slice-start(%a), slice={[0:16]}
  ROOT %z = bf16[64]{0} add(%a, %c), metadata={op_name="jit(f)/add"}, backend_config={"estimated_cycles":"7"}
}
"""


def test_each_notation_is_read():
    assert set(tpu.collectives(LINES)) == {
        tpu.Collective("all-gather", 4 * 8 * 128, 4, 5),
        tpu.Collective("all-reduce", 2 * 2 * 64, 2, 1),
        tpu.Collective("all-reduce", 2 * 64, 2, 1),
        tpu.Collective("collective-permute", 2 * 64, 2, 1),
    }
    copied, sliced, added = tpu.kernels(LINES)
    # %c lies in the chip's own memory.
    assert added == tpu.Kernel("jit(f)/add", 2 * 2 * 64, 7, 1)
    assert (copied.bytes, sliced.bytes) == (2 * 64, 2 * 16)


@pytest.mark.parametrize(
    ("topology", "links", "far"), [("v5e:2x2", 2, 2), ("v5e:4x4", 2, 6), ("v5e:16x16", 4, 16), ("v5e:1x4", 1, 3)]
)
def test_an_all_reduce_passes_all_bytes_twice_over_the_links_there_are(topology, links, far):
    place = tpu.parse_topology(topology)
    n, size = place.chips, 10**8
    expected = 2 * (n - 1) / n * size / (links * 50e9) + 2 * far * 1e-6
    assert tpu.message_seconds(tpu.Collective("all-reduce", size, n, 1), place) == pytest.approx(expected)


def test_a_reduce_scatter_and_an_all_gather_are_an_all_reduce():
    place = tpu.parse_topology("v4:4x4x4")
    size, n = 64 * 10**6, 64
    whole, scatter, gather = (
        tpu.message_seconds(tpu.Collective(kind, b, n, 1), place)
        for kind, b in (("all-reduce", size), ("reduce-scatter", size), ("all-gather", size // n))
    )
    assert whole == pytest.approx(scatter + gather)


def test_one_chip_has_no_one_to_wait_for():
    assert tpu.message_seconds(tpu.Collective("all-reduce", 10**9, 1, 1), tpu.parse_topology("v5e:1x1")) == 0


@pytest.mark.parametrize(
    ("flops", "bytes", "cycles", "step"),
    [(197e12, 1, 1, 1.0), (1.0, 2 * 819 * 10**9, 1, 2.0), (1.0, 1, 3 * 1_500_000_000, 3.0)],
)
def test_a_step_is_as_slow_as_its_narrowest(flops, bytes, cycles, step):
    program = tpu.Program(0, True, flops, (tpu.Kernel("", bytes, cycles, 1),))
    found = tpu.estimate(program, tpu.parse_topology("v5e:4x4"))
    assert found.step == pytest.approx(step)
    assert found.utilisation == pytest.approx(flops / 197e12 / step)


def test_messages_come_on_top_and_a_clock_may_be_unknown():
    collective = tpu.Collective("all-reduce", 10**9, 16, 3)
    program = tpu.Program(0, True, 918e12, (tpu.Kernel("", 1, 10**12, 1),), (collective,))
    place = tpu.parse_topology("v6e:4x4")
    found = tpu.estimate(program, place)
    assert math.isnan(found.kernels)
    assert found.step == pytest.approx(1 + 3 * tpu.message_seconds(collective, place))


@given(st.integers(0, 10**6), st.integers(1, 4096), st.sampled_from([1, 16, 256]))
def test_the_largest_batch_is_found_from_anywhere(limit, start, unit):
    tried = []

    def fits(n):
        tried.append(n)
        return n <= limit

    found = tpu.largest(fits, start * unit, unit)
    assert found % unit == 0 and found <= limit
    best = limit // unit * unit
    assert best - found <= max(unit, found / 8)
    assert len(tried) == len(set(tried)) <= 30


@pytest.mark.parametrize(("limit", "start"), [(1000, 960), (1000, 992), (1000, 1008)])
def test_a_good_start_needs_few_trials(limit, start):
    tried = []
    tpu.largest(lambda n: tried.append(n) or n <= limit, start, 16)
    assert len(tried) == 2


@pytest.mark.parametrize("name", ["v5:4x4", "v5e", "v5e:4", "v5e:4x4x4", "v5e:0x4", "v5e:32x32", "v5e:axb", "v5p:4"])
def test_a_slice_that_cannot_be_is_refused(name):
    with pytest.raises(UserError, match="topology"):
        tpu.parse_topology(name)


def test_figures_of_chips_agree_with_each_other():
    # Multipliers: cycles x chips of 128 x 128 units, two operations each.
    for kind, units in (("v4", 8), ("v5e", 4), ("v5p", 8)):
        assert tpu.CHIPS[kind].flops == pytest.approx(tpu.CHIPS[kind].clock * units * 128**2 * 2, rel=0.01)
    # The published all-reduce bandwidth of a whole pod.
    for kind, pod in (("v4", 1.1e15), ("v5e", 51.2e12), ("v6e", 102.4e12)):
        chip = tpu.CHIPS[kind]
        assert chip.pod * chip.link * 2 * chip.axes == pytest.approx(pod, rel=0.01)
