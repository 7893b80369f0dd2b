"""The order of the rooms, the sizes of files and functions, and imports that work on every system."""

import ast
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxssl
from jaxssl import objectives

PACKAGE = Path(jaxssl.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = [m.name for m in pkgutil.walk_packages(jaxssl.__path__, "jaxssl.") if not m.name.endswith("__main__")]
LIBRARIES = """
import clu.metrics, dm_pix, filelock, flax, grain, h5py, matplotlib, multiprocessing, optax, orbax.checkpoint
import pyarrow.parquet, rich.console, rich.progress, scipy.stats, sklearn.linear_model, tensorboardX
import tensorflow_datasets, tifffile
"""
# Any of these may be missing on Windows or macOS.
UNIX_ONLY = """
import importlib, os, signal, sys, threading
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("SIGUSR1", "SIGUSR2", "SIGHUP"):
    delattr(signal, name)
for name in ("sched_getaffinity", "fork", "getuid", "uname"):
    delattr(os, name)
"""


def run_python(code):
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def import_all(names):
    return f"[importlib.import_module(name) for name in {names!r}]"


def test_no_module_imports_tensorflow():
    assert "jaxssl.data.datasets.ham10000" in MODULES and "jaxssl.run.experiment" in MODULES
    assert run_python(f"import importlib, sys; {import_all(MODULES)}; print('tensorflow' in sys.modules)") == "False"


def test_importing_jaxssl_does_not_import_jax():
    code = "import jaxssl, jaxssl.cli.parser, sys; print(sorted({'jax', 'flax', 'numpy', 'rich'} & {*sys.modules}))"
    assert run_python(code) == "[]"


def test_every_module_imports_without_what_unix_alone_has():
    # What libraries need of it is imported before it is taken away.
    libraries = (
        "import jax, flax, grain, tensorflow_datasets, orbax.checkpoint, filelock, scipy.stats, sklearn, matplotlib"
    )
    run_python(f"{libraries}, tifffile, h5py, rich.console, multiprocessing\n{UNIX_ONLY}\n{import_all(MODULES)}")


def test_every_module_imports_in_a_worker_thread():
    code = f"""
import importlib, threading
errors = []
def work():
    try:
        {import_all(MODULES)}
        import jaxssl
        jaxssl.load
    except BaseException as error:
        errors.append(error)
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(errors)
"""
    assert run_python(code) == "[]"


def test_rooms_import_downwards():
    """The contract of pyproject.toml, which holds every room."""
    ended = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    contract = (ROOT / "pyproject.toml").read_text().partition("layers = [")[2]
    packages = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
    rooms = packages | {file.stem for file in PACKAGE.glob("*.py")}
    assert rooms - {"__init__", "__main__"} == {*re.findall(r"jaxssl\.(\w+)", contract)}


def count_lines(function):
    """Lines of a function without its docstring."""
    first = function.body[0]
    is_docstring = ast.get_docstring(function) is not None
    return function.end_lineno - function.lineno + 1 - is_docstring * (first.end_lineno - first.lineno + 1)


def test_no_file_has_more_than_400_lines_and_no_function_more_than_60():
    too_long = {}
    for file in FILES:
        text = file.read_text()
        functions = (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
        sizes = {f.name: size for f in functions if (size := count_lines(f)) > 60}
        if len(text.splitlines()) > 400:
            sizes["file"] = len(text.splitlines())
        if sizes:
            too_long[file.relative_to(PACKAGE).as_posix()] = sizes
    assert too_long == {}


def test_readme_has_at_most_150_lines():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def imported_names(file):
    """Full names of what a file imports from jaxssl."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("jaxssl"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxssl"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def private_names(file):
    """Names with an underscore that a file uses of other modules of jaxssl, imported or as an attribute."""
    tree = ast.parse(file.read_text())
    imported = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("jaxssl")]
    modules = {alias.asname or alias.name for node in imported for alias in node.names}
    yield from (name for name in modules if name.startswith("_") and not name.startswith("__"))
    used = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name))
    for node in used:
        if node.value.id in modules and node.attr.startswith("_") and not node.attr.startswith("__"):
            yield f"{node.value.id}.{node.attr}"


def test_no_private_name_is_used_by_another_module():
    assert {file.name: names for file in FILES if (names := sorted(private_names(file)))} == {}


def test_models_import_nothing_above_them():
    for file in (PACKAGE / "models").rglob("*.py"):
        assert all(
            name.startswith(("jaxssl.models", "jaxssl.option_calls", "jaxssl.errors")) for name in imported_names(file)
        ), file


@pytest.mark.parametrize("name", ["step", "loop"])
def test_training_knows_no_method_dataset_or_model_by_name(name):
    text = (PACKAGE / "training" / f"{name}.py").read_text()
    for name in (*objectives.available(), "resnet", "ham10000", "lenses"):
        assert not re.search(rf"\b{name}\b", text), name


@pytest.mark.parametrize(("library", "home"), [("orbax", "checkpoint.py"), ("tensorboardX", "metrics.py")])
def test_a_library_has_one_home(library, home):
    pattern = re.compile(rf"^\s*(import|from) {library}\b", re.MULTILINE)
    users = {file.name for file in FILES if pattern.search(file.read_text())}
    assert users == {home}


@pytest.mark.parametrize("name", objectives.available())
def test_an_objective_takes_an_encoder_and_keywords(name):
    parameters = list(inspect.signature(objectives.find(name)).parameters.values())
    assert parameters[0].name == "encoder"
    assert all(p.kind == p.KEYWORD_ONLY for p in parameters[1:])
