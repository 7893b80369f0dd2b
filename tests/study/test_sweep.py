"""A sweep whose cells are small scripts in place of `jaxssl.main`, and one of real runs."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jaxssl import files
from jaxssl.cli import parser
from jaxssl.cli import run as run_command
from jaxssl.cli.parser import main
from jaxssl.config.stored import config_to_json
from jaxssl.results.workdir import write
from jaxssl.study.sweep import cells as sweep_cells
from jaxssl.study.sweep import local, runner

ROOT = Path(__file__).parents[2]

# What stands for jaxssl.main: pretrains where there is no encoder, and leaves the files that the sweep looks at.
FAKE = """
import json, os, pathlib, sys, time
folder, kind = pathlib.Path(sys.argv[1]), sys.argv[2]
with open(folder.parent / "events.txt", "a") as events:
    events.write(f"{folder.name} begins {time.monotonic()}\\n")
tries = folder / "tries"
tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
encoder = folder / "checkpoints" / "encoder"
pretrained = not encoder.exists()
time.sleep(0.2)
if kind == "slow":
    time.sleep(60)
if kind == "preempted":
    sys.exit(75)
if kind == "killed":
    os.kill(os.getpid(), 9)
if kind == "bad" or (kind == "bad once" and tries.read_text() == "x"):
    sys.exit("a long story\\njaxssl: the reason")
if pretrained:
    encoder.mkdir(parents=True)
    (encoder / "7").write_text(folder.name)
    rows = [{"phase": phase, "step": 1, "epoch": 1} for phase in ("pretrain", "finetune_ssl")]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
(folder / "config.json").write_text("{}")
pretrain = {"supervised": kind == "supervised"}
(folder / "results.json").write_text(json.dumps({"schema_version": 1, "pretrain": pretrain}))
with open(folder.parent / "events.txt", "a") as events:
    events.write(f"{folder.name} ends {time.monotonic()}\\n")
