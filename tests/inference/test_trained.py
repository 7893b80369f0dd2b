"""What a run left, read back: it predicts what the run predicted, and says in a line what is wrong with a workdir."""

import csv
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxssl import models
from jaxssl.augment import views
from jaxssl.errors import UserError
from jaxssl.inference import trained
from jaxssl.models.shapes import count_channels
from jaxssl.run import prepare as preparation
from jaxssl.training import checkpoint
from tests import tiny_config


@pytest.fixture
def finished(lenses_run):
    return lenses_run[0]


@pytest.fixture
def copy(finished, tmp_path):
    """The run again, to be spoilt."""
    return shutil.copytree(finished, tmp_path / "copy")


def written(folder):
    """By orbax, with the shardings that it stored itself."""
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore((folder / str(checkpoint.list_steps(folder)[0])).absolute())


def rewrite(file, change):
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


@pytest.mark.parametrize("evaluation", ["finetune_ssl", "finetune_random"])
def test_a_fine_tuned_network_predicts_what_the_run_predicted(finished, evaluation):
    with open(finished / "predictions.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["evaluation"] == evaluation]
    setup = preparation.prepare(tiny_config.get_config(), finished)
    row_of = {name: i for i, name in enumerate(setup.source.ids)}
    images = setup.source.images[[row_of[row["image_id"]] for row in rows]]

    found = trained.load(finished, evaluation)
    assert (found.classes, found.channels, found.supervised) == (("no", "sphere", "vort"), 1, True)
    pooled = found.encoder.apply(found.variables, views.eval_transform(images, setup.pixels, 16), train=False)["pooled"]
    logits = pooled @ found.head["linear"]["kernel"] + found.head["linear"]["bias"]
    expected = [[float(row[f"p_{name}"]) for name in found.classes] for row in rows]
    np.testing.assert_allclose(jax.nn.softmax(logits), expected, rtol=1e-4)


def test_the_pretrained_encoder_comes_back_bit_for_bit(finished):
    found = trained.load(str(finished))
    assert found.head is None and not found.supervised
    jax.tree.map(np.testing.assert_array_equal, found.variables, written(finished / "checkpoints" / "encoder"))


def test_an_encoder_whose_objective_read_labels_says_so(copy):
    rewrite(copy / "results.json", lambda results: results["pretrain"].update(supervised=True))
    assert trained.load(copy).supervised


def test_where_validation_chose_no_epoch_the_last_one_stands(copy):
    shutil.rmtree(copy / "checkpoints" / "finetune_ssl_best")
    state = written(copy / "checkpoints" / "finetune_ssl")
    found = trained.load(copy, "finetune_ssl")
    jax.tree.map(np.testing.assert_array_equal, found.head, state["params"]["head"])
    jax.tree.map(np.testing.assert_array_equal, found.variables["params"], state["params"]["encoder"])
    statistics = state["model_state"]["encoder"]["batch_stats"]
    jax.tree.map(np.testing.assert_array_equal, found.variables["batch_stats"], statistics)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize(
    ("name", "kw"),
    [("resnet18", {"width": 4, "stages": [1, 1]}), ("vit_tiny", {"depth": 1}), ("autoencoder", {"widths": [4, 4]})],
)
def test_channels_are_read_off_the_parameters(name, kw, channels):
    encoder = models.find(name)(**kw)
    image = jnp.zeros((1, 32, 32, channels))
    variables = jax.eval_shape(lambda key: encoder.init(key, image, train=False), jax.random.key(0))
    assert count_channels(encoder, 32, variables["params"]) == channels


def flip(workdir):
    file = max(
        (f for f in (workdir / "checkpoints" / "encoder").rglob("*") if f.is_file()), key=lambda f: f.stat().st_size
    )
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


SPOILS = {
    "gone": (shutil.rmtree, "copy is not a folder: give the workdir"),
    "config": (lambda w: (w / "config.json").unlink(), r"config.json cannot be read \(No such file"),
    "results": (
        lambda w: (w / "results.json").unlink(),
        "results.json cannot be read .* one that was stopped is finished by",
    ),
    "half": (lambda w: (w / "results.json").write_text("{"), r"results.json is not valid JSON"),
    "other": (lambda w: (w / "config.json").write_text("[1]"), "config.json has no schema_version"),
    "model": (
        lambda w: rewrite(w / "config.json", lambda c: c["config"]["model"].update(name="resnet19")),
        "model.name='resnet19' is unknown",
    ),
    "width": (
        lambda w: rewrite(w / "config.json", lambda c: c["config"]["model"]["options"].update(width=8)),
        "checkpoints/encoder does not fit this encoder",
    ),
    "flip": (flip, "checkpoints/encoder is missing or damaged"),
    "missing": (lambda w: shutil.rmtree(w / "checkpoints"), "checkpoints/encoder is missing or damaged"),
    "unpretrained": (
        lambda w: rewrite(w / "results.json", lambda r: r.update(pretrain=None)),
        "has no network '': it has 'finetune_ssl', 'finetune_random'",
    ),
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_what_is_wrong_with_a_workdir_is_said_in_one_line(copy, spoil):
    change, message = SPOILS[spoil]
    change(copy)
    with pytest.raises(UserError, match=message) as error:
        trained.load(copy)
    assert str(copy) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("evaluation", ["finetune_sl", "probe_random", "../encoder"])
def test_a_network_that_is_not_there_is_answered_with_those_that_are(finished, evaluation):
    with pytest.raises(UserError, match=r"its pretrained encoder \(''\), 'finetune_ssl', 'finetune_random'") as error:
        trained.load(finished, evaluation)
    assert ("did you mean 'finetune_ssl'" in str(error.value)) == (evaluation == "finetune_sl")
