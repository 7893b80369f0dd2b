"""metrics.jsonl: a row a step or every n-th, one step late, and cut back when a run starts again."""

import json
import math
import struct

import jax.numpy as jnp
import pytest
from tensorboardX.proto import event_pb2, plugin_hparams_pb2

from jaxssl.errors import TrainingFailedError
from jaxssl.training import metrics


def writer(workdir, start=0, log_every=1):
    return metrics.Writer(workdir, "pretrain", start, 2, 4, 8, log_every)


def values(loss):
    return {"loss": jnp.asarray(loss), "gradient_norm": jnp.asarray(1.0)}


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes only when told: clock[0] += seconds."""
    seconds = [0.0]
    monkeypatch.setattr(metrics.time, "perf_counter", lambda: seconds[0])
    return seconds


def test_a_row_comes_one_step_late_and_says_what_was_fetched(tmp_path, clock):
    with writer(tmp_path) as w:
        w.step(1, values(3.0))
        assert metrics.read(tmp_path) == []
        clock[0] += 2.0
        w.step(2, values(2.0))
        (row,) = metrics.read(tmp_path)
        assert (row["phase"], row["step"], row["epoch"], row["loss"]) == ("pretrain", 1, 1, 3.0)
        assert (row["seconds"], row["images_per_second"]) == (2.0, 4.0)
        clock[0] += 1.0
        w.flush()
    assert [r["step"] for r in metrics.read(tmp_path)] == [1, 2]


def test_every_third_row_the_first_and_the_last_of_an_epoch_each_of_the_time_since_the_one_before(tmp_path, clock):
    with writer(tmp_path, log_every=3) as w:
        for step in range(1, 9):
            w.step(step, values(1.0))
            clock[0] += 0.5
        w.flush()
    rows = metrics.read(tmp_path)
    assert [(r["step"], r["seconds"], r["images_per_second"]) for r in rows] == [
        (1, 0.5, 16),
        (3, 1.0, 16),
        (4, 0.5, 16),
        (6, 1.0, 16),
        (8, 1.0, 16),
    ]


def test_what_is_not_training_is_not_timed(tmp_path, clock):
    with writer(tmp_path) as w:
        for step in (1, 2):
            w.step(step, values(1.0))
            clock[0] += 1.0
            w.flush()
            clock[0] += 60.0
            w.resume()
    assert [r["seconds"] for r in metrics.read(tmp_path)] == [1.0, 1.0]


def test_a_resumed_phase_takes_back_what_lies_beyond_its_checkpoint_and_leaves_others(tmp_path):
    with writer(tmp_path) as w:
        w.row(0, 0, {"effective_rank": 2.0})
        for step in range(1, 7):
            w.step(step, values(1.0))
        w.flush()
    other = {"phase": "other", "step": 9, "epoch": 0}
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write(json.dumps(other) + "\n" + '{"phase": "pretrain", "st')
    with writer(tmp_path, start=4):
        pass
    rows = metrics.read(tmp_path)
    assert [r["step"] for r in rows if r["phase"] == "pretrain"] == [0, 1, 2, 3, 4]
    assert other in rows
    with writer(tmp_path, start=0):
        pass
    assert metrics.read(tmp_path) == [other]


@pytest.mark.parametrize("name", ["loss", "gradient_norm"])
def test_what_is_not_finite_stops_the_run_and_is_written_as_null(tmp_path, name):
    with writer(tmp_path) as w:
        w.step(1, values(1.0) | {name: jnp.asarray(math.nan)})
        with pytest.raises(TrainingFailedError, match=rf"{name} is nan at step 1"):
            w.flush()
    assert metrics.read(tmp_path)[0][name] is None


@pytest.mark.parametrize(("first", "far"), [(4.0, False), (4.9, False), (5.1, True), (2.9, True)])
def test_a_first_loss_is_held_against_theory(tmp_path, caplog, capsys, first, far):
    with metrics.Writer(tmp_path, "pretrain", 0, 2, 4, 8, 1, first_loss=4.0) as w:
        w.step(1, values(first))
        w.step(2, values(100.0))
        w.flush()
    assert f"pretrain: the first loss is {first:.4g}; theory expects 4" in capsys.readouterr().out
    assert ("far from the 4" in caplog.text) == far == metrics.is_far(first, 4.0)


def events(folder):
    """Of all TensorBoard files below a folder: 8 bytes of length, 4 of checksum, the event, 4 of checksum."""
    for file in sorted(folder.rglob("events*")):
        data = file.read_bytes() if file.is_file() else b""
        while data:
            size = struct.unpack("<Q", data[:8])[0]
            yield event_pb2.Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]


def test_scores_stand_beside_the_config_in_tensorboard_once(tmp_path):
    settings = {"seed": 3, "data": {"name": "npz", "percentiles": [0.1, 99.9]}, "transfer": {"epochs": 2}}
    of = {"auc_macro": {"value": 0.75, "low": None, "high": None}, "ece": {"value": None}}
    results = {"evaluations": [{"name": "probe_ssl", "metrics": of}]}
    for _ in range(2):
        metrics.conclude(tmp_path, settings, results)
    found = [value for event in events(tmp_path) for value in event.summary.value]
    assert [(v.tag, v.simple_value) for v in found if v.WhichOneof("value") == "simple_value"] == [
        ("results/probe_ssl/auc_macro", 0.75)
    ]
    plugins = [plugin_hparams_pb2.HParamsPluginData.FromString(v.metadata.plugin_data.content) for v in found]
    (started,) = [p.session_start_info for p in plugins if p.HasField("session_start_info")]
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in started.hparams.items()}
    expected = {"seed": 3, "data.name": "npz", "data.percentiles": "[0.1, 99.9]", "transfer.epochs": 2}
    assert values == expected


def test_tensorboard_has_the_same_numbers_and_is_told_where_a_run_went_on(tmp_path):
    for start in (0, 1):
        with writer(tmp_path, start=start) as w:
            w.row(start + 1, 1, {"loss": 3.0, "verdict": "healthy"})
            w.row(start + 2, 1, {"loss": 2.0})
    found = [(e.step, [(v.tag, v.simple_value) for v in e.summary.value]) for e in events(tmp_path)]
    assert [e.session_log.status for e in events(tmp_path) if e.HasField("session_log")] == [event_pb2.SessionLog.START]
    assert [pair for pair in found if pair[1]] == [
        (step, [("pretrain/loss", loss)]) for step, loss in ((1, 3.0), (2, 2.0), (2, 3.0), (3, 2.0))
    ]
