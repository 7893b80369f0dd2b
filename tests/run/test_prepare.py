"""What is refused or said before the first step: batches without negatives, classes without training images."""

import logging
import types

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxssl.augment import views
from jaxssl.data.source import make
from jaxssl.objectives import byol, losses, ntxent
from jaxssl.run import phase, prepare
from tests import tiny, tiny_config
from tests.refusals import refuses

CONTRASTIVE = ntxent.make(tiny.Encoder())


def settings(batch_size=16, parts=1, **augment):
    return ConfigDict(
        {"objective": "ntxent", "batch_size": batch_size, "gradient_accumulation": parts, "augment": augment}
    )


@pytest.mark.parametrize(
    ("batch_size", "parts", "field"), [(1, 1, "pretrain.batch_size"), (8, 8, "pretrain.gradient_accumulation")]
)
def test_ntxent_without_a_negative_is_refused(batch_size, parts, field):
    with refuses("too-few", field, "parts of 1 image"):
        prepare.check_negatives(settings(batch_size, parts), CONTRASTIVE)
    prepare.check_negatives(settings(batch_size, parts), byol.make(tiny.Encoder(), steps=1))


def test_accumulation_that_leaves_fewer_negatives_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        prepare.check_negatives(settings(16), CONTRASTIVE)
        assert not caplog.text
        prepare.check_negatives(settings(16, 4), CONTRASTIVE)
    assert "with the 3 others of its part, not with the 15 others" in caplog.text


def test_one_embedding_has_no_spread():
    assert np.isnan(losses.embedding_std(jax.numpy.ones((1, 4))))


def test_the_first_loss_is_expected_where_views_are_other_images():
    assert phase.expected_first_loss(CONTRASTIVE, settings(crop_area=(0.2, 1.0))) == pytest.approx(np.log(31))
    assert phase.expected_first_loss(CONTRASTIVE, settings(16, 4, rotation=180.0)) == pytest.approx(np.log(7))
    assert phase.expected_first_loss(CONTRASTIVE, settings(crop_area=(0.2, 1.0)), untrained=False) is None
    for weak in ({}, {"noise": 0.1}, {"rotation": 10.0}, {"blur_probability": (1.0,)}, {"flip_horizontal": True}):
        assert phase.expected_first_loss(CONTRASTIVE, settings(**weak)) is None
        assert not views.change_content(weak)


def archive(tmp_path, name, **counts):
    """A config on an npz archive with so many images of each class by split."""
    arrays, rng = {}, np.random.default_rng(0)
    for side, of in counts.items():
        arrays[f"{side}_images"] = rng.integers(0, 256, (sum(of), 16, 16, 1), np.uint8)
        arrays[f"{side}_labels"] = np.repeat(np.arange(len(of)), of)
    np.savez(tmp_path / f"{name}.npz", **arrays)
    c = tiny_config.get_config()
    c.data.name, c.data.dir, c.data.options = "npz", str(tmp_path / f"{name}.npz"), ConfigDict()
    return c


def test_a_class_of_the_test_split_without_a_training_image_is_refused(tmp_path):
    c = archive(tmp_path, "lacks", train=(40, 40, 0), val=(8, 8, 0), test=(10, 10, 10))
    c.data.options.classes = ("benign", "Malignant", "malignant ")
    with refuses("missing", "data.dir", "class 'malignant ' has 10 test images", "did you mean 'Malignant'?"):
        prepare.prepare(c, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    prepare.prepare(archive(tmp_path, "has", train=(40, 40, 1), val=(8, 8, 0), test=(10, 10, 1)), tmp_path / "run")


def test_a_split_without_a_label_is_told_by_its_cause():
    """No official split is at fault where there is none."""
    source = make(np.zeros((2, 1, 1, 1), np.uint8), [0, 1], ["a", "b"], ("x", "y"))
    setup = types.SimpleNamespace(source=source, config=tiny_config.get_config())
    said = str(prepare.lacking(setup, "test", "label", "label more images", "stop"))  # pyright: ignore
    assert said == "no image of the test split has a label: label more images, or stop"
    setup.source = source._replace(official=np.array(["train", "train"]))
    assert "data.use_official_split=False" in str(prepare.lacking(setup, "test", "label", "", ""))  # pyright: ignore
