"""What fine-tuning adapts: what encoders lack is refused; early stopping, averages and LoRA through a whole run."""

import json
import shutil
import types

import jax
import numpy as np
import pytest

from jaxssl.augment import views
from jaxssl.config import fields
from jaxssl.inference import trained
from jaxssl.models import make
from jaxssl.results import workdir as results
from jaxssl.run import adaptation, encoders, experiment, initial
from jaxssl.run.finetuning import has_stalled
from jaxssl.training import checkpoint, metrics
from tests import tiny, tiny_config
from tests.refusals import refuses

VIT = {"width": 12, "depth": 2, "heads": 3, "patch": 4}


def config(**values):
    c = fields.base()
    c.data.image_size = 16
    for path, value in values.items():
        c.update_from_flattened_dict({path.replace("__", "."): value})
    return c


@pytest.mark.parametrize(
    ("values", "code", "field"),
    [
        ({"transfer__optimizer__layer_decay": 0.7}, "mismatch", "transfer.optimizer.layer_decay"),
        ({"transfer__lora__rank": 4}, "mismatch", "transfer.lora.rank"),
        ({"transfer__drop_path": 0.1}, "mismatch", "transfer.drop_path"),
    ],
)
def test_what_an_encoder_lacks_is_refused(values, code, field):
    with refuses(code, field, str(next(iter(values.values())))):
        adaptation.check(config(**values), type("Encoder", (tiny.Encoder,), {"smallest_image": 1})())


def test_what_a_vit_has_is_taken_and_lora_of_random_weights_is_refused():
    encoder = make("vit_tiny", {}, VIT)
    adaptation.check(
        config(transfer__optimizer__layer_decay=0.7, transfer__lora__rank=4, transfer__drop_path=0.1), encoder
    )
    with refuses("conflict", "pretrain.lora.rank", "init.weights"):
        adaptation.check(config(pretrain__lora__rank=4), encoder)


@pytest.mark.slow  # Two runs of a ViT, a minute.
def test_adapted_runs_stop_early_resume_exactly_and_are_kept_merged(tmp_path):
    c = tiny_config.get_config()
    c.model.name = "vit_tiny"
    c.model.options = dict(VIT)
    c.pretrain.epochs = 0
    c.transfer.protocols = ("finetune",)
    c.transfer.epochs = 12
    c.transfer.patience = 2
    c.transfer.ema = 0.9
    c.transfer.head = (8,)
    c.transfer.drop_path = 0.2
    c.transfer.lora.rank = 2
    c.transfer.optimizer.layer_decay = 0.8
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    experiment.run(c, whole)
    rows = [row for row in metrics.read(whole, "finetune_random") if "validation" in row]
    last = rows[-1]["epoch"]
    assert last < 12 and has_stalled(whole, "finetune_random", last, 2, 1)
    assert not any(has_stalled(whole, "finetune_random", epoch, 2, 1) for epoch in range(1, last))

    class Stop(Exception):
        pass

    save, saves = checkpoint.save, []

    def failing(folder, step, tree, keep=2):
        save(folder, step, tree, keep)
        if folder.name == "finetune_random":
            saves.append(step)
            if len(saves) == last - 1:
                raise Stop

    checkpoint.save = failing
    try:
        with pytest.raises(Stop):
            experiment.run(c, parts)
    finally:
        checkpoint.save = save
    experiment.run(c, parts)
    assert (whole / "predictions.csv").read_bytes() == (parts / "predictions.csv").read_bytes()
    network = trained.load(whole, "finetune_random")
    assert set(network.head) == {"hidden0", "linear"}
    evaluation = json.loads((whole / "results.json").read_text())["evaluations"][0]
    assert evaluation["compute"]["images"] == rows[-1]["step"] * 16
    # Without a score on validation the last weights are kept, merged as well.
    stored = checkpoint.load_numpy(whole / "checkpoints" / "finetune_random")
    assert "lora" in stored["params"] and "lora" not in stored["target"]
    assert np.abs(stored["target"]["encoder"]["blocks_1"]["qkv"]["kernel"]).sum() > 0
    shutil.rmtree(parts)


