"""Settings are searched by Optuna on validation, with as many trials for each arm."""

import json
import math

import pytest

from jaxssl.cli.parser import main
from jaxssl.study.sweep import runner
from jaxssl.study.sweep.cells import Cell
from jaxssl.study.sweep.search import SPACE, Search, parse_space, search_settings, validation_score
from tests.refusals import refuses

pytest.importorskip("optuna", reason="the extra 'search' is not installed")
RATE = "transfer.optimizer.learning_rate"
OPTIMA = {"ntxent": 1e-3, "byol": 3e-3}


def cells(folder):
    return [
        Cell(f"{name}_{seed}", folder / f"{name}_{seed}", {"seed": seed, "pretrain.objective": name})
        for seed in (0, 1)
        for name in OPTIMA
    ]


def finish(batch):
    """Write a results.json whose score on validation is best at the optimum of the arm."""
    for cell in batch:
        distance = abs(math.log10(cell.fields[RATE] / OPTIMA[cell.fields["pretrain.objective"]]))
        scores = {"ssl": 1 - distance, "random": 2.0}
        evaluations = [{"init": init, "validation": score} for init, score in scores.items()]
        cell.folder.mkdir(parents=True, exist_ok=True)
        (cell.folder / "results.json").write_text(json.dumps({"schema_version": 1, "evaluations": evaluations}))


def test_each_arm_gets_its_own_best_of_equally_many_trials(tmp_path):
    batches = []

    def run(batch):
        batches.append([cell.name for cell in batch])
        finish(batch)

    search = Search(12, {RATE: (1e-4, 1e-2)})
    found = search_settings(cells(tmp_path), search, tmp_path / "trials", run)
    assert batches == [[f"{name}_0-trial{n}" for name in OPTIMA] for n in range(12)]
    for cell, before in zip(found, cells(tmp_path), strict=True):
        name = cell.fields["pretrain.objective"]
        assert cell._replace(fields=before.fields) == before
        assert abs(math.log10(cell.fields[RATE] / OPTIMA[name])) < 0.3
        scores = [validation_score(tmp_path / "trials" / f"{name}_0-trial{n}") for n in range(12)]
        assert 1 - abs(math.log10(cell.fields[RATE] / OPTIMA[name])) == pytest.approx(max(scores))
    assert search_settings(cells(tmp_path), search, tmp_path / "trials", finish) == found


def test_trials_without_a_score_are_refused(tmp_path):
    with refuses("missing", "--search", "ntxent_0"):
        search_settings(cells(tmp_path)[:1], Search(2), tmp_path, lambda batch: None)


def test_the_space_is_given_by_its_ends(tmp_path, capsys):
    assert parse_space([]) == SPACE
    assert parse_space(["--config.transfer.mixup=1e-3:1"]) == {"transfer.mixup": (1e-3, 1.0)}
    with refuses("unknown-name", "a.b"):
        parse_space(["a.b=1:2"])
    for text in ("a.b", "a.b=1", "a.b=1:0.5", "a.b=0:1", "a.b=1:inf"):
        with refuses("out-of-range", "--space", text):
            parse_space([text])
    command = ["sweep", "own", f"--workdir={tmp_path}", "--config.data.dir=x"]
    assert main([*command, "--search=0"]) == 2 and "--search=0" in capsys.readouterr().err
    assert main([*command, "--search=2", "--slurm"]) == 2 and "--slurm" in capsys.readouterr().err
    assert main([*command, "--space=transfer.mixup=.1:1"]) == 2 and "--search=N" in capsys.readouterr().err


def test_trials_are_checked_before_one_starts(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runner, "run_local", lambda *arguments: pytest.fail("a trial starts"))
    command = ["sweep", "byol_lenses", f"--workdir={tmp_path}/s", "--seeds=1", "--search=2"]
    assert main([*command, "--space=pretrain.epochs=1.5:1.6"]) == 2
    assert "pretrain.epochs='1.5" in capsys.readouterr().err
