"""A real Slurm of two nodes on this machine: a run over both that is preempted, and a sweep."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxssl.training import metrics
from tests.study.test_sweep import ROOT, tiny
from tests.training.test_distributed import FIELDS, outcome

pytestmark = pytest.mark.slow

CLUSTER = Path(__file__).with_name("cluster.sh")
# Long enough to be preempted, and no checkpoint within an epoch except that of a preemption.
LONG = {"pretrain.epochs": 12, "pretrain.save_every": 0}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A running Slurm, stopped at the end."""
    if os.getuid():
        pytest.skip("only root can start the daemons of Slurm")
    if not all(map(shutil.which, ("slurmctld", "slurmd", "sbatch", "munged"))):
        if not shutil.which("apt-get"):
            pytest.skip("Slurm is not installed, and there is no apt-get to install it")
        for command in (
            ["update"],
            ["install", "--no-install-recommends", "slurmctld", "slurmd", "slurm-client", "munge"],
        ):
            env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
            ended = subprocess.run(["apt-get", "--yes", *command], env=env, capture_output=True, text=True, check=False)
        if ended.returncode:
            pytest.skip(f"Slurm cannot be installed: {' '.join(ended.stderr.split())}")
    folder = tmp_path_factory.mktemp("slurm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        patch.setenv("PYTHON", sys.executable)
        patch.chdir(ROOT)
        try:
            subprocess.run([CLUSTER, "start", folder], check=True)
            yield
        finally:
            subprocess.run([CLUSTER, "stop", folder], check=True)


def submit(workdir, partition):
    """Submit a run over both nodes and return the id of its job; its output goes to WORKDIR.log."""
    fields = [f"--config.{name}={value}" for name, value in (FIELDS | LONG | {"mesh.data": -1}).items()]
    options = ["--parsable", f"--partition={partition}", f"--output={workdir}.log", "--nodes=2"]
    run = [ROOT / "launch" / "slurm.sbatch", f"--config={ROOT}/tests/tiny_config.py", f"--workdir={workdir}", *fields]
    return subprocess.check_output(["sbatch", *options, *run], text=True).strip()


def show_job(number):
    """Return the fields of a job."""
    output = subprocess.check_output(["scontrol", "--oneliner", "show", "job", number], text=True)
    return dict(re.findall(r"(\w+)=(\S*)", output))


def wait_until(reached, says, seconds=600):
    until = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < until, says()
        time.sleep(0.1)


def preempt(*workdirs):
    """Preempt both nodes for a moment, once these runs are in their pretraining."""
    for workdir in workdirs:
        wait_until(lambda: any(row["step"] >= 2 for row in metrics.read(workdir, "pretrain")), lambda: workdir)
    take = ["sbatch", "--wait", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=true"]
    subprocess.run(take, check=True, stdout=subprocess.DEVNULL)


def wait_for_end(number, workdir):
    """Wait for the end of a job and return the output of its run."""
    wait_until(lambda: show_job(number)["JobState"] in ("COMPLETED", "FAILED", "CANCELLED"), lambda: show_job(number))
    output = Path(f"{workdir}.log").read_text()
    assert show_job(number)["JobState"] == "COMPLETED", output
    return output


@pytest.fixture(scope="module")
def undisturbed(cluster, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    wait_for_end(submit(workdir, "low"), workdir)
    return outcome(workdir)


@pytest.mark.parametrize("partition", ["low", "sudden"])
def test_a_run_on_two_nodes_that_is_preempted_goes_on_and_ends_as_if_undisturbed(tmp_path, undisturbed, partition):
    workdir = tmp_path / "run"
    number = submit(workdir, partition)
    preempt(workdir)
    output = wait_for_end(number, workdir)
    assert re.search(r"saved (at step|after epoch) \d+; run the same command again", output), output
    assert show_job(number)["Restarts"] == "1" and show_job(number)["NumNodes"] == "2"
    assert len(json.loads((workdir / "config.json").read_text())["devices"]) == 2
    for a, b in zip(outcome(workdir), undisturbed, strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_sweep_is_an_array_whose_tasks_go_on_when_they_are_preempted(tmp_path, cluster):
    config = tiny(tmp_path)
    text = "\n\nshares = sweep\n\n\ndef sweep():\n    return [*shares(), ('other', {'seed': 1, **shares()[0][1]})]\n"
    config.write_text(config.read_text() + text)
    command = [sys.executable, ROOT / "launch" / "sweep.py", f"--config={config}", f"--workdir={tmp_path / 'S'}"]
    command += ["--slurm=--partition=low", "--jobs=2", *(f"--config.{name}={value}" for name, value in LONG.items())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as sweep:
        preempt(tmp_path / "S" / "1.0", tmp_path / "S" / "other")
        output, _ = sweep.communicate()
    assert sweep.returncode == 0, output
    record = json.loads((tmp_path / "S" / "sweep.json").read_text())["cells"]
    assert {name: (of["state"], of["tries"], of["exit_code"], of["pretrained_by"]) for name, of in record.items()} == {
        "1.0": ("done", 1, 0, None),
        "0.5": ("done", 1, 0, "1.0"),
        "other": ("done", 1, 0, None),
    }
    for name in ("1.0", "other"):
        assert (tmp_path / "S" / name / "log.txt").read_text().count("; run the same command again to resume") == 1
    assert subprocess.run([sys.executable, "-m", "jaxssl", "compare", tmp_path / "S"], check=False).returncode == 0
