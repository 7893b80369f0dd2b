"""What the house rests on: no TensorFlow, imports that follow the batch, no method known by name in the loop."""

import ast
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import jaxssl
from jaxssl import objectives

PACKAGE = Path(jaxssl.__file__).parent


def test_no_module_imports_tensorflow():
    names = [m.name for m in pkgutil.walk_packages(jaxssl.__path__, "jaxssl.")]
    assert "jaxssl.data.datasets.ham10000" in names and "jaxssl.run.experiment" in names
    code = f"import importlib, sys; [importlib.import_module(n) for n in {names!r}]; print('tensorflow' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.stdout.strip() == "False", ended.stderr


def imported(file):
    """Full names of what a file imports from jaxssl."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("jaxssl"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxssl"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", [PACKAGE / "losses.py", *(PACKAGE / "models").glob("*.py")], ids=lambda f: f.name)
def test_losses_and_models_import_nothing_else(file):
    assert all(name.startswith("jaxssl.models") for name in imported(file))


def test_the_loop_knows_no_method_dataset_or_model_by_name():
    text = (PACKAGE / "train.py").read_text()
    for name in (*objectives.available(), "resnet", "ham10000", "lenses"):
        assert name not in text, name
    assert set(imported(PACKAGE / "train.py")) == {
        "jaxssl.training.checkpoint",
        "jaxssl.training.distributed",
        "jaxssl.training.runtime",
        "jaxssl.training.sharding",
        "jaxssl.errors.PreemptedError",
        "jaxssl.training.metrics.Writer",
        "jaxssl.objectives.Objective",
    }


@pytest.mark.parametrize(("library", "home"), [("orbax", "checkpoint.py"), ("tensorboardX", "metrics.py")])
def test_a_library_has_one_home(library, home):
    users = {
        file.name
        for file in PACKAGE.rglob("*.py")
        if f"import {library}" in file.read_text() or f"from {library}" in file.read_text()
    }
    assert users == {home}


@pytest.mark.parametrize("name", objectives.available())
def test_an_objective_takes_an_encoder_and_keywords(name):
    parameters = list(inspect.signature(objectives.load(name)).parameters.values())
    assert parameters[0].name == "encoder"
    assert all(p.kind == p.KEYWORD_ONLY for p in parameters[1:])