@pytest.mark.slow  # A run of a ViT.
def test_attentive_and_linear_probes_leave_the_encoder_as_it_is(tmp_path):
    c = tiny_config.get_config()
    c.model.name = "vit_tiny"
    c.model.options = dict(VIT)
    c.pretrain.epochs = 0
    c.transfer.protocols = ("probe", "attentive")
    c.transfer.probe_features = ("mean", "cls", "cls+mean")
    c.transfer.epochs = 3
    c.transfer.lora.rank = 2
    results = experiment.run(c, tmp_path)
    probe, attentive = results["evaluations"]
    assert probe["features"] in c.transfer.probe_features
    first, last = (
        checkpoint.load_numpy(tmp_path / "checkpoints" / name)["params"]
        for name in ("attentive_random", "attentive_random_best")
    )
    assert set(last["head"]) == {"query", "norm", "key", "value", "linear"}
    np.testing.assert_array_equal(
        first["encoder"]["blocks_1"]["qkv"]["kernel"], last["encoder"]["blocks_1"]["qkv"]["kernel"]
    )
    assert attentive["phase"] == "attentive_random" and "lora" not in first
    losses = [row["loss"] for row in metrics.read(tmp_path, "attentive_random") if "loss" in row]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_the_features_of_the_probe():
    encoder = make("vit_tiny", {}, VIT)
    with refuses("mismatch", "transfer.probe_features", "class token"):
        adaptation.check(config(transfer__probe_features=("cls",)), tiny.Encoder())
    adaptation.check(config(transfer__probe_features=("cls",)), encoder)
    pixels = views.Pixels(0.0, 255.0, (0.0,), (1.0,))
    setup = types.SimpleNamespace(encoder=encoder, pixels=pixels, config=config())
    image = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 1), np.uint8)
    variables = encoder.init(jax.random.key(0), np.zeros((1, 16, 16, 1)), train=False)
    out = encoder.apply(variables, image / np.float32(255), train=False)
    both = encoders.feature_function(setup, "cls+mean")(variables, {"image": image})
    np.testing.assert_allclose(both, np.concatenate([out["cls"], out["tokens"].mean(1)], 1), atol=1e-5)


@pytest.mark.parametrize("positions", ["sincos", "learnt"])
def test_a_run_of_other_channels_and_another_size_is_adapted_as_its_file_is(tmp_path, monkeypatch, positions):
    """Grey weights give grey images in three channels the same features; what is changed is in results.json."""
    encoder = make("vit_tiny", {}, VIT | {"positions": positions})
    image = np.random.default_rng(0).normal(size=(2, 16, 16, 1)).astype(np.float32)
    variables = jax.device_get(encoder.init(jax.random.key(0), image, train=False))
    known = trained.Trained(encoder, variables, None, ("a", "b"), 1, False)
    monkeypatch.setattr(trained, "load", lambda workdir: known)
    c = config(init__weights=str(tmp_path))
    results.write(tmp_path / "config.json", {"config": json.loads(c.to_json())})
    rgb = initial.load_initial(c, encoder, 3)
    first, second = (
        encoder.apply(of, np.repeat(image, channels, -1), train=False)["pooled"]
        for of, channels in ((variables, 1), (rgb.variables, 3))
    )
    np.testing.assert_allclose(first, second, atol=1e-5)
    assert rgb.description["changes"] == ["first layer adapted from 1 to 3 channels"]
    with refuses("mismatch", "model.name", str(tmp_path)):
        initial.load_initial(c, make("vit_tiny", {}, VIT | {"depth": 1, "positions": positions}), 1)
    c.data.image_size = 24
    if positions == "sincos":
        with refuses("mismatch", "model.options.positions", str(tmp_path), "4x4", "6x6", "'learnt'"):
            initial.load_initial(c, encoder, 1)
        encoder = make("vit_tiny", {}, VIT | {"positions": "learnt"})
    changes = initial.load_initial(c, encoder, 1).description["changes"]
    assert changes == ["positions resampled from 4x4 to 6x6 patches"]


def test_an_orbax_checkpoint_is_loaded_and_other_folders_are_refused(tmp_path):
    encoder = make("vit_tiny", {}, VIT)
    variables = jax.device_get(encoder.init(jax.random.key(0), np.zeros((1, 16, 16, 1)), train=False))
    state = {"params": {"encoder": variables["params"], "head": {"bias": np.zeros(2)}}, "model_state": {"encoder": {}}}
    checkpoint.save(tmp_path / "steps", 3, variables)
    checkpoint.save(tmp_path / "training", 1, state)
    for folder, left_out in (("steps", {}), ("steps/3", {}), ("training", {"head": 1})):
        c = config(init__weights=str(tmp_path / folder))
        found = initial.load_initial(c, encoder, 1)
        jax.tree.map(np.testing.assert_array_equal, found.variables["params"], variables["params"])
        assert (found.description["naming"], found.description["left_out"]) == ("orbax", left_out)
        assert not found.description["training_images_known"]
    with refuses("unreadable", "init.weights", str(tmp_path)):
        initial.load_initial(config(init__weights=str(tmp_path)), encoder, 1)
    with refuses("mismatch", "model.name", "steps"):
        initial.load_initial(config(init__weights=str(tmp_path / "steps")), make("vit_tiny", {}, VIT | {"depth": 1}), 1)
