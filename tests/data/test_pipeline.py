"""Batches: each image once an epoch, in an order of its own for each epoch, from any batch on."""

import numpy as np
import pytest

from jaxssl import sharding
from jaxssl.data import pipeline, source


@pytest.fixture(scope="module")
def images():
    pixels = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    return source.make(pixels, np.zeros(20), [f"i{i:02}" for i in range(20)], ("a", "b"))


def epoch(images, number, skip=0, steps=3):
    mesh = sharding.make_mesh(1, 1)
    rows = np.arange(2, 20)
    options = {"batch_size": 4, "steps": steps, "seed": 7, "epoch": number, "skip": skip, "mesh": mesh}
    return [np.asarray(batch["index"]) for batch in pipeline.training(images, rows, **options)]


def test_an_epoch_is_so_many_whole_batches_of_different_images(images):
    for steps in (2, 4):
        seen = np.concatenate(epoch(images, 0, steps=steps))
        assert len(seen) == len(set(seen)) == 4 * steps and set(seen) <= set(range(2, 20))


def test_the_next_epoch_draws_others_and_the_same_epoch_the_same(images):
    assert set(np.concatenate(epoch(images, 0))) != set(np.concatenate(epoch(images, 1)))
    np.testing.assert_array_equal(epoch(images, 1), epoch(images, 1))


def test_an_epoch_goes_on_from_any_batch(images):
    np.testing.assert_array_equal(epoch(images, 3, skip=2), epoch(images, 3)[2:])


def test_evaluation_counts_each_image_once(images):
    batches = list(pipeline.evaluation(images, np.arange(3, 14), batch_size=4, mesh=sharding.make_mesh(1, 1)))
    index, mask = (np.concatenate([np.asarray(batch[name]) for batch in batches]) for name in ("index", "mask"))
    assert len(index) == 12
    np.testing.assert_array_equal(index[mask], np.arange(3, 14))
