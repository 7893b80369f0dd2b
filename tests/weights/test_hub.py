"""Weights of the hub, with a stand-in for `huggingface_hub`, and with itself and a server on this machine."""

import hashlib
import http.server
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import safetensors.numpy

from jaxssl.weights import hub
from jaxssl.weights.provenance import name_weights
from tests.refusals import refuses

SPEC = "hf:microsoft/rad-dino@110f5cb"


@pytest.fixture
def calls(monkeypatch):
    made = []

    def hf_hub_download(repository, file, *, revision):
        made.append((repository, file, revision))
        return f"/cache/{file}"

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=hf_hub_download))
    return made


def test_repository_revision_and_file(calls):
    assert str(hub.download(SPEC)) == "/cache/model.safetensors"
    hub.download(f"{SPEC}/weights/a.pth")
    assert calls == [
        ("microsoft/rad-dino", "model.safetensors", "110f5cb"),
        ("microsoft/rad-dino", "weights/a.pth", "110f5cb"),
    ]
    assert name_weights(SPEC) == "rad-dino"


@pytest.mark.parametrize("spec", ["hf:microsoft/rad-dino", "hf:microsoft/rad-dino@main", "hf:rad-dino@110f5cb"])
def test_a_commit_is_needed(calls, spec):
    with refuses("out-of-range", "init.weights", "hf:owner/name@revision", "commit"):
        hub.download(spec)
    assert not calls


def test_without_the_package_one_line_says_how_to_bring_the_file(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with refuses("missing", "init.weights", "pip install 'jaxssl[hub]'", "set init.weights to its path"):
        hub.download(SPEC)


def test_without_a_network(monkeypatch):
    def hf_hub_download(*arguments, **options):
        raise ConnectionError("no route\nto host")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=hf_hub_download))
    with refuses("unreadable", "init.weights", "no route to host", "by hand"):
        hub.download(SPEC)


COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENT = safetensors.numpy.save({"layer1.0.conv1.weight": np.zeros((4, 4, 3, 3), np.float32)}, {"license": "MIT"})


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the hub's HTTP interface that a download needs; `served` are paths of GET."""

    served: ClassVar[list[str]] = []

    def do_HEAD(self):
        found = self.path == f"/me/tiny/resolve/{COMMIT}/model.safetensors"
        self.send_response(200 if found else 404)
        if found:
            self.send_header("ETag", f'"{hashlib.sha256(CONTENT).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
        else:
            self.send_header("X-Error-Code", "RepoNotFound" if "/nothing/" in self.path else "RevisionNotFound")
        self.send_header("Content-Length", str(len(CONTENT) if found else 0))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        if self.path == f"/me/tiny/resolve/{COMMIT}/model.safetensors":
            self.served.append(self.path)
            self.wfile.write(CONTENT)

    def log_message(self, *arguments):
        pass


@pytest.mark.slow  # A process each.
def test_the_package_itself(tmp_path, monkeypatch):
    """A file is downloaded once, and then found without a network; other specs are refused in one line."""
    pytest.importorskip("huggingface_hub", reason="jaxssl[hub] is not installed")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path))

    def describe(spec):
        return subprocess.run([sys.executable, "-m", "jaxssl", "weights", spec], capture_output=True, text=True)

    first = describe(f"hf:me/tiny@{COMMIT}")
    assert first.returncode == 0, first.stderr
    assert hashlib.sha256(CONTENT).hexdigest() in first.stdout and "license: MIT" in first.stdout
    for spec in (f"hf:me/tiny@{COMMIT[:-1]}8", f"hf:me/nothing@{COMMIT}", f"hf:me/tiny@{COMMIT}/../a.pth"):
        other = describe(spec)
        assert (other.returncode, other.stderr.count("\n")) == (2, 1), other.stderr
        assert "by hand" in other.stderr
    server.shutdown()
    server.server_close()
    assert describe(f"hf:me/tiny@{COMMIT}").stdout == first.stdout
    assert len(Hub.served) == 1
