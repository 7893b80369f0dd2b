"""Absurd input needs neither the memory nor the time that it states: the table in docs/robustness.md."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import absurd, tiny_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="files of zeros without space, and /proc, are of Linux"),
]

ROOT = Path(__file__).parents[2]
# Not getrusage: it begins with the peak of the parent process.
CHILD = """
import re, sys
from jaxssl.cli import messages
from jaxssl.cli.parser import main
messages.configure()
code = main(sys.argv[1:])
peak = int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
print(f"PEAK {peak // 1024}")
sys.exit(code)
"""
USUAL = 600  # MiB; importing everything takes half of it.


def peak_of(*arguments, code):
    """MiB at most in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    return int(done.stdout.rpartition("PEAK ")[2])


def report(capsys, kind, peak):
    with capsys.disabled():
        print(f"\n| {kind} | {peak} MiB |")


@pytest.mark.parametrize("kind", absurd.IMAGES)
def test_images(kind, tmp_path, capsys):
    name, write = absurd.IMAGES[kind]
    folder = tiny_run.write_images(tmp_path / "images", 4)
    write(folder / "dark" / name)
    peak = peak_of("data", "audit", folder, f"--to={tmp_path}/audit.json", code=0)
    report(capsys, kind, peak)
    # 81 million pixels are allowed.
    assert peak < (3000 if "81 million" in kind else USUAL)


@pytest.mark.parametrize("kind", absurd.ARCHIVES)
def test_archives(kind, tmp_path, capsys):
    absurd.ARCHIVES[kind](tmp_path / "x.npz")
    peak = peak_of("data", "audit", tmp_path / "x.npz", f"--to={tmp_path}/audit.json", code=2)
    report(capsys, kind, peak)
    assert peak < USUAL


@pytest.mark.parametrize("kind", absurd.SAFETENSORS)
def test_weights(kind, tmp_path, capsys):
    absurd.SAFETENSORS[kind](tmp_path / "x.safetensors")
    peak = peak_of("weights", tmp_path / "x.safetensors", code=2)
    report(capsys, f"safetensors: {kind}", peak)
    assert peak < USUAL


def test_a_table_of_one_long_line(tmp_path, capsys):
    folder = tiny_run.write_images(tmp_path / "images", 4)
    absurd.write_long_line(tmp_path / "labels.csv")
    options = f"--options=table={tmp_path}/labels.csv"
    peak = peak_of("data", "audit", folder, options, f"--to={tmp_path}/audit.json", code=2)
    report(capsys, "table of 2 GB in a line", peak)
    assert peak < 2 * USUAL


@pytest.mark.parametrize("name", ["config.json", "splits.json", "results.json"])
def test_deep_json(run, name, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    for file in run.workdir.iterdir():
        if file.name != name:
            (tmp_path / "run" / file.name).symlink_to(file)
    (tmp_path / "run" / name).write_text(absurd.nested())
    peak = peak_of("report", tmp_path / "run", code=2)
    report(capsys, f"{name} nested 100,000 deep", peak)
    assert peak < USUAL