"""


@pytest.fixture
def go(tmp_path, monkeypatch, capsys):
    """(cells, flags) -> exit code, record of sweep.json, what was printed."""
    monkeypatch.setattr(local, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(runner, "check_settings", lambda config, cells: None)
    monkeypatch.setattr(
        local,
        "command",
        lambda config, cell: [sys.executable, "-c", FAKE, str(cell.folder), cell.fields.get("transfer.kind", "good")],
    )

    def run(cells, *flags):
        config = tmp_path / "config.py"
        config.write_text(f"def sweep():\n    return {cells!r}\n")
        code = main(["sweep", f"--config={config}", f"--workdir={tmp_path / 'S'}", *flags])
        file = tmp_path / "S" / "sweep.json"
        return code, json.loads(file.read_text())["cells"] if file.exists() else {}, capsys.readouterr()

    return run


def events(tmp_path):
    lines = [line.split() for line in (tmp_path / "S" / "events.txt").read_text().splitlines()]
    return {(name, what): float(when) for name, what, when in lines}


def test_broken_cells_are_tried_twice_and_the_rest_goes_on(tmp_path, go):
    cells = [(name, {"seed": i, "transfer.kind": name}) for i, name in enumerate(["bad", "bad once", "good"])]
    code, record, printed = go(cells, "--jobs=3")
    assert code == 1
    assert {name: (of["state"], of["tries"]) for name, of in record.items()} == {
        "bad": ("broken", 2),
        "bad once": ("done", 2),
        "good": ("done", 1),
    }
    assert (record["bad"]["exit_code"], record["good"]["exit_code"]) == (1, 0)
    assert "bad: ended with 1, it is tried once more: jaxssl: the reason" in printed.out
    assert "2 of 3 cells are done" in printed.out and "broken: bad: exit code 1" in printed.out
    assert (tmp_path / "S" / "bad" / "log.txt").read_text().count("a long story") == 2


def test_a_killed_cell_says_what_mostly_kills(tmp_path, go):
    _, record, printed = go([("killed", {"transfer.kind": "killed"})])
    assert (record["killed"]["state"], record["killed"]["exit_code"]) == ("broken", -9)
    assert "killed: ended with -9 (killed, mostly by the system for want of memory: try fewer --jobs)" in printed.out


def test_what_is_done_is_not_run_again(tmp_path, go):
    cells = [(f"cell{i}", {"seed": i}) for i in range(2)]
    assert go(cells)[0] == 0
    assert go([*cells, ("cell2", {"seed": 2})])[0] == 0
    assert [(tmp_path / "S" / f"cell{i}" / "tries").read_text() for i in range(3)] == ["x", "x", "x"]


def test_one_pretraining_serves_all_shares_of_the_labels(tmp_path, go):
    cells = [
        (f"{seed}-{share}", {"seed": seed, "data.label_fraction": share}) for seed in (0, 1) for share in (1.0, 0.1)
    ]
    code, record, _ = go(cells, "--jobs=4")
    assert code == 0
    assert {name: of["pretrained_by"] for name, of in record.items()} == {
        "0-1.0": None,
        "0-0.1": "0-1.0",
        "1-1.0": None,
        "1-0.1": "1-1.0",
    }
    when = events(tmp_path)
    assert when["0-0.1", "begins"] > when["0-1.0", "ends"]
    # Two seeds have nothing to wait for from one another.
    assert when["1-1.0", "begins"] < when["0-1.0", "ends"]
    copy = tmp_path / "S" / "1-0.1"
    assert (copy / "checkpoints" / "encoder" / "7").read_text() == "1-1.0"
    assert (copy / "metrics.jsonl").read_text() == '{"phase": "pretrain", "step": 1, "epoch": 1}\n'


def test_a_damaged_donor_lends_nothing_and_ends_nothing(tmp_path, go):
    """A line of its metrics is cut off: the next cell pretrains by itself."""
    first, second = ("full", {"data.label_fraction": 1.0}), ("few", {"data.label_fraction": 0.1})
    assert go([first])[0] == 0
    rows = tmp_path / "S" / "full" / "metrics.jsonl"
    rows.write_bytes(rows.read_bytes()[:-9])
    code, record, _ = go([first, second])
    assert code == 0 and record["few"]["pretrained_by"] is None


def test_pretraining_that_read_labels_is_not_shared(tmp_path, go):
    cells = [(f"{share}", {"data.label_fraction": share, "transfer.kind": "supervised"}) for share in (1.0, 0.1)]
    code, record, _ = go(cells)
    assert code == 0 and record["0.1"]["pretrained_by"] is None
    assert (tmp_path / "S" / "0.1" / "checkpoints" / "encoder" / "7").read_text() == "0.1"


def test_no_more_than_so_many_at_a_time(tmp_path, go):
    assert go([(f"cell{i}", {"seed": i}) for i in range(4)], "--jobs=2")[0] == 0
    when = events(tmp_path)
    most = max(
        sum(when[f"cell{i}", "begins"] <= at < when[f"cell{i}", "ends"] for i in range(4)) for at in when.values()
    )
    assert most == 2


def test_a_cell_that_a_lost_sweep_left_at_work_is_waited_for(tmp_path, go):
    folder = tmp_path / "S" / "orphan"
    folder.mkdir(parents=True)
    lock = open(folder / ".lock0", "w")  # noqa: SIM115
    fcntl.flock(lock, fcntl.LOCK_EX)
    released = []
    threading.Timer(1.0, lambda: (released.append(time.monotonic()), lock.close())).start()
    cells = [("orphan", {}), ("heir", {"data.label_fraction": 0.5}), ("other", {"seed": 1})]
    code, record, printed = go(cells, "--jobs=3")
    assert code == 0 and record["orphan"]["tries"] == 1
    assert "orphan: still running from an earlier sweep" in printed.out
    when = events(tmp_path)
    # Nor does another cell pretrain beside it what it pretrains.
    assert when["other", "begins"] < released[0] < min(when["orphan", "begins"], when["heir", "begins"])


def test_two_sweeps_of_one_folder_do_not_run_at_once(tmp_path, go):
    with files.lock(tmp_path / "S" / runner.LOCK):
        code, record, printed = go([("cell", {})])
    assert code == 2 and not record and "in use by another process" in printed.err
    assert go([("cell", {})])[0] == 0


def test_cells_that_began_with_other_settings_are_refused(tmp_path, capsys):
    config = tiny(tmp_path)
    folder = tmp_path / "S" / "1.0"
    sweep_of = [f"--config={config}", f"--workdir={tmp_path / 'S'}"]
    for epochs, name in ((2, "config.json"), (1, "results.json")):
        arguments = [f"--config={config}", f"--config.pretrain.epochs={epochs}"]
        ran = config_to_json(run_command.load(parser.parse(["run", *arguments])))
        rest = {"fingerprint": "", "dtype": "", "command": "", "versions": {}, "git": None, "devices": []}
        pixels = {"low": 0.0, "high": 1.0, "mean": [0.0], "std": [1.0], "asinh": 0.0}
        for file in ("config.json", name):
            write(folder / file, {"config": ran, "pixels": pixels, **rest})
        assert main(["sweep", *sweep_of, "--config.pretrain.epochs=3"]) == 2
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1 and f"pretrain.epochs is {epochs} there and 3 here" in said
    assert not (tmp_path / "S" / "sweep.json").exists()


def test_a_cell_that_is_preempted_stops_all(tmp_path, go):
    cells = [("slow", {"seed": 0, "transfer.kind": "slow"}), ("out", {"seed": 1, "transfer.kind": "preempted"})]
    began = time.monotonic()
    code, record, printed = go([*cells, ("later", {"seed": 2})], "--jobs=2")
    assert code == 75 and "out was asked to stop" in printed.err
    assert {name: of["state"] for name, of in record.items()} == {
        "slow": "stopped",
        "out": "stopped",
        "later": "waiting",
    }
    assert time.monotonic() - began < 30


def test_a_signal_stops_what_runs_and_leaves_nothing_behind(tmp_path):
    config = tmp_path / "config.py"
    config.write_text(
        "from tests import tiny_config\n\nget_config = tiny_config.get_config\n\n"
        "def sweep():\n    return [('cell', {})]\n"
    )
    # In place of jaxssl: a package whose main waits.
    package = tmp_path / "fake" / "jaxssl"
    package.mkdir(parents=True)
    package.joinpath("main.py").write_text(
        "import os, pathlib, sys, time\n"
        "pathlib.Path(sys.argv[2].partition('=')[2], 'pid').write_text(str(os.getpid()))\ntime.sleep(60)\n"
    )
    package.joinpath("__init__.py").write_text(
        f"'A stand-in.'\n__version__ = '0'\n__path__.append({str(ROOT / 'jaxssl')!r})\n"
    )
    command = [sys.executable, str(ROOT / "launch" / "sweep.py"), f"--config={config}", f"--workdir={tmp_path / 'S'}"]
    env = os.environ | {"PYTHONPATH": f"{tmp_path / 'fake'}{os.pathsep}{ROOT}"}
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)
    pid = tmp_path / "S" / "cell" / "pid"
    deadline = time.monotonic() + 60
    while not (pid.exists() and pid.read_text()) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 75, said
    assert "run the same command again to resume" in said
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert json.loads((tmp_path / "S" / "sweep.json").read_text())["cells"]["cell"]["state"] == "stopped"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no file"),
        ("def get_config(arg=''): pass", "has no function sweep()"),
        ("def sweep(): return [('a', {}), ('a', {})]", "two cells are called 'a'"),
        ("def sweep(): return [('a/b', {})]", "without a slash"),
        ("def sweep(): return []", "has no cells"),
        ("def sweep(): return 1 / 0", "ZeroDivisionError"),
    ],
)
def test_what_describes_no_sweep_is_refused_in_one_line(tmp_path, capsys, text, said):
    if text:
        (tmp_path / "config.py").write_text(text)
    assert main(["sweep", f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / 'S'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("jaxssl: ") and said in line
    assert not (tmp_path / "S").exists()


TINY = """

