"""What a user gets wrong: one line, exit code 2, and nothing compiled or left behind."""

import numpy as np
import pytest
from PIL import Image

from jaxssl.cli import run as run_command
from jaxssl.cli.parser import main
from jaxssl.errors import PreemptedError, TrainingFailedError, UserError
from jaxssl.run import workdir

ROOT = __file__.rsplit("/", 2)[0]
CONFIG = f"--config={ROOT}/configs/byol_lenses.py:local"
TINY = f"--config={ROOT}/tests/tiny_config.py:no_options"
HAM = f"--config={ROOT}/configs/byol_ham.py:local"


@pytest.fixture
def run(tmp_path, capfd, monkeypatch):
    """Runs main in a folder of its own; (exit code, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        return main(["run", *arguments]), capfd.readouterr().err

    return call


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "the config is missing"),
        (("--config=configs/nowhere.py",), "configs/nowhere.py"),
        ((CONFIG, "--config.pretrain.epoch=2"), "epoch"),
        ((CONFIG, "--config.nonsense=2"), "nonsense"),
        ((CONFIG, "--wrokdir=x"), "wrokdir"),
        ((CONFIG, "stray"), "stray"),
        ((CONFIG, "--config.pretrain.epochs=many"), "pretrain.epochs"),
        ((CONFIG, "--config.pretrain.optimizer.learning_rate=fast"), "learning_rate"),
        ((CONFIG, "--config.pretrain.objective=bayol"), "did you mean 'byol'"),
        ((CONFIG, "--config.model.name=resnet19"), "resnet18"),
        ((CONFIG, "--config.data.name=lens"), "lenses"),
        ((CONFIG, "--config.data.label_fraction=0"), "data.label_fraction=0.0 lies outside (0, 1]"),
        ((CONFIG, "--config.data.label_fraction=1.5"), "data.label_fraction"),
        ((CONFIG, "--config.data.test=1.0"), "data.test"),
        ((CONFIG, "--config.data.image_size=16"), "data.image_size=16"),
        ((CONFIG, "--config.pretrain.batch_size=100000"), "pretrain.batch_size=100000 is larger than the"),
        ((CONFIG, "--config.transfer.batch_size=100000"), "transfer.batch_size=100000 is larger than the"),
        ((CONFIG, "--config.pretrain.batch_size=0"), "pretrain.batch_size=0"),
        ((CONFIG, "--config.pretrain.gradient_accumulation=3"), "pretrain.gradient_accumulation=3"),
        ((CONFIG, "--config.mesh.fsdp=3", "--config.mesh.data=9"), "mesh.data=9"),
        ((CONFIG, "--config.transfer.protocols=('prob',)"), "did you mean 'probe'"),
        ((CONFIG, "--config.transfer.epochs=0"), "transfer.epochs=0"),
        ((TINY, "--config.pretrain.objective=rotation"), "pretrain.augment.rotate90"),
        ((CONFIG, "--config.data.folds=1"), "data.folds=1"),
        ((TINY, "--config.pretrain.objective=mae"), "pretrain.objective='mae' needs"),
        ((CONFIG, "--config.data.label_fraction=0.1", "--config.data.labels_per_class=5"), "data.labels_per_class"),
        ((CONFIG, "--config.pretrain.augment.rotation=200.0"), "augment.rotation=200.0 lies outside [0, 180]"),
        ((CONFIG, "--config.transfer.augment.randaugment_magnitude=11.0"), "lies outside [0, 10]"),
        ((CONFIG, "--config.transfer.mixup=-1.0"), "transfer.mixup=-1.0"),
        ((CONFIG, "--config.data.folds=3", "--config.data.fold=3"), "data.fold=3 is not below data.folds=3"),
        ((CONFIG, "--config.pretrain.augment.crop_area=(0.0,1.0)"), "crop_area"),
        ((CONFIG, "--config.pretrain.augment.crop_area=(0.5,)"), "crop_area"),
        ((CONFIG, "--config.transfer.augment.crop_ratio=(0.0,1.0)"), "crop_ratio"),
        ((CONFIG, "--config.pretrain.augment.blur_probability=()"), "blur_probability"),
        ((CONFIG, "--config.seed=-1"), "seed=-1"),
        ((CONFIG, f"--config.seed={2**32}"), f"seed={2**32} lies outside [0, {2**32})"),
        ((CONFIG, f"--config.seed={2**64}"), f"seed={2**64}"),
        ((CONFIG, "--config.pretrain.augment.blur_probability=abc"), "blur_probability='abc' must be a number"),
        ((CONFIG, "--config.transfer.augment.crop_area=('a','b')"), "must be a number"),
        ((CONFIG, "--config.data.percentiles=(None,1)"), "data.percentiles"),
        ((CONFIG, "--config.transfer.protocols=('probe','probe')"), "holds a value twice"),
        ((CONFIG, "--config.transfer.protocols=(1,)"), "transfer.protocols='1'"),
        ((CONFIG, "--config.transfer.label_smoothing=2.0"), "label_smoothing"),
        ((CONFIG, "--config.pretrain.optimizer.momentum=-3.0"), "momentum"),
        ((CONFIG, "--config.pretrain.augment.jitter_probability=2.0"), "jitter_probability"),
        ((CONFIG, "--config.data.name=folder"), "data.dir"),
        ((HAM,), "10.7910/DVN/DBW86T"),
        ((HAM, "--config.data.manual_dir=nowhere"), "nowhere"),
        ((CONFIG, "--workdir=/proc/nowhere"), "--workdir=/proc/nowhere"),
    ],
)
def test_a_mistake_ends_with_one_helpful_line(run, arguments, says):
    code, error = run(*arguments)
    assert code == 2
    assert says in error
    assert len(error.strip().splitlines()) == 1, error
    assert "Traceback" not in error


def test_options_that_nothing_takes_are_named_with_those_that_exist(run, tmp_path):
    text = f"""
