"""The examples of docs/extending.md work: their files are written into a copy of the package and their commands run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|diff|bash)\n(.*?)^```\n", PAGE, re.MULTILINE | re.DOTALL)
JAXSSL = f'jaxssl() {{ "{sys.executable}" -m jaxssl "$@"; }}\nset -e\n'


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the package and the configs with all files and edits of the page."""
    folder = tmp_path_factory.mktemp("extended")
    for name in ("jaxssl", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for language, text in BLOCKS:
        if language == "python":
            write(folder, text)
        if language == "diff":
            apply(folder, text)
    return folder


def write(folder, text):
    """Write a block to the file that its first line names, or append it."""
    path, appended = re.match(r"# ([\w/]+\.py)(, at the end)?\n", text).groups()
    body = text.partition("\n")[2]
    file = folder / path
    assert file.exists() == bool(appended), path
    file.write_text(file.read_text() + body if appended else body)


def apply(folder, text):
    """Apply a block of lines, or starts of lines, that start with " ", "-" or "+" to the file in its first line."""
    head, *lines = text.splitlines(keepends=True)
    file = folder / head.removeprefix("--- ").strip()
    old, new = ("".join(line[1:] for line in lines if line[0] in kinds).rstrip("\n") for kinds in (" -", " +"))
    content = file.read_text()
    assert content.count(old) == 1, (file, old)
    file.write_text(content.replace(old, new))


@pytest.mark.slow
def test_every_example_works(copy):
    commands = [text for language, text in BLOCKS if language == "bash"]
    ended = subprocess.run(
        ["bash", "-c", JAXSSL + "".join(commands)],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "photographs of moles" in ended.stdout and "Simulated rings and disks" in ended.stdout
    assert (copy / "runs" / "rings" / "figures" / "recall-probe-ssl.csv").exists()
    assert "test: " in ended.stdout and "Count the groups of each split" in ended.stdout
    assert "scores are rough below" in (copy / "runs" / "rings" / "audit.json").read_text()
    assert (copy / "runs" / "from_rings" / "results.json").exists()
    assert "Recall by class" in (copy / "runs" / "rings" / "report.html").read_text()
