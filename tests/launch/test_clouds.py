"""Runs on clouds: tpu.sh with a fake gcloud that records its arguments, and two manifests."""

import math
import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from jaxssl.cli import parser
from jaxssl.cli import run as run_command
from jaxssl.errors import PreemptedError, TrainingFailedError, UserError

LAUNCH = Path(__file__).parents[2] / "launch"

# The slice has the state in the file `state`; without the file there is no slice. Training ends with the codes in
# `codes`, one after the other, and creating a slice with those in `offers`, or 0.
GCLOUD = """#!/usr/bin/env bash
next() { local first; read -r first < "$FAKE/$1" || first=0; sed -i 1d "$FAKE/$1"; return "$first"; }
printf '%s\\0' "$@" >> "$FAKE/calls"; printf '\\n' >> "$FAKE/calls"
case "$4 $*" in
  describe*) cat "$FAKE/state" ;;
  create*) next offers && echo READY > "$FAKE/state" ;;
  delete*) rm "$FAKE/state" ;;
  ssh*jaxssl.main*) echo "a worker speaks"; next codes ;;
esac
"""
SET = {"NAME": "mine", "ZONE": "here-a", "TYPE": "v5litepod-16", "SHARE": "nfs:/share", "PAUSE": "0", "REVISION": "abc"}
ARGUMENTS = ["--config=configs/byol_ham.py", "--workdir=/share/runs/it's mine"]


