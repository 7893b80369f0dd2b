"""A run that is killed, has no room or no right to write, or is damaged: it ends as undisturbed, or says why not."""

import json
import multiprocessing
import os
import random
import runpy
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxssl.training import checkpoint, metrics, runtime
from tests.run.test_experiment import outcome, restore

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
KILLS = 20
TIMES = ("seconds", "validation_seconds", "images_per_second")


@pytest.fixture(scope="module")
def server():
    """Runs are forked from a process that has imported everything, which takes longer than most of them live."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["jaxssl.run.experiment"])
    return context


def go(workdir, said):
    for number, place in ((1, os.devnull), (2, said)):
        os.dup2(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.setdefault(*runtime.HUGE_PAGES)  # It would start anew to have them, and no process is like this one.
    # Checkpoints every two steps.
    sys.argv = ["jaxssl", f"--config={ROOT}/tests/tiny_config.py", f"--workdir={workdir}"]
    sys.argv += ["--config.transfer.save_every=2", "--config.transfer.protocols=('probe','finetune')"]
    runpy.run_module("jaxssl.main", run_name="__main__")


def start(server, workdir):
    process = server.Process(target=go, args=(workdir, workdir.with_suffix(".said")))
    process.start()
    return process


def run_to_the_end(server, workdir):
    """What it said."""
    process = start(server, workdir)
    process.join()
    said = workdir.with_suffix(".said").read_text()
    assert process.exitcode == 0, said
    return said


def wait_for(process, happened):
    while process.is_alive() and not happened():
        time.sleep(0.001)


def has_row(workdir, phase, step):
    return any(row["step"] >= step for row in metrics.read(workdir, phase))


def is_half_written(workdir):
    """Whether a checkpoint is, or its checksums are missing."""
    unfinished = workdir.glob("checkpoints/*/*.orbax-checkpoint-tmp*")
    places = (p for p in workdir.glob("checkpoints/*/[0-9]*") if p.is_dir() and "tmp" not in p.name)
    return any(unfinished) or any(not checkpoint.checksum_file(place).exists() for place in places)


@pytest.fixture(scope="module")
def whole(server, tmp_path_factory):
    """An undisturbed run, and how long it took."""
    workdir, began = tmp_path_factory.mktemp("whole") / "run", time.monotonic()
    run_to_the_end(server, workdir)
    return workdir, time.monotonic() - began


def assert_same(one, other):
    """Results, predictions, every row but its times, and the last checkpoints, to the bit."""
    assert outcome(one) == outcome(other)
    rows = [[{k: v for k, v in r.items() if k not in TIMES} for r in metrics.read(w)]
            for w in (one, other)]  # fmt: skip
    assert rows[0] == rows[1]
    for name in ("pretrain", "encoder", "finetune_ssl", "finetune_random"):
        jax.tree.map(np.testing.assert_array_equal, *(restore(w / "checkpoints" / name) for w in (one, other)))
    assert not [*one.rglob("*.part"), *one.rglob("*orbax-checkpoint-tmp*")]


def test_killed_at_twenty_random_moments(server, whole, tmp_path):
    undisturbed, seconds = whole
    moments, killed, half_written, ended = random.Random(0), 0, 0, []
    while killed < KILLS:
        workdir = tmp_path / f"run{len(ended)}"
        process = start(server, workdir)
        if killed % 2:
            wait_for(process, lambda workdir=workdir: is_half_written(workdir))
        else:
            process.join(moments.uniform(0, seconds))
        process.kill()
        process.join()
        if process.exitcode == 0:
            ended.append(workdir)
        else:
            killed += 1
            half_written += is_half_written(workdir)
    run_to_the_end(server, workdir)
    assert half_written >= 5
    for place in {*ended, workdir}:
        assert_same(place, undisturbed)


def test_preempted_at_random_moments(server, whole, tmp_path):
    """Within a training or between two, and all is saved."""
    moments, workdir, codes = random.Random(1), tmp_path / "run", []
    for _ in range(6):
        process = start(server, workdir)
        wait_for(process, lambda: (workdir / ".lock0").exists())
        process.join(moments.uniform(0, whole[1] / 2))
        process.terminate()
        process.join()
        codes.append(process.exitcode)
        if process.exitcode:
            assert "run the same command again" in workdir.with_suffix(".said").read_text()
    assert set(codes) <= {0, 75} and 75 in codes, codes
    run_to_the_end(server, workdir)
    assert_same(workdir, whole[0])


def command(*arguments):
    """Skips the test where this is not allowed."""
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{arguments[0]}: {done.stderr.strip()}")


def expect_one_line(process, workdir, *parts):
    process.join()
    said = workdir.with_suffix(".said").read_text()
    assert process.exitcode == 2, said
    # A disk that fills up within a checkpoint lets TensorStore speak first.
    *before, line = said.splitlines()
    assert line.startswith("jaxssl: ") and not any(text.startswith("jaxssl: ") for text in before), said
    for part in parts:
        assert part in line


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    command("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place))
    yield place
    command("umount", "-l", str(place))


@pytest.mark.parametrize(("phase", "step"), [("pretrain", 1), ("finetune_ssl", 2)])
def test_a_full_disk(server, whole, small_disk, tmp_path, phase, step):
    workdir, filler = tmp_path / "run", small_disk / "filler"
    workdir.symlink_to(small_disk / "run")
    (small_disk / "run").mkdir()
    process = start(server, workdir)
    wait_for(process, lambda: has_row(workdir, phase, step))
    with open(filler, "wb", buffering=0) as file:
        for size in (2**20, 4096):
            while True:
                try:
                    file.write(bytes(size))
                except OSError:
                    break
    expect_one_line(process, workdir, str(workdir), "No space left on device: free some space")
    expect_one_line(start(server, workdir), workdir, "No space left on device: free some space")
    filler.unlink()
    run_to_the_end(server, workdir)
    assert_same(workdir, whole[0])


@pytest.mark.parametrize("place", ["checkpoints/pretrain", "checkpoints", "."])
def test_write_permission_taken_away(server, whole, tmp_path, place):
    workdir = tmp_path / "run"
    process = start(server, workdir)
    wait_for(process, lambda: has_row(workdir, "pretrain", 1) and (workdir / place).is_dir())
    folder = str(workdir / place)
    root = os.geteuid() == 0  # To whom permissions mean nothing.
    command(*(("chattr", "+i") if root else ("chmod", "a-w")), folder)
    try:
        expect_one_line(process, workdir, str(workdir), "allow writing")
    finally:
        command(*(("chattr", "-i") if root else ("chmod", "u+w")), folder)
    run_to_the_end(server, workdir)
    assert_same(workdir, whole[0])


def test_the_newest_checkpoint_damaged(server, whole, tmp_path):
    workdir = tmp_path / "run"
    folder = workdir / "checkpoints" / "pretrain"
    process = start(server, workdir)
    wait_for(process, lambda: len(checkpoint.list_steps(folder)) == 2)
    process.kill()
    process.join()
    newest = folder / str(checkpoint.list_steps(folder)[0])
    file = max((f for f in newest.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    said = run_to_the_end(server, workdir)
    assert f"{newest} is damaged" in said
    assert_same(workdir, whole[0])
    assert json.loads((workdir / "results.json").read_text())["evaluations"]
