"""The wheel: built, installed into a clean environment, and used from another folder."""

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def call(*command, cwd):
    ended = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of a copy of the sources, as building leaves files there."""
    source = tmp_path_factory.mktemp("wheel") / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("jaxssl", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir=dist", ".", cwd=source)
    (file,) = (source / "dist").glob("*.whl")
    return file


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment that holds the wheel, and sees the dependencies of this one but not its jaxssl."""
    folder = tmp_path_factory.mktemp("environment") / "env"
    call(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    call(folder / "bin/python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder.parent)
    (site,) = folder.glob("lib/python*/site-packages")
    # The .pth files of a folder that is named in a .pth file are not read, so that the editable install stays out.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder


def test_the_wheel_holds_every_file(wheel):
    source, names = wheel.parents[1], {*zipfile.ZipFile(wheel).namelist()}
    ends = (".py", ".j2", ".css", ".js")
    expected = {path.relative_to(source).as_posix() for path in (source / "jaxssl").rglob("*") if path.suffix in ends}
    expected |= {f"jaxssl/configs/{path.name}" for path in (source / "configs").glob("*.py")}
    assert expected | {"jaxssl/py.typed"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith(("configs", "tests", "launch", "typings")) for name in names)


def test_a_run_from_another_folder(environment, tmp_path):
    jaxssl = environment / "bin/jaxssl"
    place = call(environment / "bin/python", "-c", "import jaxssl; print(jaxssl.__file__)", cwd=tmp_path).stdout
    assert Path(place.strip()).is_relative_to(environment)
    assert "byol_lenses" in call(jaxssl, "run", "--help", cwd=tmp_path).stdout
    fields = ("data.options.images_per_class=20", "model.options.width=4", "pretrain.epochs=1", "transfer.epochs=1")
    fields += ("pretrain.batch_size=8", "transfer.batch_size=8")
    call(jaxssl, "run", "byol_lenses:local", *(f"--config.{field}" for field in fields), cwd=tmp_path)
    workdir = tmp_path / "runs" / "byol_lenses-local"
    names = {path.name for path in workdir.iterdir()}
    assert {"config.json", "results.json", "predictions.csv", "report.html"} <= names
    assert "done" in call(jaxssl, "runs", cwd=tmp_path).stdout
