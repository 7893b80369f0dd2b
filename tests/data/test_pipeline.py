"""Batches: order by epoch, resuming, padding, and equality of images in memory and in records."""

import multiprocessing

import numpy as np
import pytest
from jax.sharding import NamedSharding

from jaxssl.data import pipeline, records, source
from jaxssl.training import sharding


@pytest.fixture(scope="module")
def images():
    pixels = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    return source.make(pixels, np.zeros(20), [f"i{i:02}" for i in range(20)], ("a", "b"))


def epoch(images, number, skip=0, steps=3):
    """The rows of each batch, told by the values of its images."""
    rows = np.arange(2, 20)
    options = {"batch_size": 4, "steps": steps, "seed": 7, "epoch": number, "skip": skip, "sharding": over(1)}
    return [np.asarray(batch["image"])[:, 0, 0, 0] for batch in pipeline.training(images, rows, **options)]


def over(data, fsdp=1):
    return sharding.batch_sharding(sharding.make_mesh(data, fsdp))


def test_an_epoch_has_whole_batches_of_different_images(images):
    for steps in (2, 4):
        seen = np.concatenate(epoch(images, 0, steps=steps))
        assert len(seen) == len(set(seen)) == 4 * steps and set(seen) <= set(range(2, 20))


def test_balanced_epochs_have_all_classes_equally_often():
    rows, kinds = np.arange(100) + 5, np.repeat([0, 1, 2], [90, 8, 2])
    drawn = pipeline.order(rows, seed=0, epoch=1, count=120, kinds=kinds)
    counts = np.bincount(kinds[drawn - 5])
    assert len(drawn) == 120 and counts.max() - counts.min() <= 3
    assert set(drawn) >= set(rows[90:]) and len(set(drawn[drawn < 95])) == counts[0]  # Frequent ones do not repeat.
    np.testing.assert_array_equal(drawn, pipeline.order(rows, seed=0, epoch=1, count=120, kinds=kinds))
    assert set(drawn) != set(pipeline.order(rows, seed=0, epoch=2, count=120, kinds=kinds))


def test_balanced_masks_have_lesions_as_often_as_none():
    """Of 24 images one has a lesion of class 2, four of class 1, the others none: each makes a third of an epoch."""
    masks = np.zeros((24, 4, 4), np.uint8)
    masks[1:6, 1, 1] = 1
    masks[5, 2, 2] = 2
    made = source.make(np.zeros((24, 4, 4, 1), np.uint8), [-1] * 24, [f"{i}" for i in range(24)], ())
    of = source.with_masks(made, masks, ("background", "large", "small"))
    assert of.mask_kinds.tolist() == [-1] + 4 * [0] + [1] + 18 * [-1]
    options = {"batch_size": 8, "steps": 6, "seed": 0, "epoch": 0, "skip": 0, "sharding": over(1), "masks": True}
    for balanced, share in ((False, 1 / 24), (True, 1 / 3)):
        batches = pipeline.training(of, np.arange(24), **options, balanced=balanced)
        found = np.concatenate([np.asarray(batch["mask"]) for batch in batches])
        assert (found == 2).any((1, 2)).sum() == round(48 * share)


def test_the_kind_of_an_image_is_its_rarest_label():
    labels = [[1, 1], [1, 0], [1, 0], [0, 0], [-1, -1]]
    pixels = np.zeros((5, 2, 2, 1), np.uint8)
    several = source.make(pixels, labels, list("abcde"), ("often", "rare"), task="multi")
    assert several.kinds.tolist() == [1, 0, 0, 2, -1]
    assert source.make(pixels, [0, 1, 1, -1, 0], list("abcde"), ("x", "y")).kinds.tolist() == [0, 1, 1, -1, 0]


def test_the_order_depends_on_the_epoch_alone(images):
    assert set(np.concatenate(epoch(images, 0))) != set(np.concatenate(epoch(images, 1)))
    np.testing.assert_array_equal(epoch(images, 1), epoch(images, 1))


def test_an_epoch_resumes_from_any_batch(images):
    np.testing.assert_array_equal(epoch(images, 3, skip=2), epoch(images, 3)[2:])


def test_evaluation_counts_each_image_once(images):
    batches = list(pipeline.evaluation(images, np.arange(3, 14), batch_size=4, sharding=over(1)))
    rows = np.concatenate([np.asarray(batch["image"])[:, 0, 0, 0] for batch in batches])
    np.testing.assert_array_equal(rows, [*range(3, 14), 3])