@pytest.fixture
def tpu(tmp_path):
    """(codes of runs, codes of creations, state before, environment) -> the ended script, its calls of gcloud."""
    (tmp_path / "gcloud").write_text(GCLOUD)
    (tmp_path / "gcloud").chmod(0o755)

    def go(codes=(), offers=(), state="", arguments=ARGUMENTS, **environment):
        (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
        (tmp_path / "offers").write_text("".join(f"{code}\n" for code in offers))
        if state:
            (tmp_path / "state").write_text(state)
        path = f"{tmp_path}:{os.environ['PATH']}"
        given = {"FAKE": str(tmp_path), "PATH": path, "HOME": str(tmp_path), "SOURCE": "git@host:repo"}
        ended = subprocess.run(
            [LAUNCH / "tpu.sh", *arguments], env=given | SET | environment, capture_output=True, text=True, check=False
        )
        calls = (tmp_path / "calls").read_text().split("\0\n") if (tmp_path / "calls").exists() else []
        return ended, [call.split("\0") for call in calls if call]

    return go


def verbs(calls):
    """The calls except for "describe"; "run" and "setup" are the two uses of ssh."""
    found = [call[3] for call in calls]
    trains = [any("jaxssl.main" in word for word in call) for call in calls]
    named = [("run" if t else "setup") if verb == "ssh" else verb for verb, t in zip(found, trains, strict=True)]
    return [verb for verb in named if verb != "describe"]


def test_a_slice_is_created_used_and_deleted(tpu):
    ended, calls = tpu()
    assert ended.returncode == 0, ended.stderr
    assert verbs(calls) == ["create", "setup", "run", "delete"]
    assert "a worker speaks" in ended.stdout
    for call in calls:
        assert call[:3] == ["compute", "tpus", "tpu-vm"] and call[4:6] == ["mine", "--zone=here-a"]


def test_all_hosts_get_the_arguments_unchanged(tpu):
    _, calls = tpu()
    setup, run = (call for call in calls if call[3] == "ssh")
    assert "--worker=all" in setup and "--worker=all" in run
    command = next(word for word in run if word.startswith("--command=")).removeprefix("--command=")
    assert shlex.split(command)[-2:] == ARGUMENTS
    lines = next(word for word in setup if word.startswith("--command=")).removeprefix("--command=")
    assert subprocess.run(["bash", "-n", "-c", lines], check=False).returncode == 0
    assert "git checkout -q 'abc'" in lines and "'nfs:/share' /share" in lines


@pytest.mark.parametrize("code", [2, 3, 1])
def test_other_exit_codes_end_the_script(tpu, code):
    ended, calls = tpu(codes=[code])
    assert ended.returncode == code
    assert verbs(calls) == ["create", "setup", "run", "delete"]


def test_a_preempted_run_is_resumed(tpu):
    ended, calls = tpu(codes=[75, 0])
    assert ended.returncode == 0
    assert verbs(calls) == ["create", "setup", "run", "setup", "run", "delete"]


def test_a_slice_whose_hosts_do_not_answer_is_replaced(tpu):
    ended, calls = tpu(codes=[255, 0])
    assert ended.returncode == 0
    assert verbs(calls) == ["create", "setup", "run", "delete", "create", "setup", "run", "delete"]


def test_a_preempted_slice_is_replaced(tpu):
    ended, calls = tpu(state="PREEMPTED")
    assert ended.returncode == 0
    assert verbs(calls) == ["delete", "create", "setup", "run", "delete"]


def test_an_existing_slice_is_used_and_may_be_kept(tpu):
    ended, calls = tpu(state="READY", KEEP="1")
    assert ended.returncode == 0
    assert verbs(calls) == ["setup", "run"]


def test_creation_is_repeated_until_there_is_a_slice(tpu):
    ended, calls = tpu(offers=[1, 1, 0])
    assert ended.returncode == 0
    assert verbs(calls) == ["create", "create", "create", "setup", "run", "delete"]


def test_creation_is_repeated_at_most_tries_times(tpu):
    ended, calls = tpu(offers=[1, 1, 1], TRIES="2")
    assert ended.returncode == PreemptedError.exit_code
    assert verbs(calls) == ["create", "create"]
    assert "TRIES=2" in ended.stderr


def test_a_missing_variable_is_named(tpu):
    ended, calls = tpu(NAME="")
    assert ended.returncode == 1 and "NAME" in ended.stderr
    assert not calls


@pytest.fixture
def config_of(monkeypatch):
    """The config that arguments of `jaxssl run` give."""
    monkeypatch.chdir(LAUNCH.parent)

    def parse(arguments):
        return run_command.load(parser.parse(["run", *arguments]))

    return parse


def test_the_jobset_fits_its_slice_and_the_exit_codes(config_of):
    spec = yaml.safe_load((LAUNCH / "jobset.yaml").read_text())["spec"]
    (replicated,) = spec["replicatedJobs"]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    chips = math.prod(map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")))
    assert job["completions"] == job["parallelism"] == chips / container["resources"]["limits"]["google.com/tpu"]
    # Kubernetes applies a podFailurePolicy only to pods that it does not restart.
    assert pod["restartPolicy"] == "Never" and job["backoffLimit"] == 0
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [UserError.exit_code, TrainingFailedError.exit_code]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    (mount,), (volume,) = container["volumeMounts"], pod["volumes"]
    assert mount["name"] == volume["name"]
    assert container["command"] == ["python", "-m", "jaxssl.main"]
    config = config_of(container["args"])
    assert config.data.manual_dir.startswith(mount["mountPath"] + "/")


def test_the_sky_task_runs_a_config_and_recovers_from_preemption(tmp_path, config_of):
    task = yaml.safe_load((LAUNCH / "sky.yaml").read_text())
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [PreemptedError.exit_code]
    (mounted,) = task["file_mounts"]
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    ended = subprocess.run(
        ["bash", "-c", task["run"]],
        cwd=tmp_path,
        env=os.environ | task["envs"],
        capture_output=True,
        text=True,
        check=True,
    )
    arguments = ended.stdout.splitlines()
    assert arguments[:2] == ["-m", "jaxssl.main"]
    assert f"--workdir={mounted}/runs/byol_ham" in arguments
    assert config_of(arguments[2:]).data.manual_dir.startswith(mounted + "/")
    assert subprocess.run(["bash", "-n", "-c", task["setup"]], check=False).returncode == 0
