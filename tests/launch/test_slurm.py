"""Runs and sweeps on Slurm, with scripts in place of its commands; tests/slurm uses the real ones."""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from jaxssl.cli import sweep as sweep_command
from jaxssl.cli.parser import main
from jaxssl.study.sweep import runner, slurm
from tests.study.test_sweep import FAKE

LAUNCH = Path(__file__).parents[2] / "launch"

# `sbatch` runs the tasks of an array at once, one after the other, each at most twice; `squeue` prints and removes the
# first line of the file `queue`. All write their arguments to the file `calls`.
COMMANDS = {
    "sbatch": r"""
last="${@: -1}"
[[ -e $FAKE/refuse ]] && { echo "sbatch: error: invalid partition" >&2; exit 1; }
number=$(ls "$FAKE" | grep -c script)
cp "$last" "$FAKE/script$number"
export SLURM_ARRAY_JOB_ID=70
for ((SLURM_ARRAY_TASK_ID = 0; SLURM_ARRAY_TASK_ID <= $(sed -n 's/.*--array=0-\([0-9]*\).*/\1/p' "$last"); \
  SLURM_ARRAY_TASK_ID++)); do
  export SLURM_ARRAY_TASK_ID SLURM_JOB_ID=$((71 + SLURM_ARRAY_TASK_ID))
  bash "$last"
  [[ ! -e $FAKE/requeued ]] || { rm "$FAKE/requeued"; bash "$last"; }
done
rm -f "$FAKE/requeued"
echo 70""",
    "squeue": r"""head -n 1 "$FAKE/queue"; sed -i 1d "$FAKE/queue" """,
    "scancel": "",
    "scontrol": r"""touch "$FAKE/requeued" """,
    "srun": r"""while [[ $1 == --* ]]; do shift; done; exec "$@" """,
    # In place of the interpreter: what stands for jaxssl.main.
    "python": r"""
for word; do case $word in --workdir=*) folder=${word#*=} ;; --config.transfer.kind=*) kind=${word#*=} ;; esac; done
exec "$REAL" "$FAKE/main.py" "$folder" "${kind:-good}" """,
}


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """The folder of the fake commands."""
    folder = tmp_path / "fake"
    folder.mkdir()
    for name, text in COMMANDS.items():
        call = 'printf \'%s\\n\' "${0##*/} $*" >>"$FAKE/calls"\n'
        (folder / name).write_text(f"#!/usr/bin/env bash\n{call}{text}\n")
        (folder / name).chmod(0o755)
    (folder / "main.py").write_text(FAKE)
    for name in ("queue", "calls"):
        (folder / name).write_text("")
    for name, value in {"FAKE": folder, "REAL": sys.executable, "PATH": f"{folder}:{os.environ['PATH']}"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    for name in ("QUEUE_SECONDS", "FILE_SECONDS", "FILE_POLL_SECONDS"):
        monkeypatch.setattr(slurm, name, 0.01)
    monkeypatch.setattr(runner, "check_settings", lambda config, cells: None)
    return folder


def calls(fake, *names):
    return [line for line in (fake / "calls").read_text().splitlines() if line.split()[0] in names]


@pytest.fixture
def go(tmp_path, fake, capsys, monkeypatch):
    """(cells, flags) -> exit code, record of sweep.json, what was printed."""

    def run(cells, *flags, signals=()):
        config = tmp_path / "config.py"
        config.write_text(f"def sweep():\n    return {cells!r}\n")
        monkeypatch.setattr(sweep_command, "collect_signals", lambda: contextlib.nullcontext(signals))
        code = main(["sweep", f"--config={config}", f"--workdir={tmp_path / 'S'}", "--slurm", *flags])
        file = tmp_path / "S" / "sweep.json"
        return code, json.loads(file.read_text())["cells"] if file.exists() else {}, capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("code", "array", "requeued"),
    [
        (0, False, []),
        (2, False, []),
        (137, False, []),
        (75, False, ["scontrol requeue 71"]),
        (143, False, ["scontrol requeue 71"]),
        # The id of one task equals that of the whole array.
        (75, True, ["scontrol requeue 70_3"]),
    ],
)
def test_only_preempted_jobs_are_requeued(tmp_path, fake, code, array, requeued):
    (fake / "python").write_text(f'#!/usr/bin/env bash\nprintf "%s\\0" "$@" >{fake}/given\nexit {code}\n')
    arguments = ["--config=configs/byol_ham.py", "--workdir=/share/runs/it's mine"]
    given = {"SLURM_JOB_ID": "71"} | ({"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3"} if array else {})
    ended = subprocess.run([LAUNCH / "slurm.sbatch", *arguments], env=os.environ | given, check=False)
    assert ended.returncode == code
    assert (fake / "given").read_text().split("\0")[:-1] == ["-m", "jaxssl.main", *arguments]
    assert calls(fake, "scontrol") == requeued


@pytest.mark.parametrize(("environ", "options"), [({}, ""), ({"SLURM_CPUS_PER_TASK": "8"}, "--cpus-per-task=8 ")])
def test_the_processes_have_the_cpus_of_the_job(fake, environ, options):
    (fake / "srun").write_text((fake / "srun").read_text().partition("while")[0])
    subprocess.run([LAUNCH / "slurm.sbatch", "--config=c"], env=os.environ | environ | {"PYTHON": "p"}, check=True)
    assert calls(fake, "srun") == [f"srun --kill-on-bad-exit=0 {options}p -m jaxssl.main --config=c"]


