"""Each measurement runs and can be compared with PyTorch. Speed itself is not tested."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from benchmarks import against_torch, measure

SPEC = importlib.util.spec_from_file_location("bench", Path(__file__).parents[2] / "launch" / "bench.py")
bench = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(bench)

TINY = ["--size=32", "--patch=16", "--batch=8", "--images=16", "--steps=2", "--depth=1"]


def printed(capsys, *options):
    bench.main([*TINY, *options])
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_a_full_line(capsys, monkeypatch):
    monkeypatch.setattr(measure, "first_steps", lambda a, script: [2.0, 1.0])
    found = printed(capsys, "--method=simclr", "--streamed")
    assert found["seconds"].keys() == {"read", "augment", "step", "forward", "backward", "update"}
    assert min(found[name] for name in ("images_per_second", "images_per_second_step_only", "read", "augment")) > 0
    assert found["first_step_seconds"] == {"cold": 2.0, "cached": 1.0}
    shares = found["share_of_step"]
    assert sum(shares.values()) == pytest.approx(1, abs=0.01) and min(shares["products"], shares["elementwise"]) > 0.01
    # 8 images, 2 views, 3 times the forward pass of one block a stage at 32 px: 36 MFLOP. That includes products with
    # padding, which are many in maps of 1 to 16 pixels and are not counted here.
    assert 0.5 < found["gflop_a_step"] / (8 * 2 * 3 * 0.0363) < 1


@pytest.mark.parametrize(
    "method", [*(pytest.param(method, marks=pytest.mark.slow) for method in ("byol", "mae", "supervised")), "features"]
)
def test_every_method(method, capsys):
    options = ["--model=vit_tiny", "--depth=0"] if method == "mae" else []
    found = printed(capsys, f"--method={method}", "--brief", *options)
    assert found["method"] == method and found["peak_rss_mib"] > 0


@pytest.mark.slow
def test_first_steps():
    cold, cached = measure.first_steps(bench.make_parser().parse_args([*TINY, "--method=supervised"]), bench.SCRIPT)
    assert 0 < cached < cold


@pytest.mark.slow
@pytest.mark.parametrize("what", ["batch", "size", "depth", "images"])
def test_growth(what, capsys, monkeypatch):
    values = {"batch": (8, 16), "size": (32, 64), "depth": (1, 2), "images": (16, 32)}[what]
    monkeypatch.setitem(measure.GROWTH, what, values)
    found = printed(capsys, "--method=supervised", f"--grow={what}")
    assert list(found["seconds"]) == [str(value) for value in values] and isinstance(found["exponent"], float)


def test_alternating_with_pytorch(capsys, monkeypatch, tmp_path):
    """Both get the same work in turn; the ratio is that of the medians."""
    script = "import json, sys; fast = 2 if '--bf16' in sys.argv else 1; "
    script += "print(json.dumps({'images_per_second': %d, 'images_per_second_step_only': fast * %d, "
    script += "'peak_rss_mib': 10, 'asked': sys.argv[1:]}))"
    ours, theirs = tmp_path / "ours.py", tmp_path / "theirs.py"
    ours.write_text(script % (30, 40))
    theirs.write_text(script % (20, 10))
    asked = []
    run_json = against_torch.run_json
    monkeypatch.setattr(bench, "SCRIPT", [sys.executable, str(ours)])
    monkeypatch.setattr(against_torch, "run_json", lambda command: asked.append(run_json(command)) or asked[-1])
    bench.main(["--all", "--turns=2", "--steps=3", f"--peer={sys.executable} {theirs}"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 2 * sum(in_lightly for *_, in_lightly in against_torch.LINES)
    for line, ours in zip(lines[2:4], ("float32", "mixed"), strict=True):
        assert f"| {ours}, theirs bfloat16 | **2.00**: 40 (40-40) against 20 (20-20) | **1.50**: 30 (30-30)" in line
    assert [run["images_per_second"] for run in asked[:8]] == [30, 30, 20, 20] * 2
    mae = [" ".join(run["asked"]) for run in asked if "mae" in run["asked"]]
    assert mae[0] == "--method mae --model vit_tiny --size 64 --patch 8 --batch 128 --brief --dtype=float32 --steps=3"
    assert mae[3] == "--method mae --model vit_tiny_patch16_224 --size 64 --patch 8 --batch 128 --bf16 --steps=3"
