"""`jaxssl.pretrain` and `jaxssl.compare` do what the commands do."""

import shutil
from pathlib import Path

import jaxssl
from tests import tiny_run
from tests.refusals import refuses

CONFIG = str(Path(__file__).with_name("tiny_config.py"))


def test_pretrain_runs_a_config_on_images(tmp_path):
    images = tiny_run.write_images(tmp_path / "images", count=12)
    fields = {"data.name": "folder", "data.options.group_pattern": r"(\d\d)", "data.test": 0.3}
    fields |= {"pretrain.epochs": 1, "pretrain.batch_size": 8, "transfer.batch_size": 8}
    fields |= {"transfer.protocols": ("finetune",), "transfer.inits": ("ssl",), "data.stored_size": 20}
    network = jaxssl.pretrain(images, tmp_path / "run", CONFIG, fields)
    assert network.evaluation == "finetune_ssl"
    assert network.predict([images / "dark" / "00.png"]).shape == (1, 2)
    with refuses("conflict", "--workdir"):
        jaxssl.pretrain(images, tmp_path / "run", CONFIG, fields | {"seed": 1})


def test_compare_returns_the_study(run, tmp_path):
    shutil.copytree(run.workdir, tmp_path / "study" / "one")
    study = jaxssl.compare(tmp_path / "study", to=tmp_path / "out", against="random")
    assert {arm["init"] for arm in study["arms"]} == {"ssl", "random"}
    assert {d["b"] for d in study["differences"]} == {"random"}
    assert (tmp_path / "out" / "compare.json").exists() and not (tmp_path / "study" / "compare.json").exists()
