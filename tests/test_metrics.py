"""metrics.jsonl: a row a step or every n-th, one step late, and cut back when a run starts again."""

import json
import math

import jax.numpy as jnp
import pytest

from jaxssl import metrics
from jaxssl.errors import SickRun


def writer(workdir, start=0, log_every=1):
    return metrics.Writer(workdir, "pretrain", start, 2, 4, 8, log_every)


def values(loss):
    return {"loss": jnp.asarray(loss), "gradient_norm": jnp.asarray(1.0)}


def test_a_row_comes_one_step_late_and_says_what_was_fetched(tmp_path):
    with writer(tmp_path) as w:
        w.step(1, values(3.0))
        assert metrics.read(tmp_path) == []
        w.step(2, values(2.0))
        (row,) = metrics.read(tmp_path)
        assert (row["phase"], row["step"], row["epoch"], row["loss"]) == ("pretrain", 1, 0, 3.0)
        assert row["seconds"] > 0 and row["images_per_second"] == pytest.approx(8 / row["seconds"], rel=0.2)
        w.flush()
    assert [r["step"] for r in metrics.read(tmp_path)] == [1, 2]


def test_every_third_row_and_the_first(tmp_path):
    with writer(tmp_path, log_every=3) as w:
        for step in range(1, 8):
            w.step(step, values(1.0))
        w.flush()
    assert [r["step"] for r in metrics.read(tmp_path)] == [1, 3, 6]


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
        with pytest.raises(SickRun, match=rf"{name} is nan at step 1"):
            w.flush()
    assert metrics.read(tmp_path)[0][name] is None
