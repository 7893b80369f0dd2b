"""A finished run on the smallest folder of images, for all that reads back what a run left."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from jaxssl.run import experiment
from tests import tiny_config

CLASSES = ("bright", "dark")


class Run(NamedTuple):
    workdir: Path
    images: Path


def write_images(folder: Path, count: int = 20) -> Path:
    """PNG, JPEG and TIFF files of several sizes, grey and RGB, in two class folders."""
    rng = np.random.default_rng(0)
    for name, level in zip(CLASSES, (160, 60), strict=True):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            shape = (24 + i, 40 - i) if i % 4 == 0 else (24 + i, 40 - i, 3)
            pixels = (level + rng.integers(-50, 50, shape)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02d}{('.png', '.jpg', '.tif')[i % 3]}")
    return folder


def get_config(images: Path) -> ConfigDict:
    c = tiny_config.get_config()
    c.data.name = "folder"
    c.data.dir = str(images)
    c.data.options = ConfigDict()
    c.data.test = 0.3
    c.data.stored_size = 20
    c.pretrain.epochs = 1
    c.pretrain.save_every = 0
    c.checkpoints.optimizer_state = False
    c.transfer.protocols = ("probe", "finetune")
    c.transfer.freeze_epochs = 0
    return c


def of_folder(place: Path) -> Run:
    """40 images, one epoch of pretraining, two of fine-tuning."""
    images = write_images(place / "images")
    experiment.run(get_config(images), place / "workdir")
    return Run(place / "workdir", images)


def predictions(workdir: Path, evaluation: str) -> dict[str, np.ndarray]:
    """Probabilities by image id, of predictions.csv."""
    with open(workdir / "predictions.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["evaluation"] == evaluation]
    return {row["image_id"]: np.array([float(row[f"p_{name}"]) for name in CLASSES]) for row in rows}
