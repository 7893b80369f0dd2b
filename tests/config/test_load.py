"""Configs by name and path, and fields set from text."""

import logging

import pytest

from jaxssl import models, objectives
from jaxssl.config import fields
from jaxssl.config.load import available, configs_folder, load_config
from tests.refusals import refuses


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("transfer.protocols=probe", ("probe",)),
        ("transfer.protocols=('probe')", ("probe",)),
        ("transfer.protocols=probe,knn", ("probe", "knn")),
        ("transfer.protocols=(probe,knn)", ("probe", "knn")),
        ("transfer.protocols=['probe','knn']", ("probe", "knn")),
        ("transfer.protocols=()", ()),
        ("transfer.protocols=", ()),
        ("transfer.learning_rates=1e-3", (1e-3,)),
        ("transfer.shots=1,5", (1, 5)),
        ("transfer.learning_rates=[1e-3,1e-4]", (1e-3, 1e-4)),
        ("pretrain.augment.crop_area=0.2,1", (0.2, 1.0)),
        ("pretrain.epochs=1e2", 100),
        ("seed=4294967295", 2**32 - 1),
        ("pretrain.optimizer.learning_rate=1", 1.0),
        ("pretrain.augment.rotate90", True),
        ("pretrain.augment.rotate90=no", False),
        ("data.dir=a=b", "a=b"),
        ("data.dir='a b'", "a b"),
        ("pretrain.options.decoder_depth=4", 4),
        ("pretrain.options.normalise_targets=false", False),
        ("model.options.pool=cls", "cls"),
        ("data.options.snr=5", 5.0),
    ],
)
def test_values_have_the_type_of_the_field(assignment, value):
    path = assignment.partition("=")[0]
    found = load_config("mae_lenses:local", [f"--config.{assignment}"])[path]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("assignment", "code", "field", "parts"),
    [
        ("transfer.protocols=none", "out-of-range", "transfer.protocols", ["'none'"]),
        ("pretrain.epochs=None", "out-of-range", "pretrain.epochs", ["an integer"]),
        ("pretrain.epochs=1.5", "out-of-range", "pretrain.epochs", ["1.5"]),
        ("data.label_fraction=10%", "out-of-range", "data.label_fraction", ["10%"]),
        ("data.image_size=64,96", "out-of-range", "data.image_size", ["64,96"]),
        ("data.cache_dir=None", "out-of-range", "data.cache_dir", []),
        ("pretrain.augment.rotate90=maybe", "out-of-range", "pretrain.augment.rotate90", ["true or false"]),
        ("pretrain.lr=1e-3", "unknown-name", "pretrain.lr", ["'pretrain.optimizer.learning_rate'"]),
        ("pretrain.optimiser.name=lars", "unknown-name", "pretrain.optimiser.name", ["'pretrain.optimizer.name'"]),
        ("pretrain.kw.mask_ratio=.6", "unknown-name", "pretrain.kw.mask_ratio", ["'pretrain.options.mask_ratio'"]),
        ("pretrain.epoch=2", "unknown-name", "pretrain.epoch", ["'pretrain.epochs'"]),
        ("augment.noise=1", "unknown-name", "augment.noise", ["'pretrain.augment.noise'"]),
        ("transfer.layer_decay=1", "unknown-name", "transfer.layer_decay", ["'transfer.optimizer.layer_decay'"]),
        ("mesh=1", "unknown-name", "mesh", ["mesh.data, mesh.fsdp"]),
        ("model.options=1", "unknown-name", "model.options", ["model.options.NAME"]),
        ("model.options.drop_path=1", "unknown-name", "model.options.drop_path", ["model.options.depth=12"]),
        ("data.options.snd=1", "unknown-name", "data.options.snd", ["did you mean 'snr'"]),
        ("pretrain.options.mask_ratio=half", "out-of-range", "pretrain.options.mask_ratio", ["a number"]),
        ("=3", "unknown-name", "--config.=3", ["sets no field"]),
        ("model.name=resnet51", "unknown-name", "model.name", ["did you mean 'resnet"]),
        ("pretrain.objective=simclr", "unknown-name", "pretrain.objective", ["did you mean 'ntxent'"]),
    ],
)
def test_what_cannot_be_set_is_named(assignment, code, field, parts):
    with refuses(code, field, *parts):
        load_config("mae_lenses:local", [f"--config.{assignment}"])


def test_an_argument_without_a_value_sets_no_field():
    with refuses("unknown-name", "--config.pretrain.epochs", "--config.FIELD=VALUE"):
        load_config("mae_lenses", ["--config.pretrain.epochs"])


def test_a_text_that_is_no_value_of_python_is_a_string():
    c = load_config("own", ["transfer.inits={[]: 1}", "data.options.label_columns={[]: 1}"])
    assert c.transfer.inits == ("{[]: 1}",) and c.data.options.label_columns == "{[]: 1}"


def test_all_options_are_in_a_loaded_config():
    c = load_config("byol_lenses:local")
    assert set(c.pretrain.options) == set(objectives.options("byol"))
    assert c.pretrain.options.ema == 0.98  # From the config file.
    assert set(c.model.options) == set(models.options("resnet18"))
    with pytest.raises(AttributeError):
        c.pretrain.options.speed = 3