def sweep(arg=""):
    return [(f"{arg}{share}", {"data.label_fraction": share, "transfer.protocols": ("probe",)}) for share in (1.0, 0.5)]
"""


def tiny(tmp_path):
    """A config file with the smallest experiment and a sweep of two cells."""
    text = (ROOT / "tests" / "tiny_config.py").read_text()
    config = tmp_path / "tiny.py"
    config.write_text(text + TINY)
    return config


def test_a_cell_is_the_ordinary_command_with_fields_changed(tmp_path, capsys):
    config = f"{tiny(tmp_path)}:pairs"
    assert main(["sweep", f"--config={config}", f"--workdir={tmp_path / 'S'}", "--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    cell = sweep_cells.list_cells(config, tmp_path / "S", {})[1]
    assert cell.name == "pairs0.5"
    cell.fields["pretrain.augment.crop_area"] = (0.25, 1.0)
    cell.fields["pretrain.options.hidden"] = 32
    command = sweep_cells.command(config, cell)
    assert command[1:3] == ["-m", "jaxssl.main"]
    parsed = run_command.load(parser.parse(["run", *command[3:]]))
    assert parsed.data.label_fraction == 0.5
    assert parsed.transfer.protocols == ("probe",)
    assert parsed.pretrain.augment.crop_area == (0.25, 1.0)
    assert (parsed.pretrain.options.hidden, parsed.pretrain.objective) == (32, "pairs")


def test_a_field_can_be_set_for_all_cells(tmp_path, capsys):
    flags = [f"--config={tiny(tmp_path)}", f"--workdir={tmp_path / 'S'}", "--list"]
    assert main(["sweep", *flags, "--config.data.dir=some where", "--config.data.label_fraction=0.2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all("'--config.data.dir=some where'" in line and "label_fraction=0.2" in line for line in lines)
    assert main(["sweep", *flags, "--config.data.dir"]) == 2
    assert "sets no field" in capsys.readouterr().err
    assert main(["sweep", *flags, "--sedes=3"]) == 2


@pytest.mark.slow
def test_a_real_sweep_pretrains_once_and_can_be_compared(tmp_path):
    command = [sys.executable, str(ROOT / "launch" / "sweep.py"), f"--config={tiny(tmp_path)}"]
    ended = subprocess.run(
        [*command, f"--workdir={tmp_path / 'S'}", "--jobs=2"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r"0\.5: started, pretrained by 1\.0", ended.stdout)
    one, half = (json.loads((tmp_path / "S" / share / "results.json").read_text()) for share in ("1.0", "0.5"))
    assert one["pretrain"] == half["pretrain"]
    compared = subprocess.run(
        [sys.executable, "-m", "jaxssl", "compare", str(tmp_path / "S")], capture_output=True, text=True, check=False
    )
    assert compared.returncode == 0, compared.stderr
    assert len(json.loads((tmp_path / "S" / "compare.json").read_text())["curves"]) == 4
