"""What README and the manual say is so: commands parse, fields and files exist, the manual builds without a warning."""

import importlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jaxssl.cli import parser
from jaxssl.config import checks
from jaxssl.config.load import load_config

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "studies").glob("*/README.md"))]
EXTENDING = ROOT / "docs" / "extending.md"  # Its commands are run by test_extending.py.


def commands(page):
    """Yield the arguments of the commands of a page: indented lines, and lines of ```bash blocks."""
    text = re.sub(r"\\\n\s+", "", page.read_text(encoding="utf-8"))
    lines = re.findall(r"^    (.*)$", text, re.MULTILINE)
    for block in re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        lines += block.splitlines()
    starts = ("jaxssl", "python -m jaxssl", "python launch/sweep.py", "python -m jaxssl.main")
    for line in lines:
        for start, verb in zip(starts, ([], [], ["sweep"], ["run"]), strict=True):
            if line.startswith(f"{start} "):
                yield [*verb, *shlex.split(line.removeprefix(start), comments=True)]


def name(page):
    return f"{page.parent.name}/{page.name}"


COMMANDS = [
    pytest.param(words, id=f"{name(page)}: {' '.join(words)}")
    for page in PAGES
    if page != EXTENDING
    for words in commands(page)
]


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_are_valid(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    if "--help" in words:
        return
    options = parser.parse(words)
    if words[0] in ("run", "sweep"):
        checks.check(load_config(parser.config_name(options), options.assignments))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_paths_and_fields_exist(page):
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:jaxssl|configs|launch|tests|docs|studies)/[\w./-]*)`", text):
        # What `make docs` makes is not in a clone.
        assert path in ("docs/_build", "docs/generated") or (ROOT / path).exists(), path
    for field in re.findall(r"--config\.([\w.]+)", text):
        if field.isupper():  # FIELD
            continue
        section, _, option = field.partition(".options.")
        checks_path = f"{section}.options" if option else field
        assert checks_path in checks.fields.BY_PATH, field


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http", "generated/")):
            assert (page.parent / target).exists(), target


def test_every_field_is_in_the_reference(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    page = importlib.import_module("reference").config()
    for field in checks.fields.FIELDS:
        assert f"| `{field.path}` |" in page, field.path


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_manual_builds_without_a_warning(tmp_path):
    """As `make docs`; the tutorial is executed."""
    source = tmp_path / "docs"
    shutil.copytree(ROOT / "docs", source, ignore=shutil.ignore_patterns("_build", "generated"))
    for name in ("jaxssl", "configs", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "--quiet", str(source), str(tmp_path / "html")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    tutorial = (tmp_path / "html" / "tutorial_byol.html").read_text(encoding="utf-8")
    assert "by hand" in tutorial and "tutorial_byol-2.png" in tutorial
    assert "probe_ssl" in (tmp_path / "html" / "concepts.html").read_text(encoding="utf-8")
