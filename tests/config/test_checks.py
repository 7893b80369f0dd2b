"""What a config is refused for before any data is read."""

import pytest

from jaxssl.config import checks, fields
from jaxssl.config.load import load_config
from tests.refusals import refuses


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", -1),
        ("data.label_fraction", 0.0),
        ("data.test", 0.95),
        ("data.asinh", -1.0),
        ("data.memory_mib", -1),
        ("data.folds", 1),
        ("data.folds", -2),
        ("data.fold", 1),
        ("data.percentiles", (5.0, 1.0)),
        ("data.percentiles", (1.0, 1.0)),
        ("init.std", (0.0,)),
        ("mesh.data", -7),
        ("mesh.data", 0),
        ("mesh.fsdp", 0),
        ("pretrain.batch_size", 0),
        ("pretrain.epochs", -1),
        ("pretrain.log_every", 0),
        ("pretrain.optimizer.learning_rate", float("nan")),
        ("pretrain.optimizer.weight_decay", float("inf")),
        ("pretrain.optimizer.momentum", 1.0),
        ("pretrain.optimizer.warmup_epochs", -1),
        ("pretrain.augment.brightness", -0.1),
        ("pretrain.augment.contrast", -0.1),
        ("pretrain.augment.saturation", -0.1),
        ("pretrain.augment.hue", -0.1),
        ("pretrain.augment.hue", 0.6),
        ("transfer.augment.noise", -0.1),
        ("transfer.augment.rotation", 181.0),
        ("transfer.augment.blur_probability", ()),
        ("transfer.augment.blur_probability", (0.5, 1.5)),
        ("transfer.augment.blur_sigma", (2.0, 0.1)),
        ("transfer.augment.crop_area", (0.5,)),
        ("transfer.freeze_epochs", -1),
        ("transfer.learning_rates", (0.0,)),
        ("transfer.learning_rates", (-1e-3, 1e-3)),
        ("transfer.mixup", -1.0),
        ("transfer.label_smoothing", 1.0),
        ("transfer.specificity", 0.0),
        ("pretrain.epochs", 10**30),
        ("transfer.head", (10**22,)),
        ("data.stored_size", 99_999),
    ],
)
def test_a_number_outside_its_range(path, value):
    c = fields.base()
    c.update_from_flattened_dict({path: value})
    if path == "init.std":
        c.init.mean = (0.5,)
    with refuses("out-of-range", path):
        checks.check(c)


@pytest.mark.parametrize("field", [field for field in fields.FIELDS if field.choices], ids=lambda field: field.path)
def test_a_name_that_is_not_allowed(field):
    c = fields.base()
    value = ("nonsense",) if isinstance(field.default, tuple) else "nonsense"
    c.update_from_flattened_dict({field.path: value})
    with refuses("unknown-name", field.path, "nonsense", *map(repr, field.choices[:3])):
        checks.check(c)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"data.validation": 0.5, "data.test": 0.5}, "data.validation"),
        ({"data.validation": 0.5, "data.folds": 2}, "data.validation"),
        ({"data.labels_per_class": 5, "data.label_fraction": 0.1}, "data.labels_per_class"),
        ({"init.mean": (0.5,)}, "init.mean"),
        ({"pretrain.gradient_accumulation": 3}, "pretrain.gradient_accumulation"),
        ({"pretrain.objective": "rotation", "pretrain.augment.rotate90": True}, "pretrain.augment.rotate90"),
        ({"pretrain.epochs": 0, "transfer.protocols": ()}, "pretrain.epochs"),
        ({"transfer.epochs": 0}, "transfer.epochs"),
        ({"transfer.freeze_epochs": 50}, "transfer.freeze_epochs"),
        ({"transfer.protocols": ("knn", "knn")}, "transfer.protocols"),
    ],
)
def test_values_that_exclude_each_other(values, field):
    c = fields.base()
    checks.check(c)
    c.update_from_flattened_dict(values)
    with refuses("conflict", field):
        checks.check(c)


def test_an_encoder_that_is_frozen_for_some_epochs_is_fine_tuned():
    c = fields.base()
    c.transfer.freeze_epochs = c.transfer.epochs - 1
    checks.check(c)
    c.transfer.freeze_epochs, c.transfer.protocols = c.transfer.epochs, ("probe",)
    checks.check(c)


def test_options_that_nothing_takes():
    c = fields.base()
    for section in ("data", "model", "pretrain"):
        c[section].options.speed = 3
        with refuses("unknown-name", f"{section}.options.speed", f"{section}.options."):
            checks.check(c)
        del c[section].options.speed


@pytest.mark.parametrize(
    ("section", "name", "values"),
    [
        ("model", "resnet18", {"width": [0, -1, 2**31], "stages": [(), (0, 1), (2, "a")]}),
        ("model", "autoencoder", {"widths": [(), (0,), (8, True)]}),
        ("model", "efficientnet_lite0", {"depth": [float("inf"), float("nan"), -1.0]}),
        ("pretrain", "byol", {"hidden": [0], "projection": [-5], "ema": [float("nan"), -0.1]}),
        ("pretrain", "mae", {"decoder_width": [0], "decoder_depth": [-1], "decoder_heads": [0]}),
        ("data", "folder", {"slice_axis": [-1, 10**30], "slice_range": [(float("nan"), 1.0), (), (0.5,)]}),
    ],
)
def test_a_number_of_an_option_that_nothing_can_work_with(section, name, values):
    path = {"pretrain": "pretrain.objective"}.get(section, f"{section}.name")
    for option, wrong in values.items():
        for value in wrong:
            c = load_config("byol_lenses", [f"{path}={name}"]).unlock()
            with c.ignore_type():
                c[section].options[option] = value
            with refuses("out-of-range", f"{section}.options.{option}"):
                checks.check_options(c, path)


def test_numbers_at_the_ends_of_their_ranges():
    for path, name, values in (
        ("pretrain.objective", "byol", ["pretrain.options.ema=0", "pretrain.options.hidden=1"]),
        ("data.name", "folder", ["data.options.slice_axis=0", "data.options.mask_classes=nodule,3"]),
        ("model.name", "vit_tiny", ["model.options.registers=0"]),
    ):
        c = load_config("byol_lenses", [f"{path}={name}", *values])
        checks.check_options(c, path)
    assert c.model.options.registers == 0
    c = load_config("byol_lenses", ["data.name=folder", "data.options.mask_classes=nodule,3"])
    assert c.data.options.mask_classes == ("nodule", "3")


def test_an_option_of_the_wrong_type():
    c = fields.base()
    c.pretrain.options.hidden = "wide"
    with refuses("out-of-range", "pretrain.options.hidden", "an integer"):
        checks.check(c)
