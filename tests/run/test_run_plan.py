"""Batches that are larger than the images become smaller, a run resumes all the same, and the plan is in words."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxssl.config import fields, stored
from jaxssl.run import plan, prepare, workdir
from jaxssl.training.metrics import format_duration
from tests import tiny_config
from tests.refusals import refuses


def config(**values):
    c = fields.base()
    for path, value in values.items():
        section, _, name = path.partition("__")
        c[section][name] = value
    return c


@pytest.mark.parametrize(
    ("values", "images", "fitted"),
    [
        ({"pretrain__batch_size": 64}, 36, 36),
        ({"pretrain__batch_size": 64}, 64, 64),
        ({"pretrain__batch_size": 64, "pretrain__images_per_epoch": 40}, 100, 40),
        ({"pretrain__batch_size": 64, "pretrain__gradient_accumulation": 4}, 39, 36),
        # Images repeat between steps, but not within one.
        ({"pretrain__batch_size": 64, "pretrain__min_steps_per_epoch": 5}, 36, 36),
    ],
)
def test_a_batch_holds_no_image_twice(values, images, fitted):
    requested = {"pretrain.batch_size": 64} if fitted != 64 else {}
    c = config(**values)
    changed, found = plan.fit_batches(c, {"pretrain": images}, 1)
    assert (changed.pretrain.batch_size, found) == (fitted, requested)
    assert c.pretrain.batch_size == 64


def test_a_batch_divides_among_the_devices():
    changed, _ = plan.fit_batches(config(pretrain__batch_size=64), {"pretrain": 35}, 8)
    assert changed.pretrain.batch_size == 32
    # Fewer images than devices are refused later.
    assert plan.fit_batches(config(pretrain__batch_size=64), {"pretrain": 7}, 8)[1] == {}


def test_few_labels_fill_the_batches_of_the_transfer():
    c = config(transfer__batch_size=64, transfer__min_steps_per_epoch=10)
    assert plan.fit_batches(c, {"transfer": 12}, 1)[1] == {}


def test_a_run_with_smaller_batches_resumes_with_the_same_command(tmp_path):
    c = tiny_config.get_config()
    fields.fill_options(c)
    c.pretrain.batch_size = c.transfer.batch_size = 1024
    setup = prepare.prepare(c, tmp_path)
    used = len(setup.pretraining_rows) // setup.mesh.size * setup.mesh.size
    assert setup.config.pretrain.batch_size == used < 1024
    workdir.claim(setup)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["config"]["pretrain"]["batch_size"] == used
    assert stored["requested"] == {"pretrain.batch_size": 1024, "transfer.batch_size": 1024}
    workdir.check_config(c, tmp_path)
    c.pretrain.batch_size = 512
    with refuses("conflict", "--workdir", "1024", "512"):
        workdir.check_config(c, tmp_path)


def test_a_run_that_began_before_there_was_a_field_resumes(tmp_path):
    """With its default, where that is what runs did before; else one line names the field."""
    c = tiny_config.get_config()
    fields.fill_options(c)
    setup = prepare.prepare(c, tmp_path)
    workdir.claim(setup)
    whole = json.loads((tmp_path / "config.json").read_text())

    def without(*paths):
        less = json.loads(json.dumps(whole))
        for *sections, name in paths:
            of = less["config"]
            for section in sections:
                of = of[section]
            del of[name]
        (tmp_path / "config.json").write_text(json.dumps(less))
        # As that version wrote it, and, where the field was deleted by hand, with the hash of all fields.
        for config in (less, whole):
            split = json.loads((tmp_path / "splits.json").read_text())
            split["config_sha256"] = workdir.hash_config(workdir.as_requested(config))
            (tmp_path / "splits.json").write_text(json.dumps(split))
            workdir.check_config(c, tmp_path)
            workdir.claim(setup)

    without(("checkpoints", "keep"), ("deterministic",), ("transfer", "lora"), ("data", "options", "snr"))
    with refuses("conflict", "--workdir", "data.fit is 'crop' there and 'pad' here", "--config.FIELD=VALUE"):
        without(("data", "fit"))
    assert stored.read_config(tmp_path)["config"]["data"]["fit"] == "crop"


def test_the_plan_counts_images_steps_and_trainings(tmp_path):
    c = tiny_config.get_config()
    c.transfer.learning_rates = (0.1, 0.01)
    setup = prepare.prepare(c, tmp_path)
    trainings = plan.list_trainings(setup)
    assert trainings == ["pretrain", *(f"finetune_{init}_{i}" for init in ("ssl", "random") for i in (1, 2))]
    assert plan.number_of(setup, "finetune_ssl_2") == "fine-tuning, pretrained, rate 2 (3 of 5)"
    text = plan.describe(setup)
    assert f"{len(setup.splits['train']):,} train" in text and "fine-tuning: 4 networks" in text
    assert "trainings: 5" in text


def test_the_plan_says_how_long_it_takes(tmp_path):
    setup = prepare.prepare(tiny_config.get_config(), tmp_path)
    assert plan.describe(setup, 1500).splitlines()[-1].startswith("trainings: 3, about 25 min on ")
    # 2 epochs of 5 steps of 16 images in two views; fine-tuning has one view.
    (steps, images), (finetuning, _) = plan.count_passes(setup, "pretrain"), plan.count_passes(setup, "finetune_ssl")
    assert (steps, images) == (2 * (len(setup.pretraining_rows) // 16), 3 * 2 * 16)
    assert plan.count_other_steps(setup, "pretrain") == (0, 2 * finetuning / 2)
    assert plan.count_other_steps(setup, "finetune_random") == (2 * steps + finetuning, 0)
    assert [format_duration(s) for s in (40, 1500, 9000)] == ["40 s", "25 min", "2.5 h"]


@pytest.mark.parametrize(
    ("side", "enlarge", "expected"), [(24, False, 24), (24, True, 64), (80, False, 64), (8, False, 16)]
)
def test_images_are_not_enlarged_unless_that_is_asked_for(tmp_path, side, enlarge, expected):
    np.savez(tmp_path / "a.npz", images=np.zeros((5, side, side, 3), np.uint8))
    Image.new("L", (side - 2, side)).save(tmp_path / "a.png")
    for place in (tmp_path, tmp_path / "a.npz"):
        c = config(data__dir=str(place), data__image_size=64, data__enlarge=enlarge)
        changed, found = plan.fit_image_size(c, smallest=16)
        assert changed.data.image_size == expected and c.data.image_size == 64
        assert found == ({} if expected == 64 else {"data.image_size": 64})
