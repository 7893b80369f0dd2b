"""A run with masks: disks on a noisy background, whose outlines a small network learns in seconds."""

import csv
import json
import shutil

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from jaxssl.results import description, schema
from jaxssl.run import disk, experiment, prepare
from jaxssl.training import checkpoint
from tests import tiny_config
from tests.refusals import refuses
from tests.run.test_disk import count_bytes

SIDE = 16


def write_disks(folder, count=40):
    rng = np.random.default_rng(0)
    for i in range(count):
        y, x = np.mgrid[:SIDE, :SIDE] - rng.uniform(4, 12, 2)[:, None, None]
        disk = np.hypot(y, x) < rng.uniform(2, 5)
        pixels = (60 + 120 * disk + rng.integers(-20, 20, disk.shape)).astype(np.uint8)
        for kind, array in (("images", pixels), ("masks", 255 * disk.astype(np.uint8))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / kind / f"{i:02d}.png")
    return folder


def get_config(images):
    c = tiny_config.get_config()
    c.data.name = "folder"
    c.data.dir = str(images)
    c.data.options = ConfigDict({"masks": "auto"})
    c.data.validation = c.data.test = 0.25
    c.pretrain.epochs = 0
    c.checkpoints.optimizer_state = False
    c.transfer.protocols = ("segment",)
    c.transfer.epochs = 2
    c.transfer.freeze_epochs = 0
    c.transfer.min_steps_per_epoch = 15
    c.transfer.optimizer.learning_rate = 0.01
    c.transfer.augment.rotate90 = True
    return c


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("masks")
    images = write_disks(place / "data")
    return images, place / "run", experiment.run(get_config(images), place / "run")


def test_outlines_are_learned_and_can_be_scored_again(run):
    images, workdir, results = run
    (e,) = results["evaluations"]
    assert e["name"] == "segment_random" and e["images"] == 10 and e["metrics"]["dice"]["value"] > 0.6
    assert e["metrics"]["dice"]["low"] < e["metrics"]["dice"]["value"] < e["metrics"]["dice"]["high"]
    with np.load(workdir / "evaluations" / "segment_random.npz") as stored:
        predicted = dict(zip(stored["ids"].tolist(), stored["masks"], strict=True))
    with open(workdir / "segmentations.csv", newline="") as file:
        rows = [*csv.DictReader(file)]
    dice = []
    for row in rows:
        truth = np.asarray(Image.open(images / row["image_id"].replace("images", "masks"))) > 0
        found = predicted[row["image_id"]] > 0
        dice.append(2 * (truth & found).sum() / (truth.sum() + found.sum()))
        assert int(row["common_pixels"]) == (truth & found).sum() and np.isclose(float(row["dice"]), dice[-1])
    assert len(rows) == 10 and np.isclose(np.mean(dice), e["metrics"]["dice"]["value"])
    assert set(predicted) == {*json.loads((workdir / "splits.json").read_text())["test"]}
    assert not description.check(json.loads((workdir / "results.json").read_text()), schema.Results)
    assert "Dice" in (workdir / "report.html").read_text()


def test_decoders_count_in_the_disk_space_that_is_said(run):
    images, workdir, _ = run
    arrays = sum(count_bytes(folder) for folder in (workdir / "checkpoints").iterdir())
    assert disk.estimate_bytes(prepare.prepare(get_config(images), workdir))[1] == pytest.approx(arrays, rel=0.02)


def test_what_masks_need_is_refused(run, tmp_path):
    c = get_config(run[0])
    c.data.dir, c.data.options = str(run[0] / "images"), ConfigDict()
    with refuses("missing", "transfer.protocols", "segment"):
        experiment.run(c, tmp_path / "a")
    c = get_config(run[0])
    c.transfer.augment.randaugment_operations = 2
    with refuses("conflict", "transfer.augment.randaugment_operations"):
        experiment.run(c, tmp_path / "b")


