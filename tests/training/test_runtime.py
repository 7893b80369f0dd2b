"""Settings made before JAX starts: those of the user take precedence, and the process is replaced once at most."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import jax
import pytest

from jaxssl.training import runtime

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="a setting of the C library of Linux")


def test_flags_of_the_user_stay(monkeypatch):
    monkeypatch.setattr(runtime, "XLA_FLAGS", {"a": "1", "b": "2"})
    monkeypatch.setenv("XLA_FLAGS", "--a=0")
    runtime.configure()
    runtime.configure()
    assert os.environ["XLA_FLAGS"] == "--a=0 --b=2"


def test_xla_takes_the_flags():
    flags = [f"--{name}={value}" for name, value in runtime.XLA_FLAGS.items()]
    assert set(flags) <= set(os.environ["XLA_FLAGS"].split())
    # An unknown flag would have ended the process here.
    assert jax.jit(lambda x: x + 1)(1) == 2


def test_gpus_are_deterministic_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(runtime, "XLA_FLAGS", {})
    monkeypatch.setenv("XLA_FLAGS", "")
    runtime.configure()
    assert "deterministic" not in os.environ["XLA_FLAGS"]
    runtime.configure(deterministic=True)
    assert os.environ["XLA_FLAGS"] == "--xla_gpu_deterministic_ops=true"
    # An unknown option would be refused.
    options = {name: value == "true" for name, value in runtime.DETERMINISTIC_FLAGS.items()}
    assert jax.jit(lambda x: x + 1).lower(1).compile(options)(1) == 2
    with pytest.raises(Exception, match="no_such"):
        jax.jit(lambda x: x + 1).lower(1).compile({"xla_no_such_option": True})


@pytest.fixture
def replaced(monkeypatch):
    """The arguments of each call of `os.execv`, in a process that may be replaced."""
    calls = []
    monkeypatch.setattr(os, "execv", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(runtime, "owns_process", lambda: True)
    monkeypatch.setattr(runtime, "is_observed", lambda: False)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    return calls


@linux_only
def test_a_command_restarts_once(replaced):
    runtime.restart()
    runtime.restart()
    assert replaced == [(sys.executable, [sys.executable, *sys.orig_argv[1:]])]
    assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"


@pytest.mark.parametrize(("function", "answer"), [("owns_process", False), ("is_observed", True)])
def test_no_restart_where_it_would_do_harm(replaced, monkeypatch, function, answer):
    monkeypatch.setattr(runtime, function, lambda: answer)
    runtime.restart()
    assert replaced == [] and "GLIBC_TUNABLES" not in os.environ


@pytest.fixture
def unobserved(monkeypatch):
    """Without the tracer of a coverage tool."""
    trace, profile = sys.gettrace(), sys.getprofile()
    sys.settrace(None)
    sys.setprofile(None)
    for name in runtime.DEBUGGERS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield
    sys.settrace(trace)
    sys.setprofile(profile)


@pytest.mark.parametrize("observer", ["debugger", "profiler", "notebook", "prompt", None])
def test_debuggers_profilers_and_notebooks_are_seen(unobserved, monkeypatch, observer):
    if observer == "debugger":
        sys.settrace(lambda *_: None)
    elif observer == "profiler":
        sys.setprofile(lambda *_: None)
    elif observer == "notebook":
        monkeypatch.setitem(sys.modules, "ipykernel", sys)
    elif observer == "prompt":
        monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert runtime.is_observed() == (observer is not None)


def test_another_program_or_thread_owns_the_process():
    answers = [runtime.owns_process()]
    thread = threading.Thread(target=lambda: answers.append(runtime.owns_process()))
    thread.start()
    thread.join()
    assert answers == [False, False]


@linux_only
@pytest.mark.parametrize(
    ("script", "restarts"),
    [
        ("from jaxssl.training import runtime; runtime.restart(); print('restarted')", True),
        ("from jaxssl.cli.parser import console; console(['--help'])", False),
        ("import pdb; from jaxssl.training import runtime; runtime.restart()", False),
    ],
)
def test_a_script_restarts_only_if_it_asks_for_it(tmp_path, script, restarts):
    """`os.execv` is replaced by a function that ends the process with exit code 5."""
    (tmp_path / "script.py").write_text(f"import os; os.execv = lambda *_: os._exit(5)\n{script}\n")
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    ended = subprocess.run([sys.executable, tmp_path / "script.py"], env=environment, capture_output=True, check=False)
    assert ended.returncode == (5 if restarts else 0), ended.stderr


@linux_only
def test_trim_heap_returns_freed_memory_to_the_system():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    blocks = [bytes(100_000) for _ in range(2000)]
    last = blocks[-1]  # It lies above the others and keeps the C library from returning them by itself.
    del blocks
    kept = resident()
    runtime.trim_heap()
    assert resident() < kept - 50e6
    assert len(last) == 100_000
