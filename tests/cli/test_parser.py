"""The parser of all commands: help, hints for misspelt names, and which messages reach the terminal."""

import errno
import io
import logging
import os
import subprocess
import sys
from itertools import chain

import pytest

from jaxssl import data, models
from jaxssl.cli import messages, parser
from jaxssl.cli.parser import main
from jaxssl.config import fields, load
from tests.refusals import refuses


class FullDisk(io.StringIO):
    def flush(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


COMMANDS = [*chain(*parser.commands().values())]


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_lists_every_command_in_its_group(capsys, arguments):
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert all(f"\n{group}:\n" in out for group in parser.GROUPS)
    assert all(f"\n  {name} " in out for name in COMMANDS)


def test_help_of_run_lists_what_a_config_may_name(capsys):
    assert main(["run", "--help"]) == 0
    out = capsys.readouterr().out
    pretexts = fields.find("pretrain.objective").choices or ()
    for name in (*load.available(), *pretexts, *models.available(), *data.names()):
        assert f"\n  {name} " in out, name
    assert "--config.pretrain.epochs=20" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(capsys, name):
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert (f"jaxssl {name}" in out and "--debug" in out) or name == "data"


def test_misspelt_names_get_a_hint():
    with refuses("unknown-name", "COMMAND", "did you mean 'sweep'?"):
        main(["swep", "--debug"])
    with refuses("unknown-name", "--workdri", "did you mean '--workdir'?"):
        main(["run", "byol_lenses", "--workdri=x", "--debug"])
    with refuses("unknown-name", "--features", "did you mean 'patches'?"):
        main(["embed", "a", "b", "--to=c.csv", "--features=patch", "--debug"])


@pytest.mark.parametrize(
    ("arguments", "code", "field", "remedy"),
    [
        (["own:quick"], "unknown-name", "COMMAND", "did you mean 'jaxssl run own:quick'?"),
        (["run"], "missing", "--config", "own"),
        (["runs", "--watch=nan"], "out-of-range", "--watch", "nan"),
        (["runs", "--watch=inf"], "out-of-range", "--watch", "inf"),
        (["data", "prepare", "ham10000", "--options=x={{[]: 1}}"], "unknown-name", "data.options.x", "ham10000"),
        (["run", "{images}"], "unsupported", "--config", "--config=own --config.data.dir={images}"),
        (["run", "own", "{images}"], "unknown-name", "{images}", "--config.data.dir={images}"),
        (["run", "own", "--data.dir={images}"], "unknown-name", "--data.dir", "--config.data.dir=VALUE"),
        (["run", "own", "--config.data={images}"], "unknown-name", "data", "data.dir"),
    ],
)
def test_images_given_in_a_wrong_place_are_answered_by_the_right_one(tmp_path, arguments, code, field, remedy):
    images = tmp_path / "my images"
    images.mkdir()
    with refuses(code, field.format(images=images), remedy.format(images=images)):
        main([*(argument.format(images=images) for argument in arguments), "--debug"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "~nobody_here/x.py"],
        ["run", "own", "--config.data.dir=.", "--workdir=~nobody_here/x"],
        ["sweep", "own", "--seeds=1", "--workdir=~nobody_here/x"],
        ["runs", "~nobody_here/x"],
        ["data", "audit", "~nobody_here/x"],
        ["weights", "~nobody_here/x.pth"],
        ["predict", "~nobody_here/x", ".", "--to=x.csv"],
    ],
)
def test_home_folders_of_nobody_are_refused(arguments, monkeypatch):
    monkeypatch.setattr("jaxssl.run.experiment.run", lambda *arguments: pytest.fail("runs"))
    with refuses("missing", None, "~nobody_here"):
        main([*arguments, "--debug"])


def test_devices_that_jax_cannot_use_are_one_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_PLATFORMS", "abacus")
    text = "raise RuntimeError(\"Unable to initialize backend 'abacus'\")"
    monkeypatch.setattr("jaxssl.cli.runs.list_runs", lambda root: exec(compile(text, "jax/_src/xla_bridge.py", "exec")))
    assert main(["runs", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("jaxssl: JAX_PLATFORMS=abacus: ") and said.count("\n") == 1
    monkeypatch.setattr("jaxssl.cli.runs.list_runs", lambda root: exec("raise RuntimeError('a fault of ours')"))
    with pytest.raises(RuntimeError):
        main(["runs", str(tmp_path)])


def test_streams_that_are_closed_or_cannot_show_a_name_are_repaired(monkeypatch):
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    monkeypatch.setattr(sys, "stderr", None)
    messages.configure()
    print("\u2013")
    print("into nothing", file=sys.stderr)
    narrow.flush()
    assert narrow.buffer.getvalue() == b"\\u2013\n"


def test_an_output_that_is_full_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", FullDisk())
    monkeypatch.setattr("jaxssl.cli.runs.run", lambda options: 0)
    assert main(["runs", "."]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"jaxssl: {os.strerror(errno.ENOSPC)}"


def test_both_ways_to_call_a_command_are_one():
    ended = subprocess.run([sys.executable, "-m", "jaxssl", "--version"], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("jaxssl ")
    ended = subprocess.run([sys.executable, "-m", "jaxssl.main", "--wokdir=x"], capture_output=True, text=True)
    assert ended.returncode == 2 and "did you mean '--workdir'?" in ended.stderr


def test_warnings_come_once_and_libraries_are_silent():
    selection = messages.Selection()

    def passes(name, level, text):
        return bool(selection.filter(logging.LogRecord(name, level, "", 0, text, (), None)))

    assert passes("jaxssl.data", logging.WARNING, "3 files are skipped")
    assert not passes("jaxssl.data", logging.WARNING, "3 files are skipped")
    assert not passes("absl", logging.WARNING, "saving took long") and not passes("orbax", logging.INFO, "saved")
    assert passes("orbax", logging.ERROR, "disk full")
    assert passes("jax._src.xla_bridge", logging.WARNING, "An NVIDIA GPU may be present on this machine, but ...")
