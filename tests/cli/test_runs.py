"""`jaxssl runs`: a row a run, whatever is wrong with it, and soon."""

import json
import os
import shutil
import time

import pytest
from rich.console import Console

from jaxssl import files
from jaxssl.cli import runs
from jaxssl.cli.parser import main
from jaxssl.results import words
from jaxssl.run.workdir import open_workdir


def make(folder, results=None, rows="", command="python -m jaxssl.main --config=c.py --workdir=w", lock=True):
    folder.mkdir(parents=True)
    config = {"config": {"pretrain": {"epochs": 10}, "transfer": {"epochs": 5}}, "command": command}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "splits.json").write_text("{}")
    if rows:
        (folder / "metrics.jsonl").write_text(rows)
    if results is not None:
        (folder / "results.json").write_text(json.dumps({"evaluations": results}))
    if lock:
        (folder / ".lock0").touch()
    return folder


def evaluation(protocol, init, auc):
    same = {"label_fraction": 1.0, "fold": None, "seed": 0, "split": "test", "images": 9}
    metrics = {"auc_macro": {"value": auc, "low": None, "high": None}}
    return {"name": f"{protocol}_{init}", "protocol": protocol, "init": init, "metrics": metrics, **same}


SCORED = [
    evaluation("probe", "ssl", 0.91),
    evaluation("finetune", "ssl", 0.93),
    evaluation("probe", "random", 0.8),
    evaluation("finetune", "random", 0.95),
]
ROW = json.dumps({"phase": "pretrain", "step": 30, "epoch": 3, "loss": 1.0}) + "\n"


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    return root


def states(root):
    return {run.folder: (run.state, run.at or run.score) for run in runs.list_runs(root)}


def test_a_run_is_done_running_or_stopped(root):
    make(root / "deep" / "done", results=SCORED, rows=ROW)
    make(root / "stopped", rows=ROW + '{"phase": "finetune_ssl", "st')
    make(root / "tuned", rows=ROW + ROW.replace("pretrain", "finetune_ssl"), lock=False)
    make(root / "begun")
    make(root / "running", rows=ROW)
    (root / "other").mkdir()
    (root / "other" / "config.json").write_text("{}")
    with open_workdir(root / "running"):
        found = states(root)
    assert found == {
        "begun": ("stopped", "at its start"),
        "deep/done": ("done", "fine-tuning: pretrained .930, random .950"),
        "running": ("running", "pretraining, epoch 3 of 10"),
        "stopped": ("stopped", "pretraining, epoch 3 of 10"),
        "tuned": ("stopped", "fine-tuning, pretrained, epoch 3 of 5"),
    }
    assert states(root)["running"][0] == "stopped"


def test_to_look_does_not_keep_a_run_from_starting(root):
    folder = make(root / "a")
    assert not files.is_locked(folder)
    with open_workdir(folder):
        assert files.is_locked(folder) and files.is_locked(folder)


@pytest.mark.parametrize(
    ("results", "says"),
    [
        ([], ""),
        (SCORED[:2], "fine-tuning: pretrained .930"),
        (SCORED[:3], "linear probing: pretrained .910, random .800"),
        ([evaluation("probe", "random", None)], ""),
        (
            [evaluation("probe", init, of) for init, of in (("imagenet+ssl", 0.9), ("imagenet", 0.8), ("random", 0.7))],
            "linear probing: ImageNet, then pretrained .900, ImageNet .800",
        ),
        (
            [evaluation("probe", "ssl", 0.9), evaluation("probe", "random", None)],
            "linear probing: pretrained .900, random undefined",
        ),
    ],
)
def test_the_score_is_the_best_that_can_be_compared(results, says):
    assert runs.describe_score({"evaluations": results}) == says


