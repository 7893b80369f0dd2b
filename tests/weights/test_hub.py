"""Weights of the hub, with a stand-in for `huggingface_hub`: tests use no network."""

import sys
from types import SimpleNamespace

import pytest

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


def test_a_revision_is_needed(calls):
    with refuses("out-of-range", "init.weights", "hf:owner/name@revision"):
        hub.download("hf:microsoft/rad-dino")


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