def test_another_objective_keeps_the_options_that_it_shares(caplog):
    with caplog.at_level(logging.WARNING):
        c = load_config("byol_lenses:local", ["--config.pretrain.options.temperature=1", "pretrain.objective=ntxent"])
    assert c.pretrain.options.to_dict() == {"hidden": 512, "projection": 128, "temperature": 1.0, "dense": 0.0}
    assert "keeps hidden=512, projection=128 and drops ema=0.98" in caplog.text


def test_another_encoder_keeps_options_only_within_its_family(caplog):
    assert load_config("byol_lenses:local", ["model.name=resnet34"]).model.options.width == 16
    assert load_config("byol_lenses:local", ["model.name=vit_tiny"]).model.options.width == 192


def test_every_option_can_be_set():
    c = fields.base()
    for name_path in fields.OPTIONS_OF:
        for name in fields.find(name_path).choices:
            options = {o: v for o, v in fields.options(name_path, name).items() if v is not None}
            texts = [f"{fields.options_path(name_path)}.{option}={value}" for option, value in options.items()]
            c = load_config("byol_lenses", [f"{name_path}={name}", *texts])
            assert options.items() <= c[fields.options_path(name_path)].to_dict().items()


def test_a_config_is_found_by_name_and_by_path(tmp_path, monkeypatch):
    by_path = load_config(f"{configs_folder()}/byol_lenses.py:local")
    assert load_config("byol_lenses:local").to_dict() == by_path.to_dict()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from jaxssl.config import fields\n\n\ndef get_config():\n    return fields.base()\n"
    )
    assert load_config("mine.py").seed == 0
    with refuses("unknown-name", "--config", "did you mean 'mine.py'"):
        load_config("mine")
    with refuses("unknown-name", "--config", "takes no argument"):
        load_config("mine.py:local")


@pytest.mark.parametrize(
    ("name", "code", "part"),
    [
        ("byol_lense", "unknown-name", "did you mean 'byol_lenses'"),
        ("nothing_like_it", "unknown-name", "byol_ham"),
        ("nowhere/byol_ham.py:local", "missing", "did you mean 'byol_ham'"),
        ("nowhere.py", "missing", "nowhere.py"),
        ("byol_lenses:lokal", "unknown-name", "did you mean 'local'"),
        ("priors:ham1000", "unknown-name", "did you mean 'ham10000'"),
    ],
)
def test_a_config_that_is_not_there_is_named_with_the_closest(name, code, part):
    with refuses(code, "--config", part):
        load_config(name)


@pytest.mark.parametrize(
    ("text", "code", "part"),
    [
        ("def get_config(:\n", "unreadable", "line 1"),
        ("import nowhere_at_all\n", "unreadable", "line 1: ModuleNotFoundError"),
        ("def get_config():\n    return 1 / 0\n", "unreadable", "line 2: ZeroDivisionError"),
        ("x = 1\n", "missing", "get_config"),
        ("def get_config():\n    return {}\n", "unsupported", "ConfigDict"),
        ("get_config = 3\n", "unsupported", "function"),
        ("raise SystemExit('set X')\n", "unreadable", "line 1: SystemExit: set X"),
        ("from ml_collections import ConfigDict as C\ndef get_config():\n    return C()\n", "missing", "base()"),
        (
            "from ml_collections import ConfigDict as C\ndef get_config():\n    return C({'seed': 1, 'data': 3})\n",
            "missing",
            "base()",
        ),
        (
            "from jaxssl.config.fields import base\ndef get_config():\n    c = base()\n    c.seed = 1.5\n",
            "unreadable",
            "line 4: TypeError",
        ),
    ],
)
def test_an_error_in_a_config_file_names_the_file_and_the_line(tmp_path, text, code, part):
    file = tmp_path / "mine.py"
    file.write_text(text)
    with refuses(code, str(file), part):
        load_config(str(file))


def test_the_configs_of_the_package_are_found():
    assert "byol_ham" in available() and "__init__" not in available()


def test_an_objective_brings_the_encoder_that_it_needs(caplog):
    c = load_config("own:quick", ["pretrain.objective=mae"])
    assert (c.model.name, c.model.options.patch, c.init.weights) == ("vit_tiny", 4, "")
    assert c.pretrain.augment.jitter_probability == 0
    assert "it also sets" in caplog.text and "model.name='vit_tiny'" in caplog.text
    assert load_config("own:quick", ["pretrain.objective=mae", "data.image_size=224"]).model.options.patch == 16
    assert load_config("mae_lenses", ["pretrain.objective=inpaint"]).model.name == "resnet18"


def test_what_the_command_line_sets_is_not_adapted():
    fields_set = ["pretrain.objective=mae", "model.name=vit_small", "model.options.patch=8"]
    c = load_config("own:quick", [*fields_set, "pretrain.augment.jitter_probability=0.5"])
    assert (c.model.name, c.model.options.patch, c.pretrain.augment.jitter_probability) == ("vit_small", 8, 0.5)


def test_rotation_is_not_predicted_of_rotated_images():
    c = load_config("byol_ham", ["pretrain.objective=rotation"])
    assert not c.pretrain.augment.rotate90 and not c.pretrain.augment.flip_vertical


def test_the_weights_of_another_encoder_are_left_out():
    assert load_config("own:quick", ["model.name=resnet18"]).init.weights == ""