def spoil(name, content):
    def change(folder):
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (spoil("config.json", None), "config.json: No such file"),
        (spoil("config.json", b"{"), "JSONDecodeError"),
        (spoil("config.json", b"\xff"), "UnicodeDecodeError"),
        (spoil("config.json", b"[]"), "TypeError"),
        (spoil("results.json", b"{}"), "KeyError: 'evaluations'"),
        (spoil("results.json", b'{"evaluations": [3]}'), "TypeError"),
        (lambda w: ((w / "config.json").unlink(), (w / "config.json").mkdir()), "config.json: Is a directory"),
        (lambda w: ((w / "results.json").unlink(), (w / "metrics.jsonl").write_text("{}\n")), "KeyError: 'phase'"),
    ],
)
def test_a_damaged_run_is_one_row_beside_the_others(root, capsys, change, says):
    change(make(root / "damaged", results=SCORED, rows=ROW))
    make(root / "whole", results=SCORED)
    assert main(["runs", str(root)]) == 0
    out, err = capsys.readouterr()
    lines = [line.split("\t") for line in out.splitlines()]
    assert not err and [line[:2] for line in lines[1:]] == [["damaged", "broken"], ["whole", "done"]]
    assert says in lines[1][2]


def test_a_real_run_is_done(run, capsys):
    assert main(["runs", str(run.workdir.parent)]) == 0
    head, line = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    found = dict(zip(head, line, strict=True))
    assert (found["folder"], found["state"], found["at"]) == ("workdir", "done", "")
    evaluations = json.loads((run.workdir / "results.json").read_text())["evaluations"]
    best = max(evaluations[:2], key=lambda e: e["metrics"]["auc_macro"]["value"])
    assert (
        found["score"].startswith(f"{words.protocol_name(best['protocol'])}: pretrained ")
        and ", random " in found["score"]
    )


def test_in_a_terminal_a_stopped_run_shows_its_command_in_one_line(root, capsys):
    command = "python -m jaxssl.main --config=configs/byol_ham.py:local " + "--config.seed=1 " * 9
    make(root / "a", command=command, rows=ROW)
    make(root / "b", results=SCORED, command="not shown")
    make(root / "[red]c\x1b[2J", results=[])
    runs.show(runs.list_runs(root), Console(force_terminal=True, width=80, markup=False, emoji=False, highlight=False))
    out = capsys.readouterr().out
    assert f"  {command.strip()}\n" in out and "not shown" not in out
    assert "[red]c" in out and "\x1b[2J" not in out
    assert "pretrained .930" in out and ".950" in out


@pytest.mark.parametrize(
    ("seconds", "says"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (7199, "1 h"), (172799, "47 h"), (172800, "2 d"), (-1, "0 s")],
)
def test_ages_in_words(seconds, says):
    assert runs.format_age(seconds) == says


def test_an_age_is_that_of_the_last_writing(root):
    folder = make(root / "a", rows=ROW)
    now = time.time()
    os.utime(folder / "config.json", (now - 9000, now - 9000))
    os.utime(folder / "metrics.jsonl", (now - 3700, now - 3700))
    assert runs.format_age(runs.list_runs(root)[0].age) == "1 h"


def test_hundreds_of_runs_take_a_second(root):
    whole = make(root / "0", results=SCORED * 5, rows=ROW * 20000)
    (whole / "checkpoints" / "splits").mkdir(parents=True)
    for i in range(1, 300):
        shutil.copytree(whole, root / str(i), ignore=shutil.ignore_patterns("metrics.jsonl"))
        os.link(whole / "metrics.jsonl", root / str(i) / "metrics.jsonl")
    for i in range(100):
        (root / str(i) / "results.json").unlink()
    # Of this process alone, as the machine may have other work.
    before = time.process_time()
    found = runs.list_runs(root)
    assert len(found) == 300 and time.process_time() - before < 1


@pytest.mark.parametrize(("name", "says"), [("nowhere", "is not a folder"), ("root", "holds no run")])
def test_without_runs_it_ends_with_2_and_one_line(root, capsys, name, says):
    assert main(["runs", str(root.with_name(name))]) == 2
    err = capsys.readouterr().err
    assert says in err and len(err.splitlines()) == 1
