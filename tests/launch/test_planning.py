"""Compiled steps (tests/golden/make_hlo.py) are parsed as their shapes require; estimates agree with closed forms."""

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning import chips, estimate, hlo

from tests.refusals import refuses

GOLDEN = Path(__file__).parents[1] / "golden"
HIDDEN, WIDTH = 2048, 512
WEIGHTS = 4 * HIDDEN * WIDTH  # Bytes of one of the two matrices, in float32.
FSDP, PARTS = ((GOLDEN / f"hlo_{name}.txt").read_text() for name in ("fsdp", "parts"))


def messages(text, kind):
    """{(bytes, group): count} of one kind of collective."""
    return {(c.bytes, c.group): c.count for c in hlo.collectives(text) if c.kind == kind}


def test_fsdp_gathers_weights_and_scatters_gradients():
    # Both matrices, in bfloat16; each chip contributes a quarter.
    assert messages(FSDP, "all-gather")[WEIGHTS // 2 // 4, 4] == 2
    assert messages(FSDP, "reduce-scatter") == {(WEIGHTS, 4): 2}
    # A chip's part of both gradients is summed along the other axis of the mesh.
    assert messages(FSDP, "all-reduce")[2 * WEIGHTS // 4, 4] == 1


def test_a_loop_is_counted_once_per_round():
    # A mean over the batch, forward and backward, in each of three parts; both gradients once, after the loop.
    assert messages(PARTS, "all-reduce") == {(4 * HIDDEN, 16): 6, (2 * WEIGHTS, 16): 1}
    looped = {k.name for k in hlo.kernels(PARTS) if k.count == 3}
    assert any("while/body" in name and "dot_general" in name for name in looped)
    assert {k.count for k in hlo.kernels(FSDP)} == {1}


@pytest.mark.parametrize("text", [FSDP, PARTS])
def test_kernels_have_the_cycles_of_the_text(text):
    entry = text[text.index("\nENTRY") :]
    assert text.count("\nENTRY") == 1 and "estimated_cycles" in entry
    once = sum(map(int, re.findall(r'"estimated_cycles":"(\d+)"', entry)))
    assert sum(k.cycles for k in hlo.kernels(text) if k.count == 1) >= once > 0
    if text == FSDP:  # There is no loop and no call.
        assert sum(k.cycles for k in hlo.kernels(text)) == once


def test_bytes_include_reading_and_writing_the_weights():
    own = 2 * WEIGHTS // 4
    moved = sum(k.bytes * k.count for k in hlo.kernels(FSDP))
    assert 2 * own <= moved < 20 * own


# One line of each notation.
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


def test_each_notation_is_parsed():
    assert set(hlo.collectives(LINES)) == {
        hlo.Collective("all-gather", 4 * 8 * 128, 4, 5),
        hlo.Collective("all-reduce", 2 * 2 * 64, 2, 1),
        hlo.Collective("all-reduce", 2 * 64, 2, 1),
        hlo.Collective("collective-permute", 2 * 64, 2, 1),
    }
    copied, sliced, added = hlo.kernels(LINES)
    # %c is not in HBM.
    assert added == hlo.Kernel("jit(f)/add", 2 * 2 * 64, 7, 1)
    assert (copied.bytes, sliced.bytes) == (2 * 64, 2 * 16)


@pytest.mark.parametrize(
    ("topology", "links", "hops"),
    [("v5e:2x2", 2, 2), ("v5e:4x4", 2, 6), ("v5e:16x16", 4, 16), ("v5e:1x4", 1, 3), ("h100:8", 9, 4)],
)
def test_an_all_reduce_passes_all_bytes_twice(topology, links, hops):
    place = chips.parse_topology(topology)
    n, size = place.chips, 10**8
    expected = 2 * (n - 1) / n * size / (links * 50e9) + 2 * hops * 1e-6
    assert estimate.message_seconds(hlo.Collective("all-reduce", size, n, 1), place) == pytest.approx(expected)


def test_a_reduce_scatter_and_an_all_gather_cost_an_all_reduce():
    place = chips.parse_topology("v4:4x4x4")
    size, n = 64 * 10**6, 64
    whole, scatter, gather = (
        estimate.message_seconds(hlo.Collective(kind, b, n, 1), place)
        for kind, b in (("all-reduce", size), ("reduce-scatter", size), ("all-gather", size // n))
    )
    assert whole == pytest.approx(scatter + gather)


def test_one_chip_sends_no_messages():
    assert estimate.message_seconds(hlo.Collective("all-reduce", 10**9, 1, 1), chips.parse_topology("v5e:1x1")) == 0


@pytest.mark.parametrize(
    ("flops", "bytes", "cycles", "step"),
    [(197e12, 1, 1, 1.0), (1.0, 2 * 819 * 10**9, 1, 2.0), (1.0, 1, 3 * 1_500_000_000, 3.0)],
)
def test_a_step_takes_as_long_as_its_bottleneck(flops, bytes, cycles, step):
    program = estimate.Program(0, True, flops, (hlo.Kernel("", bytes, cycles, 1),))
    found = estimate.estimate_step(program, chips.parse_topology("v5e:4x4"))
    assert found.step == pytest.approx(step)
    assert found.utilisation == pytest.approx(flops / 197e12 / step)


def test_messages_are_added_and_the_clock_may_be_unknown():
    collective = hlo.Collective("all-reduce", 10**9, 16, 3)
    program = estimate.Program(0, True, 918e12, (hlo.Kernel("", 1, 10**12, 1),), (collective,))
    place = chips.parse_topology("v6e:4x4")
    found = estimate.estimate_step(program, place)
    assert math.isnan(found.kernels)
    assert found.step == pytest.approx(1 + 3 * estimate.message_seconds(collective, place))


@given(st.integers(0, 10**6), st.integers(1, 4096), st.sampled_from([1, 16, 256]))
def test_the_largest_batch_is_found_from_anywhere(limit, start, unit):
    tried = []

    def fits(n):
        tried.append(n)
        return n <= limit

    found = estimate.search_largest(fits, start * unit, unit)
    assert found % unit == 0 and found <= limit
    best = limit // unit * unit
    assert best - found <= max(unit, found / 8)
    assert len(tried) == len(set(tried)) <= 30


@pytest.mark.parametrize(("limit", "start"), [(1000, 960), (1000, 992), (1000, 1008)])
def test_a_good_start_needs_few_trials(limit, start):
    tried = []
    estimate.search_largest(lambda n: tried.append(n) or n <= limit, start, 16)
    assert len(tried) == 2


@pytest.mark.parametrize(
    "name", ["v5:4x4", "v5e", "h100:16", "h100:2x4", "v5e:4", "v5e:4x4x4", "v5e:0x4", "v5e:32x32", "v5e:axb", "v5p:4"]
)
def test_an_impossible_slice_is_refused(name):
    with refuses("unknown-name" if name == "v5:4x4" else "out-of-range", "topology", repr(name)):
        chips.parse_topology(name)


def test_figures_of_chips_agree_with_each_other():
    # Peak FLOP/s: clock x matrix units of 128 x 128 x two operations.
    for kind, units in (("v4", 8), ("v5e", 4), ("v5p", 8)):
        assert chips.CHIPS[kind].flops == pytest.approx(chips.CHIPS[kind].clock * units * 128**2 * 2, rel=0.01)
    # The published all-reduce bandwidth of a whole pod.
    for kind, pod in (("v4", 1.1e15), ("v5e", 51.2e12), ("v6e", 102.4e12)):
        chip = chips.CHIPS[kind]
        assert chip.pod * chip.link * 2 * chip.axes == pytest.approx(pod, rel=0.01)
