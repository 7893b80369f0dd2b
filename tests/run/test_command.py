"""The command that a run records, from which the report makes the next one."""

from pathlib import Path

import pytest

from jaxssl.results import next_step
from jaxssl.run import workdir


@pytest.mark.parametrize(
    ("argv", "orig_argv", "expected"),
    [
        (
            ["/usr/bin/jaxssl", "run", "own"],
            ["python3", "/usr/bin/jaxssl", "run", "own"],
            "jaxssl run own --workdir=runs/own",
        ),
        (
            ["main.py", "run", "own"],
            ["/a/python", "-m", "jaxssl", "run", "own"],
            "python -m jaxssl run own --workdir=runs/own",
        ),
        (["main.py"], ["/a/python", "-m", "jaxssl.main", "--workdir=W"], "python -m jaxssl.main --workdir=W"),
        (["main.py"], ["/a/python", "-m", "jaxssl.main", "--workdir", "W"], "python -m jaxssl.main --workdir W"),
    ],
)
def test_the_command_names_its_workdir(monkeypatch, argv, orig_argv, expected):
    monkeypatch.setattr("sys.argv", argv)
    monkeypatch.setattr("sys.orig_argv", orig_argv)
    command = workdir.describe_command(Path("runs/own"))
    assert command == expected
    assert next_step.repeat_with_seeds(command, range(1, 3)), "the next step has no command"
