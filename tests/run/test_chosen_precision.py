"""A run whose precision is "auto"."""

import json

from jaxssl.config import fields
from jaxssl.models import precision
from jaxssl.results import schema
from jaxssl.run.precision import choose_precision


def test_what_was_chosen_stays_on_another_machine(tmp_path, monkeypatch):
    config = fields.base()
    config.model.name = "vit_tiny"
    fields.fill_options(config)
    monkeypatch.setattr(precision, "cpu_features", lambda: {"avx512_bf16"})
    chosen, requested = choose_precision(config, tmp_path)
    assert (chosen.model.dtype, requested) == ("mixed", {"model.dtype": "auto"})
    content = {
        "schema_version": schema.VERSIONS["config.json"],
        "config": chosen.to_dict(),
        "requested": requested,
        "fingerprint": "0" * 64,
        "pixels": {"low": 0.0, "high": 255.0, "mean": [0.0], "std": [1.0], "asinh": 0.0},
        "dtype": "uint8",
        "command": "",
        "versions": {},
        "git": None,
        "devices": [],
    }
    (tmp_path / "config.json").write_text(json.dumps(content))
    monkeypatch.setattr(precision, "cpu_features", set)
    assert choose_precision(config, tmp_path)[0].model.dtype == "mixed"
    assert choose_precision(config, tmp_path / "new")[0].model.dtype == "float32"
    config.model.dtype = "float32"
    assert choose_precision(config, tmp_path) == (config, {})
