"""What a user gets wrong: one line, exit code 2, and nothing compiled or left behind."""

import numpy as np
import pytest
from PIL import Image

from jaxssl.cli import parser
from jaxssl.cli import run as run_command
from jaxssl.cli.parser import main
from jaxssl.errors import PreemptedError, TrainingFailedError, UserError
from jaxssl.run import workdir

ROOT = __file__.rsplit("/", 2)[0]
CONFIG = f"--config={ROOT}/configs/byol_lenses.py:local"
TINY = f"--config={ROOT}/tests/tiny_config.py:no_options"
HAM = f"--config={ROOT}/configs/byol_ham.py:local"


@pytest.fixture
def raised(monkeypatch):
    """The errors that commands print."""
    errors = []
    for module in (parser, run_command):
        print_error = module.print_error
        monkeypatch.setattr(module, "print_error", lambda e, *a, p=print_error: (errors.append(e), p(e, *a))[1])
    return errors


@pytest.fixture
def run(tmp_path, capfd, monkeypatch):
    """Runs main in a folder of its own; (exit code, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        return main(["run", *arguments]), capfd.readouterr().err

    return call


@pytest.mark.parametrize(
    ("arguments", "code", "field", "part"),
    [
        ((), "missing", "--config", ""),
        (("--config=configs/nowhere.py",), "missing", "--config", ""),
        ((CONFIG, "--config.pretrain.epoch=2"), "unknown-name", "pretrain.epoch", ""),
        ((CONFIG, "--config.nonsense=2"), "unknown-name", "nonsense", ""),
        ((CONFIG, "--wrokdir=x"), "unknown-name", "--wrokdir", ""),
        ((CONFIG, "stray"), "conflict", "--config", "stray"),
        ((CONFIG, "--config.pretrain.epochs=many"), "out-of-range", "pretrain.epochs", ""),
        (
            (CONFIG, "--config.pretrain.optimizer.learning_rate=fast"),
            "out-of-range",
            "pretrain.optimizer.learning_rate",
            "",
        ),
        ((CONFIG, "--config.pretrain.objective=bayol"), "unknown-name", "pretrain.objective", "did you mean 'byol'"),
        ((CONFIG, "--config.model.name=resnet19"), "unknown-name", "model.name", "resnet18"),
        ((CONFIG, "--config.data.name=lens"), "unknown-name", "data.name", "lenses"),
        ((CONFIG, "--config.data.label_fraction=0"), "out-of-range", "data.label_fraction", ""),
        ((CONFIG, "--config.data.label_fraction=1.5"), "out-of-range", "data.label_fraction", ""),
        ((CONFIG, "--config.data.test=1.0"), "out-of-range", "data.test", ""),
        ((CONFIG, "--config.data.image_size=16"), "out-of-range", "data.image_size", ""),
        ((CONFIG, "--config.pretrain.batch_size=0"), "out-of-range", "pretrain.batch_size", ""),
        ((CONFIG, "--config.pretrain.gradient_accumulation=3"), "conflict", "pretrain.gradient_accumulation", ""),
        ((CONFIG, "--config.mesh.fsdp=3", "--config.mesh.data=9"), "mismatch", "mesh.data", ""),
        (
            (CONFIG, "--config.transfer.protocols=('prob',)"),
            "unknown-name",
            "transfer.protocols",
            "did you mean 'probe'",
        ),
        ((CONFIG, "--config.transfer.epochs=0"), "conflict", "transfer.epochs", ""),
        (
            (TINY, "--config.pretrain.objective=rotation", "--config.pretrain.augment.rotate90"),
            "conflict",
            "pretrain.augment.rotate90",
            "",
        ),
        ((CONFIG, "--config.data.folds=1"), "out-of-range", "data.folds", ""),
        ((TINY, "--config.pretrain.objective=mae", "--config.model.name=resnet18"), "mismatch", "model.name", ""),
        (
            (CONFIG, "--config.data.label_fraction=0.1", "--config.data.labels_per_class=5"),
            "conflict",
            "data.labels_per_class",
            "",
        ),
        ((CONFIG, "--config.pretrain.augment.rotation=200.0"), "out-of-range", "pretrain.augment.rotation", ""),
        (
            (CONFIG, "--config.transfer.augment.randaugment_magnitude=11.0"),
            "out-of-range",
            "transfer.augment.randaugment_magnitude",
            "",
        ),
        ((CONFIG, "--config.transfer.mixup=-1.0"), "out-of-range", "transfer.mixup", ""),
        ((CONFIG, "--config.data.folds=3", "--config.data.fold=3"), "out-of-range", "data.fold", ""),
        ((CONFIG, "--config.pretrain.augment.crop_area=(0.0,1.0)"), "out-of-range", "pretrain.augment.crop_area", ""),
        ((CONFIG, "--config.pretrain.augment.crop_area=(0.5,)"), "out-of-range", "pretrain.augment.crop_area", ""),
        ((CONFIG, "--config.transfer.augment.crop_ratio=(0.0,1.0)"), "out-of-range", "transfer.augment.crop_ratio", ""),
        (
            (CONFIG, "--config.pretrain.augment.blur_probability=()"),
            "out-of-range",
            "pretrain.augment.blur_probability",
            "",
        ),
        ((CONFIG, "--config.seed=-1"), "out-of-range", "seed", ""),
        ((CONFIG, f"--config.seed={2**32}"), "out-of-range", "seed", ""),
        ((CONFIG, f"--config.seed={2**64}"), "out-of-range", "seed", ""),
        (
            (CONFIG, "--config.pretrain.augment.blur_probability=abc"),
            "out-of-range",
            "pretrain.augment.blur_probability",
            "",
        ),
        ((CONFIG, "--config.transfer.augment.crop_area=('a','b')"), "out-of-range", "transfer.augment.crop_area", ""),
        ((CONFIG, "--config.data.percentiles=(None,1)"), "out-of-range", "data.percentiles", ""),
        ((CONFIG, "--config.transfer.protocols=('probe','probe')"), "conflict", "transfer.protocols", ""),
        ((CONFIG, "--config.transfer.protocols=(1,)"), "unknown-name", "transfer.protocols", ""),
        ((CONFIG, "--config.transfer.label_smoothing=2.0"), "out-of-range", "transfer.label_smoothing", ""),
        ((CONFIG, "--config.pretrain.optimizer.momentum=-3.0"), "out-of-range", "pretrain.optimizer.momentum", ""),
        (
            (CONFIG, "--config.pretrain.augment.jitter_probability=2.0"),
            "out-of-range",
            "pretrain.augment.jitter_probability",
            "",
        ),
        ((CONFIG, "--config.data.name=folder"), "missing", "data.dir", ""),
        ((HAM,), "missing", "data.manual_dir", "10.7910/DVN/DBW86T"),
        ((HAM, "--config.data.manual_dir=nowhere"), "missing", "data.manual_dir", "nowhere"),
        ((CONFIG, "--workdir=/proc/nowhere"), "not-writable", "--workdir", ""),
    ],
)
def test_invalid_input_is_one_line_and_exit_code_2(run, raised, arguments, code, field, part):
    ended, line = run(*arguments)
    assert ended == 2 and line.startswith("jaxssl: ") and "Traceback" not in line
    assert len(line.strip().splitlines()) == 1, line
    assert (raised[0].code, raised[0].field) == (code, field) and part in line


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
    fields = ("--config.data.dir=images", "--config.data.group_copies=false")
    code, error = run(f"--config={ROOT}/configs/byol_folder.py:local", *fields)
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
        (UserError("mend it", code="conflict"), 2),
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
