"""The declarations of the fields, and the arithmetic of epochs and steps."""

import inspect

import pytest

from jaxssl import files
from jaxssl.augment import views
from jaxssl.config import checks, fields, presets, schedule
from jaxssl.errors import UserError
from jaxssl.training import optimizers
from tests.refusals import refuses


def test_steps_are_whole_batches():
    c = fields.base().pretrain
    c.batch_size = 256
    assert schedule.steps_per_epoch(1000, c, "pretrain") == 3
    assert schedule.steps_per_epoch(256, c, "pretrain") == 1
    with pytest.raises(UserError, match=r"pretrain.batch_size=256 is larger than the 255 images"):
        schedule.steps_per_epoch(255, c, "pretrain")
    c.images_per_epoch = 600
    assert schedule.steps_per_epoch(1000, c, "pretrain") == 2
    assert schedule.steps_per_epoch(300, c, "pretrain") == 1
    c.epochs, c.min_steps_per_epoch = 2**21, 2**10
    with refuses("out-of-range", "pretrain.epochs", "2097152"):
        schedule.steps_per_epoch(300, c, "pretrain")


def test_the_optimizer_is_given_steps_and_the_scaled_rate():
    c = fields.base().pretrain.optimizer
    c.learning_rate, c.scale_learning_rate, c.warmup_epochs = 0.2, True, 10
    options = schedule.optimizer_options(c, epochs=100, steps_per_epoch=7, batch_size=1024)
    assert options["learning_rate"] == pytest.approx(0.8)
    assert options["steps"] == 700 and options["warmup_steps"] == 70
    assert set(options) <= set(inspect.signature(optimizers.make).parameters)


def test_the_options_of_augmentation_have_the_defaults_of_its_function():
    parameters = inspect.signature(views.make).parameters
    of_function = {k: p.default for k, p in parameters.items() if p.default is not p.empty}
    for phase in ("pretrain", "transfer"):
        assert fields.base()[phase].augment.to_dict() == of_function


def test_each_field_is_declared_once_with_a_meaning():
    paths = [field.path for field in fields.FIELDS]
    assert len(set(paths)) == len(paths)
    assert all(field.meaning for field in fields.FIELDS)
    assert {path for path, _ in files.flatten(fields.base().to_dict())} == {p for p in paths if ".options" not in p}


def test_a_run_may_be_resumed_with_other_places():
    places = {"dir", "manual_dir", "cache_dir", "memory_mib", "workers"}
    assert fields.with_role("place") == {"logger", "mesh.data", "mesh.fsdp", *(f"data.{name}" for name in places)}


def test_options_have_the_role_of_their_section():
    assert fields.has_role("pretrain.options.ema", "method")
    assert not fields.has_role("data.options.table", "method")
    assert not fields.has_role("pretrain.nonsense", "method")


def test_fields_of_the_transfer_change_no_pretraining():
    after = {field.path for field in fields.FIELDS if not fields.changes_pretraining(field.path)}
    transfer = {field.path for field in fields.FIELDS if field.path.startswith("transfer.")}
    assert after == {"data.label_fraction", "data.labels_per_class", "data.validation_labels", *transfer}


@pytest.mark.parametrize("preset", [presets.finetune_mae, presets.finetune_dinov2])
def test_recipes_of_fine_tuning_are_valid_for_a_vit(preset):
    c = fields.base()
    c.model.name = "vit_base"
    preset(c)
    checks.check(c)
    assert (c.transfer.mixup, c.transfer.optimizer.warmup_epochs) == (0.8, 5)
