"""Cells are repeated over seeds, folds and values of fields."""

import pytest

from jaxssl.cli.parser import main
from jaxssl.config import checks
from jaxssl.config.load import load_config
from jaxssl.study.sweep.cells import assignments, list_cells
from jaxssl.study.sweep.expand import Repeat, expand, parse_grid
from tests.refusals import refuses

LISTED = [(f"{name}_{seed}", {"seed": seed, "init.weights": name}) for seed in (0, 1) for name in ("a", "b")]


def test_nothing_is_repeated_by_default():
    assert expand(LISTED, Repeat()) == LISTED


def test_listed_seeds_keep_their_names_and_further_ones_are_added():
    assert expand(LISTED, Repeat(seeds=1)) == LISTED[:2]
    assert expand(LISTED, Repeat(seeds=2)) == LISTED
    more = expand(LISTED, Repeat(seeds=3))
    assert more[:4] == LISTED
    assert more[4:] == [(f"{name}_0-seed2", {"seed": 2, "init.weights": name}) for name in "ab"]
    assert expand([("x", {})], Repeat(seeds=2)) == [("x", {}), ("x-seed1", {"seed": 1})]


def test_a_grid_of_an_option_leaves_cells_of_other_objectives_as_they_are(caplog):
    """As in `own`, whose other cells have BYOL and MAE."""
    listed = [("ntxent", {}), ("byol", {"pretrain.objective": "byol"})]
    cells = expand(listed, Repeat(grid={"pretrain.options.temperature": ["0.1", "0.2"]}))
    assert [name for name, _ in cells] == ["ntxent-temperature=0.1", "ntxent-temperature=0.2", "byol"]
    assert cells[2] == listed[1] and "cells without this option stay as they are (1): byol" in caplog.text
    assert len(expand(listed[1:], Repeat(grid={"pretrain.options.ema": ["0.9", "0.99"]}))) == 2
    with refuses("unknown-name", "--grid", "temperature"):
        expand(listed[1:], Repeat(grid={"pretrain.options.temperature": ["0.1"]}))


def test_folds_and_values_are_combined():
    cells = expand([("x", {"seed": 3})], Repeat(folds=2, grid=parse_grid(["--config.pretrain.options.ema=0.9,0.99"])))
    assert [name for name, _ in cells] == ["x-fold0-ema=0.9", "x-fold0-ema=0.99", "x-fold1-ema=0.9", "x-fold1-ema=0.99"]
    assert cells[3][1] == {"seed": 3, "data.folds": 2, "data.fold": 1, "pretrain.options.ema": "0.99"}


def test_values_of_a_grid_may_be_paths_and_lists(tmp_path):
    lists = parse_grid(["transfer.learning_rates=(1e-3,1e-4),[1e-2,]", "init.weights=runs/a,b", "seed=0", "seed=1"])
    assert lists["transfer.learning_rates"] == ["(1e-3,1e-4)", "[1e-2,]"] and lists["seed"] == ["0", "1"]
    repeat = Repeat(grid={"init.weights": lists["init.weights"]})
    assert [cell.folder.name for cell in list_cells("byol_lenses", tmp_path, {}, repeat)] == [
        "byol_lenses-weights=runs_a",
        "byol_lenses-weights=b",
    ]
    with refuses("conflict", "--grid", "seed=0,0"):
        parse_grid(["seed=0,0"])
    with refuses("unknown-name", "pretrain.epoch", "'pretrain.epochs'"):
        parse_grid(["pretrain.epoch=1,2"])


@pytest.mark.parametrize("text", ["[('a', None)]", "[('a\\nb', {})]", "[(1, {})]", "3"])
def test_a_sweep_that_lists_no_cells_is_refused(tmp_path, text):
    (tmp_path / "x.py").write_text(f"def sweep():\n    return {text}\n")
    with refuses("unsupported", str(tmp_path / "x.py")):
        list_cells(str(tmp_path / "x.py"), tmp_path, {}, Repeat(seeds=1) if "None" in text else Repeat())


@pytest.mark.parametrize("text", ["pretrain.options.ema", "pretrain.options.ema="])
def test_a_grid_needs_values(text):
    with refuses("out-of-range", "--grid", text):
        parse_grid([text])


def test_a_config_without_a_sweep_is_repeated(tmp_path):
    cells = list_cells("byol_lenses:local", tmp_path, {}, Repeat(seeds=2))
    assert [cell.name for cell in cells] == ["byol_lenses", "byol_lenses-seed1"]
    with refuses("missing"):
        list_cells("byol_lenses:local", tmp_path, {})


@pytest.mark.parametrize("argument", ["", ":local", ":quick", ":gpu"])
def test_every_cell_of_own_is_a_valid_config(argument, tmp_path):
    cells = list_cells(f"own{argument}", tmp_path, {"data.dir": "x"}, Repeat(seeds=3))
    assert len(cells) == 12
    for cell in cells:
        checks.check(load_config(f"own{argument}", assignments(cell)))


def test_the_commands_are_listed(tmp_path, capsys):
    arguments = [f"--workdir={tmp_path}", "--seeds=2", "--config.data.dir=x", "--list"]
    assert main(["sweep", "own:quick", *arguments]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 8
    assert main(["sweep", "own:quick", *arguments, "--seeds=0"]) == 2
    assert main(["sweep", "own:quick", *arguments, "--seeds=1000000000"]) == 2
