"""Every config: valid, documented, and its `:local` runs two steps of each phase on made-up images.

A new file in configs/ is tested without a change here.
"""

import ast
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxssl import data, files
from jaxssl.config import checks, schedule
from jaxssl.config.load import available, call, load_config
from jaxssl.data import source
from jaxssl.results import words
from jaxssl.run import encoders, pretraining, segmentation, transfer
from jaxssl.run import prepare as preparation
from jaxssl.training import metrics
from tests.refusals import refuses

CONFIGS = available()
SIZE = 32
BATCH = 8
# Each encoder with as few layers as it may have, since compiling them is what takes the time.
SHALLOW = {
    "autoencoder": {"widths": (4, 8)},
    "conv_attention": {"widths": (8, 16)},
    "resnet18": {"stages": (1, 1), "width": 4},
    "vit_tiny": {"width": 24, "depth": 1},
}
# These share their objective and encoder with another config, and differ in the dataset and in numbers.
ALIKE = {f"simclr_{dataset}" for dataset in ("isic", "chest", "cifar", "covid", "idrid", "lenses")}
ALIKE |= {f"byol_{dataset}" for dataset in ("chest", "cifar", "hemorrhage", "melanoma", "folder", "lenses")}
ALIKE |= {"mae_lenses", "blur_lenses", "rotation_lenses", "supervised_lenses", "priors", "own", "pretexts", "starts"}
# Of the datasets whose images have another number of channels than 1.
CHANNELS = {"ham10000": 3, "isic2019": 3, "isic9": 3, "idrid_grading": 3, "melanoma192": 3, "folder": 3}


@pytest.mark.parametrize("argument", ["", ":local"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_is_valid_and_documents_how_to_run_it(name, argument):
    c = load_config(name + argument)
    checks.check(c)
    assert c.data.name in data.names()
    doc = ast.get_docstring(ast.parse(CONFIGS[name].read_text()))
    assert re.search(rf"jaxssl (run|sweep) {name}\b", doc)
    assert re.search(rf"\b{name}:(\w+,)?local\b", doc)
    with refuses("unknown-name", "--config", "nonsense"):
        load_config(f"{name}:nonsense")


def made_up(channels, seed=0):
    """60 images in three classes, of 30 patients."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (60, SIZE, SIZE, channels), np.uint8)
    patients = np.repeat(np.arange(30), 2)
    ids = [f"i{i:02}" for i in range(60)]
    return source.make(pixels, patients % 3, ids, ("a", "b", "c"), groups=[f"p{p}" for p in patients])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in ALIKE else name for name in CONFIGS]
)
def test_every_local_config_runs_two_steps_of_each_phase(name, tmp_path, monkeypatch):
    c = load_config(f"{name}:local").unlock()
    images = made_up(CHANNELS.get(c.data.name, 1))
    if c.data.options.get("masks"):
        masks = np.tril(np.ones(images.images.shape[:3], np.uint8))
        images = source.with_masks(images, masks, ("background", "lower"))
    monkeypatch.setattr(data, "load", lambda name, **kw: images)
    c.data.image_size, c.data.stored_size = SIZE, 0
    if c.model.name == "efficientnet_lite0":
        # It takes a minute to compile at any depth, and tests of its own hold it against the objectives.
        c.model.name, c.model.options, c.init.weights = "resnet18", ConfigDict(), ""
    c.model.options.update(SHALLOW[c.model.name])
    c.mesh.data = 1
    for phase in (c.pretrain, c.transfer):
        phase.batch_size = BATCH
        phase.images_per_epoch = 2 * BATCH
        phase.min_steps_per_epoch = 0
        phase.epochs = min(phase.epochs, 1)
        phase.optimizer.warmup_epochs = 0
    c.transfer.learning_rates = c.transfer.learning_rates[:1]
    if c.data.options.get("masks"):
        c.transfer.protocols = ("segment",)  # Tests of its own hold each decoder to what it should do.
    setup = preparation.prepare(c, tmp_path)
    start = encoders.init_encoder(setup)
    if c.pretrain.epochs:
        learnt = pretraining.pretrain(setup, setup.objective, start)
        assert jax.tree.map(jnp.shape, learnt) == jax.tree.map(jnp.shape, start)
    if "finetune" in c.transfer.protocols:
        said = transfer.finetune(setup, transfer.make_arm(setup, "random", start)).probabilities["test"]
        np.testing.assert_allclose(said.sum(1), 1, rtol=1e-4)
    trained = [protocol for protocol in c.transfer.protocols if protocol in words.TRAINED_PROTOCOLS]
    for protocol in {*trained} & {*words.SEGMENTATION_PROTOCOLS}:
        masks = segmentation.segment(setup, protocol, transfer.make_arm(setup, "random", start)).predicted
        assert masks.shape == (len(setup.splits["test"]), SIZE, SIZE)
    for phase in ["pretrain"] * c.pretrain.epochs + [f"{protocol}_random" for protocol in trained]:
        assert [row["step"] for row in metrics.read(tmp_path, phase) if "loss" in row] == [1, 2]


@pytest.mark.parametrize("argument", ["ham10000", "pneumoniamnist,local", "ham10000,local"])
def test_the_arms_of_a_study_differ_in_seed_labels_and_start_alone(argument):
    """An arm is a start, with pretraining or without, which one cell has both of: all else is the same for all."""
    config, resolved, names = f"priors:{argument}", [], []
    for name, values in call(config, "sweep"):
        c = load_config(config, [f"--config.{field}={value}" for field, value in values.items()])
        checks.check(c)
        resolved.append(dict(files.flatten(c.to_dict())))
        names.append(name)
    assert len(set(names)) == len(names)
    free = ("seed", "init.weights", "data.label_fraction", "transfer.inits")
    for c in resolved:
        assert {field for field in c if c[field] != resolved[0][field]} <= set(free)
    both = [((seed, "", 1.0, ()), (seed, "imagenet", 1.0, ("imagenet+ssl", "imagenet"))) for seed in range(5)]
    fewer = [(seed, "", share, ()) for seed in range(5) for share in (0.5, 0.25, 0.1, 0.05, 0.01)]
    expected = [*itertools.chain(*both), *(fewer if "local" in argument else ())]
    assert [tuple(c[field] for field in free) for c in resolved] == expected
    # Fine-tuning takes the same number of steps at every share of the labels.
    if "local" in argument:
        c = load_config(config).transfer
        assert {schedule.steps_per_epoch(images, c, "transfer") for images in (40, 500, 5000)} == {20}
