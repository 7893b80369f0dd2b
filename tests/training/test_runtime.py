"""What is set before JAX starts: the user's own word goes before ours, and Python starts anew once at most."""

import os
import sys
from pathlib import Path

import jax
import pytest

from jaxssl.training import runtime


def test_flags_of_the_user_stay(monkeypatch):
    monkeypatch.setattr(runtime, "XLA_FLAGS", {"a": "1", "b": "2"})
    monkeypatch.setenv("XLA_FLAGS", "--a=0")
    runtime.apply()
    runtime.apply()
    assert os.environ["XLA_FLAGS"] == "--a=0 --b=2"


def test_xla_takes_the_flags(monkeypatch):
    flags = [f"--{name}={value}" for name, value in runtime.XLA_FLAGS.items()]
    assert set(flags) <= set(os.environ["XLA_FLAGS"].split())
    # An unknown flag would have ended the process here.
    assert jax.jit(lambda x: x + 1)(1) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only the C library of Linux is told")
def test_a_command_starts_anew_once(monkeypatch):
    started = []
    monkeypatch.setattr(os, "execv", lambda *arguments: started.append(arguments))
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    runtime.restart()
    runtime.restart()
    assert started == [(sys.executable, [sys.executable, *sys.orig_argv[1:]])]
    assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"


@pytest.mark.skipif(sys.platform != "linux", reason="only the C library of Linux is asked")
def test_what_was_freed_goes_back_to_the_system():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    blocks = [bytes(100_000) for _ in range(2000)]
    last = blocks[-1]  # Above all the others, it keeps the C library from giving them back by itself.
    del blocks
    kept = resident()
    runtime.trim_heap()
    assert resident() < kept - 50e6
    assert len(last) == 100_000
