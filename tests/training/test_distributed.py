"""Two real processes with two devices each: one run, whatever happens to one of them and wherever it goes on."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxssl.errors import PreemptedError
from jaxssl.run import experiment
from jaxssl.run.workdir import open_workdir
from jaxssl.training import checkpoint, distributed, metrics
from tests import tiny_config
from tests.refusals import refuses

ROOT = Path(__file__).parents[2]
FIELDS = {"transfer.protocols": ("probe", "finetune"), "transfer.freeze_epochs": 0, "transfer.epochs": 1}


@contextlib.contextmanager
def started(workdir, count=2, devices=2):
    """The processes of one run; those that a test leaves are ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fields = [f"--config.{name}={value}" for name, value in (FIELDS | {"mesh.data": -1}).items()]
    command = [sys.executable, "-m", "jaxssl.main", f"--config={ROOT}/tests/tiny_config.py", f"--workdir={workdir}"]
    command += [*fields, f"--coordinator=127.0.0.1:{port}", f"--num_processes={count}"]
    given = {"cwd": ROOT, "env": os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}}
    given |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    run = [subprocess.Popen([*command, f"--process_id={i}"], **given) for i in range(count)]
    try:
        yield run
    finally:
        for process in run:
            process.kill()
            process.communicate()


def ends(run):
    """Exit codes and what was said on stderr."""
    said = [process.communicate()[1] for process in run]
    return [process.returncode for process in run], said


def wait_for(run, workdir, phase, step):
    while not any(row["step"] >= step for row in metrics.read(workdir, phase)):
        assert all(process.poll() is None for process in run), ends(run)
        time.sleep(0.02)


def outcome(workdir):
    """results.json without its times, predictions.csv, and the state at the end of pretraining."""
    text = re.sub(r'"(seconds|images_per_second)": [0-9.e+-]+', "", (workdir / "results.json").read_text())
    state = jax.tree.map(np.asarray, checkpoint.load_numpy(workdir / "checkpoints" / "pretrain"))
    return text, (workdir / "predictions.csv").read_text(), state


@pytest.mark.slow
def test_preempted_and_killed_it_ends_as_if_undisturbed_and_elsewhere_within_rounding(tmp_path):
    whole, disturbed, moved = (tmp_path / name for name in ("whole", "disturbed", "moved"))
    with started(whole) as run:
        codes, said = ends(run)
        assert codes == [0, 0], said

    # SIGTERM to the second alone: both save after the same step.
    with started(disturbed) as run:
        wait_for(run, disturbed, "pretrain", 2)
        run[1].send_signal(signal.SIGTERM)
        codes, said = ends(run)
        assert codes == [75, 75] and all("run the same command again" in text for text in said), said
    with started(disturbed) as run:
        wait_for(run, disturbed, "pretrain", 7)
        for process in run:
            process.kill()
        codes, said = ends(run)
        assert codes == [-9, -9], said
    shutil.copytree(disturbed, moved)
    with started(disturbed) as run:
        codes, said = ends(run)
        assert codes == [0, 0], said
    for a, b in zip(outcome(disturbed), outcome(whole), strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)

    # On one process with eight devices, of which two share the large parameters.
    c = tiny_config.get_config()
    c.update_from_flattened_dict(FIELDS | {"mesh.data": 4, "mesh.fsdp": 2})
    experiment.run(c, moved)
    (_, _, state), (_, _, expected) = outcome(moved), outcome(whole)
    assert state["step"] == expected["step"]
    for name in ("params", "model_state", "target"):
        # As one vector: a bias before a batch norm has no gradient but rounding, of which the optimizer makes steps.
        a, b = (np.concatenate([x.ravel() for x in jax.tree.leaves(tree[name])]) for tree in (state, expected))
        assert np.linalg.norm(a - b) < 1e-4 * np.linalg.norm(b), name
    results = [json.loads((workdir / "results.json").read_text()) for workdir in (moved, whole)]
    for a, b in zip(*(r["evaluations"] for r in results), strict=True):
        assert a["name"] == b["name"] and a["images"] == b["images"] == 24
        assert a["metrics"]["auc_macro"]["value"] == pytest.approx(b["metrics"]["auc_macro"]["value"], abs=0.05)


def test_an_error_of_one_process_ends_all_with_its_code(tmp_path):
    with open_workdir(tmp_path):
        (tmp_path / ".lock0").rename(tmp_path / ".lock1")
        with started(tmp_path) as run:
            codes, said = ends(run)
    assert codes == [2, 2] and "in use by another process" in said[1] and not said[0].strip(), said


def test_who_ended_with_a_word_is_not_called_lost(monkeypatch):
    left = []
    monkeypatch.setattr(distributed.global_state, "num_processes", 2)
    monkeypatch.setattr(distributed, "shutdown", left.append)
    closed = jax.errors.JaxRuntimeError("INTERNAL: Connection closed by peer")
    for said, codes in ((None, []), ("2", [2])):
        monkeypatch.setattr(distributed, "poll_key", {distributed.EXIT_CODE_KEY: said}.get)
        assert "was lost" in str(distributed.as_preemption(closed))
        assert left == codes


@pytest.mark.parametrize(
    ("count", "index", "field"), [(0, None, "--num_processes"), (2, 2, "--process_id"), (None, -1, "--process_id")]
)
def test_numbers_of_processes_that_there_cannot_be(count, index, field):
    with refuses("out-of-range", field):
        distributed.connect("127.0.0.1:9", count, index)


def test_who_waits_for_others_in_vain_says_so(tmp_path):
    call = f"""
import sys
from jaxssl.cli.parser import main
from jaxssl.training import distributed
distributed.JOIN_SECONDS = 1
sys.exit(main(["run", "--config={ROOT}/tests/tiny_config.py", "--workdir={tmp_path}",
               "--coordinator=127.0.0.1:9", "--num_processes=2", "--process_id=1"]))
"""
    ended = subprocess.run([sys.executable, "-c", call], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2, ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1 and "did not connect at 127.0.0.1:9" in ended.stderr


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, (1, None, None)),
        # The shell of a job for four tasks, and each task of it.
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, (1, None, None)),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, (1, None, None)),
        (
            {
                "SLURM_STEP_NUM_TASKS": "4",
                "SLURM_PROCID": "3",
                "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
                "SLURM_LOCALID": "1",
            },
            (4, 3, [1]),
        ),
        (
            {
                "SLURM_STEP_NUM_TASKS": "2",
                "SLURM_PROCID": "1",
                "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
                "SLURM_LOCALID": "0",
            },
            (2, 1, []),
        ),
        (
            {
                "OMPI_COMM_WORLD_SIZE": "8",
                "OMPI_COMM_WORLD_RANK": "5",
                "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
                "OMPI_COMM_WORLD_LOCAL_RANK": "1",
                "CUDA_VISIBLE_DEVICES": "1",
            },
            (8, 5, []),
        ),
    ],
)
def test_what_the_environment_says(environ, expected):
    assert distributed.detect_processes(environ) == expected


def test_of_a_lost_process_and_of_nothing_else(monkeypatch):
    closed = jax.errors.JaxRuntimeError("UNKNOWN: Gloo AllGather failed: Connection closed by peer")
    full = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
    with pytest.raises(jax.errors.JaxRuntimeError):
        distributed.as_preemption(closed)
    monkeypatch.setattr(distributed.global_state, "num_processes", 2)
    monkeypatch.setattr(distributed, "poll_key", lambda key: None)
    assert isinstance(distributed.as_preemption(closed), PreemptedError)
    with pytest.raises(jax.errors.JaxRuntimeError, match="out of memory"):
        distributed.as_preemption(full)