def test_batches_hold_what_is_read_on_the_devices(images):
    (batch,) = pipeline.training(images, np.arange(4), batch_size=4, steps=1, seed=0, epoch=0, skip=0, sharding=over(1))
    assert batch.keys() == pipeline.gather(images, np.arange(4)).keys() == {"image", "label"}
    assert batch["label"].dtype == np.int32


# Images in records


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same 50 images in memory and in records."""
    pixels = np.random.default_rng(0).integers(0, 256, (50, 3, 3, 1), np.uint8)
    file = tmp_path_factory.mktemp("records") / "x.array_record"
    records.write(file, pixels, lambda: {"shape": pixels.shape, "dtype": "uint8"})
    labels, ids = np.arange(50) % 3, [f"i{i:02}" for i in range(50)]
    return tuple(source.make(images, labels, ids, ("a", "b", "c")) for images in (pixels, records.load(file)[0]))


def assert_same(one, other):
    one, other = list(one), list(other)
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], strict=True)
            assert a[name].sharding == b[name].sharding


@pytest.mark.parametrize("workers, skip", [(0, 0), (0, 3), (2, 3), (0, 5)])
def test_training_from_records_is_that_from_memory(both, monkeypatch, workers, skip):
    monkeypatch.setattr(pipeline, "MIN_BATCHES_FOR_PROCESSES", 0)
    given = {"batch_size": 8, "steps": 5, "seed": 1, "epoch": 2, "skip": skip, "sharding": over(4)}
    held, stored = (list(pipeline.training(s, np.arange(4, 49), **given, workers=workers)) for s in both)
    assert len(stored) == 5 - skip
    if stored:
        assert_same(held, stored)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("count, workers", [(16, 0), (17, 0), (3, 0), (17, 1)])
def test_evaluation_from_records_is_that_from_memory(both, monkeypatch, count, workers):
    monkeypatch.setattr(pipeline, "MIN_BATCHES_FOR_PROCESSES", 0)
    rows = np.arange(50)[::-1][:count]
    assert_same(*(pipeline.evaluation(s, rows, batch_size=8, sharding=over(2), workers=workers) for s in both))


def test_skipped_batches_are_not_read(both, monkeypatch):
    read = []
    whole = records.Images.__getitem__

    def getitem(self, rows):
        read.extend(rows)
        return whole(self, rows)

    monkeypatch.setattr(records.Images, "__getitem__", getitem)
    given = {"batch_size": 4, "seed": 1, "epoch": 0, "sharding": over(1)}
    list(pipeline.training(both[1], np.arange(50), **given, steps=12, skip=9))
    np.testing.assert_array_equal(np.sort(read), np.sort(pipeline.order(np.arange(50), 1, 0)[36:48]))


def test_leaving_an_epoch_ends_its_processes(both, monkeypatch):
    monkeypatch.setattr(pipeline, "MIN_BATCHES_FOR_PROCESSES", 0)
    given = {"batch_size": 2, "steps": 25, "seed": 1, "epoch": 0, "skip": 0, "sharding": over(1)}
    with pytest.raises(KeyError):
        for _ in pipeline.training(both[1], np.arange(50), **given, workers=1):
            assert multiprocessing.active_children()
            raise KeyError
    assert not multiprocessing.active_children()


def test_each_process_reads_the_rows_of_its_devices(both, monkeypatch):
    """As on the second of two processes with four devices each: what it reads is right, and it reads nothing else."""
    mesh = sharding.make_mesh(4, 2)
    everywhere = NamedSharding.addressable_devices_indices_map
    mine, where = set(mesh.devices.ravel()[4:]), sharding.batch_sharding(mesh)

    def here(self, shape):
        return {device: index for device, index in everywhere(self, shape).items() if device in mine}

    assert pipeline.local_rows(16, where).tolist() == list(range(16))
    with monkeypatch.context() as patch:
        patch.setattr(NamedSharding, "addressable_devices_indices_map", here)
        assert pipeline.local_rows(16, where).tolist() == list(range(8, 16))
        rows = np.random.default_rng(0).permutation(50)
        asked = []
        patch.setattr(records, "stream", lambda images, parts, _: (asked.append(p) or images[p] for p in parts))
        (batch,) = pipeline._read_local(both[1].images, [rows[:16]], 0, where)
    np.testing.assert_array_equal(asked, [rows[8:16]])
    assert batch.shape == (16, 3, 3, 1)
    np.testing.assert_array_equal(batch[8:], both[0].images[rows[8:16]])
