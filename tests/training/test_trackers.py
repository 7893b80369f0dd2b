"""Weights & Biases and MLflow, each a fake that notes what it is told: neither is needed, and neither ends a run."""

import json
import logging
import sys
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from jaxssl.config import checks
from jaxssl.errors import UserError
from jaxssl.training import metrics, trackers
from tests import tiny_config
from tests.refusals import refuses

SETTINGS = {"seed": 0, "pretrain": {"epochs": 2}}


class Wandb:
    """Those of its functions that are used, with their arguments."""

    def __init__(self):
        self.told = []

    def init(self, *, project, id, name, resume, dir, config):
        self.told.append(("init", project, id, name, resume, dir, config))
        return SimpleNamespace(define_metric=self.define_metric, log=self.log, finish=self.finish)

    def define_metric(self, name, *, step_metric):
        self.told.append(("define", name, step_metric))

    def log(self, data):
        self.told.append(("log", data))

    def finish(self):
        self.told.append(("finish",))


class Mlflow:
    """Likewise."""

    def __init__(self):
        self.told = []

    def start_run(self, *, run_id, run_name):
        self.told.append(("start", run_id, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id or "made"))

    def log_params(self, params):
        self.told.append(("params", params))

    def log_metrics(self, metrics, *, step):
        self.told.append(("metrics", metrics, step))

    def end_run(self):
        self.told.append(("end",))


@pytest.fixture
def wandb(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", fake := Wandb())
    return fake


@pytest.fixture
def mlflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", fake := Mlflow())
    return fake


def train(workdir, logger):
    with metrics.Writer(workdir, "pretrain", 0, 2, 4, 8, 1, settings=SETTINGS | {"logger": logger}) as writer:
        writer.row(0, 0, {"effective_rank": 2.0, "verdict": "healthy", "validation": float("nan")})
        writer.step(1, {"loss": jnp.asarray(3.0), "gradient_norm": jnp.asarray(1.0)})
        writer.flush()
    trackers.finish()


def test_rows_go_to_wandb_with_the_step_of_their_phase_and_go_on_in_the_same_run(tmp_path, wandb):
    train(tmp_path, "wandb")
    (begun, *told) = wandb.told
    name = json.loads((tmp_path / "tracker.json").read_text())["wandb"]
    about = ("jaxssl", name, tmp_path.name, "allow", str(tmp_path), SETTINGS | {"logger": "wandb"})
    assert begun == ("init", *about)
    assert told[0] == ("define", "pretrain/*", "pretrain/step")
    assert told[1] == ("log", {"pretrain/effective_rank": 2.0, "pretrain/step": 0})
    assert told[-2][1].items() > {"pretrain/loss": 3.0, "pretrain/step": 1}.items() and told[-1] == ("finish",)
    wandb.told.clear()
    train(tmp_path, "wandb")
    assert wandb.told[0] == begun


def test_rows_go_to_mlflow_and_go_on_in_the_same_run(tmp_path, mlflow):
    train(tmp_path, "mlflow")
    assert mlflow.told[0] == ("start", None, tmp_path.name)
    assert mlflow.told[1] == ("params", {"seed": 0, "pretrain.epochs": 2, "logger": "mlflow"})
    assert mlflow.told[2] == ("metrics", {"pretrain/effective_rank": 2.0}, 0)
    assert mlflow.told[3][1]["pretrain/loss"] == 3.0 and mlflow.told[3][2] == 1
    assert mlflow.told[4:] == [("end",)]
    mlflow.told.clear()
    train(tmp_path, "mlflow")
    assert mlflow.told[0] == ("start", "made", None) and mlflow.told[1][0] == "metrics"


def test_all_phases_of_a_process_are_one_start(tmp_path, wandb):
    """Offline, each start is a run of its own that cannot be continued."""
    for phase in ("pretrain", "finetune_ssl", "finetune_random"):
        with metrics.Writer(tmp_path, phase, 0, 2, 4, 8, 1, settings=SETTINGS | {"logger": "wandb"}) as writer:
            writer.row(0, 0, {"validation": 0.5})
    metrics.conclude(tmp_path, SETTINGS | {"logger": "wandb"}, {"evaluations": []})
    trackers.finish()
    assert [told[0] for told in wandb.told].count("init") == [told[0] for told in wandb.told].count("finish") == 1


def test_a_damaged_id_begins_a_new_run(tmp_path, wandb):
    (tmp_path / "tracker.json").write_text("[1]")
    train(tmp_path, "wandb")
    assert json.loads((tmp_path / "tracker.json").read_text())["wandb"] == wandb.told[0][2]


def test_mlflow_takes_a_whole_config_in_parts(tmp_path, mlflow):
    trackers.begin("mlflow", tmp_path, {"options": {str(i): i for i in range(250)}})
    assert [len(told[1]) for told in mlflow.told[1:]] == [100, 100, 50]


def test_scores_go_there_at_the_end(tmp_path, wandb):
    of = {"auc_macro": {"value": 0.75, "low": None, "high": None}}
    metrics.conclude(tmp_path, {"logger": "wandb"}, {"evaluations": [{"name": "probe_ssl", "metrics": of}]})
    trackers.finish()
    assert wandb.told[-2:] == [("log", {"results/probe_ssl/auc_macro": 0.75, "results/step": 0}), ("finish",)]


def test_without_a_logger_nothing_is_left(tmp_path, wandb, mlflow):
    train(tmp_path, "")
    assert wandb.told == mlflow.told == [] and not (tmp_path / "tracker.json").exists()


def test_what_fails_on_the_way_is_told_once_and_ends_nothing(tmp_path, wandb, monkeypatch, caplog):
    def log(data):
        raise OSError("no network")

    monkeypatch.setattr(wandb, "log", log)
    with caplog.at_level(logging.WARNING):
        train(tmp_path, "wandb")
    assert [record.getMessage() for record in caplog.records if record.name == trackers.log.name] == [
        "logger='wandb' failed and is not used until the next phase: no network"
    ]
    assert [row["step"] for row in metrics.read(tmp_path)] == [0, 1]


def test_what_cannot_begin_is_said_in_one_line(tmp_path, wandb, monkeypatch):
    def init(**_):
        raise RuntimeError("no API key\nconfigured")

    monkeypatch.setattr(wandb, "init", init)
    with pytest.raises(UserError, match=r"logger='wandb' cannot start \(no API key configured\): set it up") as error:
        train(tmp_path, "wandb")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            ModuleNotFoundError("No module named 'google'", name="google.protobuf"),
            "google.protobuf is missing or broken",
        ),
        (TypeError("Descriptors cannot be created directly"), "wandb is missing or broken"),
    ],
)
def test_a_package_without_a_part_of_itself_is_named(monkeypatch, error, says):
    def broken(name):
        raise error

    monkeypatch.setattr(trackers.importlib, "import_module", broken)
    with refuses("missing", "logger", says, "pip install --force-reinstall wandb"):
        trackers.import_package("wandb")


@pytest.mark.parametrize(
    ("logger", "says"),
    [("mlflow", "logger='mlflow' needs the package mlflow: pip install mlflow"), ("wand", "did you mean 'wandb'")],
)
def test_a_logger_that_is_not_there_is_refused_before_an_image_is_read(monkeypatch, logger, says):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    c = tiny_config.get_config()
    c.logger = logger
    with pytest.raises(UserError, match=says):
        checks.check(c)
