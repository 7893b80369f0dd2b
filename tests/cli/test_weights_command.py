"""`jaxssl weights` on made weights of published layouts."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from jaxssl.cli.parser import main
from tests.golden import make_published

SHAPES = json.loads((Path(__file__).parents[1] / "golden" / "published.json").read_text())


def save(file, tensors, notes=None):
    safetensors.numpy.save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, file, notes)
    return str(file)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("dinov2_registers", ["model.options.patch=14", "registers=4", "positions=learnt", "positions of 56 px"]),
        ("hf_dinov2", ["Hugging Face", "left out: embeddings.mask_token (1)"]),
        ("convnext", ["model.name=convnext_tiny", "depths=(1,2,1,1)"]),
    ],
)
def test_what_a_file_holds_and_fits(name, says, tmp_path, capsys):
    file = save(tmp_path / "made.safetensors", make_published.state(SHAPES[name]), {"license": "MIT"})
    assert main(["weights", file]) == 0
    text = capsys.readouterr().out
    for part in (*says, "license: MIT", f"--config.init.weights={file}"):
        assert part in text, part
    assert "does not fit" not in text


def test_several_networks_and_none(tmp_path, capsys):
    state = make_published.state(SHAPES["augreg"])
    two = {f"{side}.{name}": tensor for side in ("student", "teacher") for name, tensor in state.items()}
    assert main(["weights", save(tmp_path / "two.safetensors", two)]) == 0
    text = capsys.readouterr().out
    assert "2 networks" in text and "--config.init.prefix=teacher." in text and "left out: student (30)" in text
    assert main(["weights", save(tmp_path / "none.safetensors", {"layers.0.w": np.ones(2, "f4")})]) == 0
    text = capsys.readouterr().out
    assert "no network with a known layout: jaxssl reads" in text and "tensors: layers.0.w (1)" in text


def test_an_incomplete_network(tmp_path, capsys):
    state = {name: tensor for name, tensor in make_published.state(SHAPES["augreg"]).items() if "blocks" not in name}
    assert main(["weights", save(tmp_path / "part.safetensors", state)]) == 0
    assert "does not fit: tensors are missing, such as 'blocks.0.mlp.fc1.weight'" in capsys.readouterr().out


def test_a_file_that_cannot_be_read(tmp_path, capsys):
    assert main(["weights", str(tmp_path / "none.pth")]) == 2
    assert "none.pth cannot be read" in capsys.readouterr().err