def test_cells_are_tasks_and_those_that_share_a_pretraining_are_a_second_array(tmp_path, go, fake):
    cells = [
        (f"{seed} {share}", {"seed": seed, "data.label_fraction": share}) for seed in (0, 1) for share in (1.0, 0.1)
    ]
    code, record, printed = go(cells, "--jobs=3")
    assert code == 0, printed.err
    assert {name: (of["state"], of["tries"], of["exit_code"], of["pretrained_by"]) for name, of in record.items()} == {
        "0 1.0": ("done", 1, 0, None),
        "0 0.1": ("done", 1, 0, "0 1.0"),
        "1 1.0": ("done", 1, 0, None),
        "1 0.1": ("done", 1, 0, "1 1.0"),
    }
    assert (tmp_path / "S" / "1 0.1" / "checkpoints" / "encoder" / "7").read_text() == "1 1.0"
    arrays = [re.findall("^  [0-9]+. folder=.*$", (fake / f"script{k}").read_text(), re.M) for k in range(2)]
    assert [[shlex.split(line)[1] for line in array] for array in arrays] == [
        [f"folder={tmp_path}/S/{name}" for name in array] for array in (["0 1.0", "1 1.0"], ["0 0.1", "1 0.1"])
    ]
    assert "4 of 4 cells are done" in printed.out
    # All cells are done: nothing more is submitted.
    assert go(cells)[0] == 0 and len(calls(fake, "sbatch")) == 2


def test_the_array_is_limited_requeued_and_takes_options(tmp_path, go, fake):
    cells = [(f"cell{i}", {"seed": i}) for i in range(3)]
    assert go(cells, "--jobs=2", "--slurm=--partition=gpu --comment='for us'")[0] == 0
    lines = (fake / "script0").read_text().splitlines()
    options = shlex.split(" ".join(line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")))
    assert {"--array=0-2%2", "--requeue", "--nodes=1", "--partition=gpu", "--comment=for us"} <= set(options)
    assert f"--output={tmp_path}/S/slurm.log" in options
    # The name that squeue is asked for.
    (name,) = (option.partition("=")[2] for option in options if option.startswith("--job-name="))
    assert all(f"--name={name}" in call for call in calls(fake, "squeue"))


def test_broken_cells_are_tried_twice(tmp_path, go):
    cells = [(name, {"seed": i, "transfer.kind": name}) for i, name in enumerate(["bad", "bad once", "good"])]
    code, record, printed = go(cells)
    assert code == 1
    assert {name: (of["state"], of["tries"], of["exit_code"]) for name, of in record.items()} == {
        "bad": ("broken", 2, 1),
        "bad once": ("done", 2, 0),
        "good": ("done", 1, 0),
    }
    assert "bad: ended with 1, it is tried once more: jaxssl: the reason" in printed.out
    assert (tmp_path / "S" / "bad" / "log.txt").read_text().count("a long story") == 2


def test_a_preempted_task_is_requeued_and_not_a_failure(tmp_path, go, fake):
    code, record, printed = go([("good", {"seed": 0}), ("out", {"seed": 1, "transfer.kind": "preempted"})])
    assert calls(fake, "scontrol") == ["scontrol requeue 70_1"] * 2
    # The fake sbatch runs it twice only.
    assert code == 75 and "run the same command again" in printed.err
    assert {name: of["state"] for name, of in record.items()} == {"good": "done", "out": "stopped"}
    assert record["out"]["exit_code"] == 75


def test_a_cell_that_was_cancelled_is_stopped(tmp_path, go, fake):
    (fake / "sbatch").write_text((fake / "sbatch").read_text().replace('bash "$last"', "true"))
    code, record, _ = go([("cell", {})])
    assert code == 75 and (record["cell"]["state"], record["cell"]["exit_code"]) == ("stopped", None)


def test_a_sweep_waits_for_its_jobs_in_the_queue(tmp_path, go, fake):
    (fake / "queue").write_text("RUNNING\nRUNNING\nCOMPLETING\n")
    assert go([("cell", {})])[0] == 0
    assert [call.split()[0] for call in calls(fake, "squeue", "sbatch")] == ["squeue"] * 4 + ["sbatch", "squeue"]


def test_a_signal_cancels_the_array(tmp_path, go, fake):
    class Signals:
        def __bool__(self):
            return (fake / "script0").exists()

    text = (fake / "sbatch").read_text()
    (fake / "sbatch").write_text(text.replace('bash "$last"', 'echo RUNNING >>"$FAKE/queue"'))
    code, record, printed = go([("cell", {})], signals=Signals())
    assert code == 75 and "run the same command again" in printed.err
    (cancelled,) = calls(fake, "scancel")
    assert cancelled.split()[1:] == calls(fake, "squeue")[0].split()[1:3]
    assert record["cell"]["state"] == "stopped"


def test_an_error_of_slurm_is_reported_in_one_line(tmp_path, go, fake):
    (fake / "refuse").write_text("")
    code, record, printed = go([("cell", {})], "--slurm=--partition=none")
    assert code == 2
    (line,) = printed.err.splitlines()
    assert line.startswith("jaxssl: --slurm: sbatch ") and "invalid partition" in line
    assert record["cell"]["state"] == "waiting"


def test_missing_slurm_is_reported_in_one_line(tmp_path, go, fake, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, printed = go([("cell", {})])
    assert code == 2
    (line,) = printed.err.splitlines()
    assert "there is no squeue here" in line