import importlib.util
spec = importlib.util.spec_from_file_location("base", "{ROOT}/configs/byol_lenses.py")
base = importlib.util.module_from_spec(spec)
spec.loader.exec_module(base)
def get_config(arg=""):
    c = base.get_config("local")
    c[arg].options.speed = 3
    return c
"""
    (tmp_path / "mine.py").write_text(text)
    for part, known in (("pretrain", "pretrain.options.ema"), ("model", "width"), ("data", "images_per_class")):
        code, error = run(f"--config=mine.py:{part}")
        assert code == 2 and "speed" in error and known in error, error


def test_images_that_all_hold_one_value_are_refused(run, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(80):
            Image.fromarray(np.full((32, 32), 7, np.uint8)).save(tmp_path / "images" / name / f"{i}.png")
    code, error = run(f"--config={ROOT}/configs/byol_folder.py:local", "--config.data.dir=images")
    assert code == 2 and "data.dir" in error and " 7" in error
    assert not (tmp_path / "runs").exists()


def test_a_workdir_of_something_else_is_refused(run, tmp_path):
    for text in ("{}", "[1]", "not json"):
        (tmp_path / "config.json").write_text(text)
        code, error = run(TINY, "--workdir=.")
        assert code == 2 and "config.json" in error


def test_without_git_the_revision_is_unknown(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert workdir.find_git_revision() is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TrainingFailedError("loss is nan"), 3),
        (PreemptedError("saved"), 75),
        (UserError("mend it"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_end_has_its_exit_code(run, monkeypatch, error, code):
    def ends(*_):
        raise error

    monkeypatch.setattr(run_command.experiment, "run", ends)
    found, said = run(CONFIG)
    assert found == code and len(said.strip().splitlines()) == 1 and "Traceback" not in said
    if code != 130:
        with pytest.raises(type(error)):
            run(CONFIG, "--debug")


def test_default_workdir_is_named_after_config_and_argument():
    assert str(run_command.default_workdir("configs/byol_ham.py:local")) == "runs/byol_ham-local"
    assert str(run_command.default_workdir("a/byol_ham.py")) == "runs/byol_ham"