@pytest.mark.slow
def test_a_run_resumes_to_the_same_masks(run, tmp_path, monkeypatch):
    """Killed after the first epoch, and again when the test images were predicted."""
    images, workdir, _ = run
    save, count = checkpoint.save, []

    def fail(folder, *args, **kw):
        save(folder, *args, **kw)
        count.append(folder)
        if len(count) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        experiment.run(get_config(images), tmp_path / "again")
    monkeypatch.undo()
    experiment.run(get_config(images), tmp_path / "again")
    for name in ("segmentations.csv", "evaluations/segment_random.npz"):
        assert (tmp_path / "again" / name).read_bytes() == (workdir / name).read_bytes()
    (tmp_path / "again" / "evaluations" / "segment_random.npz").write_bytes(b"damaged")
    (tmp_path / "again" / "results.json").unlink()
    experiment.run(get_config(images), tmp_path / "again")
    assert (tmp_path / "again" / "segmentations.csv").read_bytes() == (workdir / "segmentations.csv").read_bytes()


@pytest.mark.slow
def test_masks_from_records_give_the_same_run(run, tmp_path):
    c = get_config(run[0])
    c.data.memory_mib, c.data.cache_dir = 0, str(tmp_path / "cache")
    experiment.run(c, tmp_path / "lazy")
    assert (tmp_path / "lazy" / "segmentations.csv").read_bytes() == (run[1] / "segmentations.csv").read_bytes()


@pytest.mark.slow
def test_every_start_and_both_protocols(run, tmp_path):
    c = get_config(run[0])
    c.pretrain.epochs = 1
    c.transfer.protocols = ("segment_linear", "segment")
    c.data.label_fraction = 0.5
    results = experiment.run(c, tmp_path / "run")
    names = [e["name"] for e in results["evaluations"]]
    assert names == [f"{protocol}_{init}" for init in ("ssl", "random") for protocol in c.transfer.protocols]
    assert all(e["label_fraction"] == 0.5 for e in results["evaluations"])
    page = (tmp_path / "run" / "report.html").read_text()
    assert "linear segmentation" in page.lower() and "Difference from random" in page
    shutil.rmtree(tmp_path / "run" / "checkpoints")


def write_dots(folder, rng, count=300, side=48):
    """One image in ten has a dot of some 13 of 2,304 pixels; all have bright lines and noise."""
    for i in range(count):
        y, x = np.mgrid[:side, :side] - rng.uniform(4, side - 4, 2)[:, None, None]
        dot = (np.hypot(y, x) < rng.uniform(1.5, 2.5)) * (i % 10 == 0)
        pixels = 100 + rng.normal(0, 12, dot.shape) + 45 * dot
        pixels[rng.integers(side)] += 40
        pixels[:, rng.integers(side)] += 40
        for kind, array in (("images", pixels.clip(0, 255)), ("masks", 255 * dot)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(folder / kind / f"{i:03d}.png")


@pytest.mark.slow
def test_small_lesions_are_found_where_they_are_drawn_more_often(tmp_path):
    write_dots(tmp_path / "data", np.random.default_rng(0))
    dice = {}
    for name, sampling, lesions in (("without", "uniform", 0.0), ("with", "balanced", 0.5)):
        c = get_config(tmp_path / "data")
        c.data.image_size = 48
        c.data.validation, c.data.test = 0.15, 0.4
        c.transfer.epochs, c.transfer.min_steps_per_epoch, c.transfer.batch_size = 4, 25, 16
        c.transfer.augment.crop_area = (0.25, 1.0)
        c.transfer.sampling, c.transfer.augment.crop_lesions = sampling, lesions
        (e,) = experiment.run(c, tmp_path / name)["evaluations"]
        dice[name] = e["metrics"]["dice_present"]["value"]
    assert dice["without"] < 0.1 < 0.5 < dice["with"], dice
