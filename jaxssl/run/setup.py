"""What all phases of one experiment share."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxssl.augment.views import Pixels
from jaxssl.data.source import Source
from jaxssl.objectives import Objective
from jaxssl.weights.provenance import name_weights

Tree = Any


class Setup(NamedTuple):
    """What all phases of one experiment share; `jaxssl.run.prepare.prepare` makes it.

    Attributes:
      config: the config.
      workdir: the output directory.
      mesh: the devices.
      source: the images.
      splits: rows of the source by "train", "validation" and "test".
      labelled: rows of the training split whose labels may be used.
      pretraining_rows: rows that pretraining sees.
      objective: that of the pretraining; None without pretraining.
      pixels: scaling of the stored values.
      encoder: the network that is pretrained and evaluated.
      weights: variables of `init.weights`; None for random initialization.
      encode: (variables, batch) -> pooled features [B, D], jitted.
      requested: {field: value} of those fields of the config that were changed to fit images or machine.
      weights_origin: name and origin of `weights`, "init" of results.json; None for random initialization.
    """

    config: ConfigDict
    workdir: Path
    mesh: Mesh
    source: Source
    splits: dict[str, np.ndarray]
    labelled: np.ndarray
    pretraining_rows: np.ndarray
    objective: Objective | None
    pixels: Pixels
    encoder: nn.Module
    weights: Tree | None
    encode: Callable[[Tree, dict], jax.Array]
    requested: Mapping[str, int | str] = MappingProxyType({})
    weights_origin: dict[str, Any] | None = None


def transfer_rows(setup: Setup) -> dict[str, np.ndarray]:
    """Return the rows of each split that transfer uses: of "train", those whose labels may be used.

    These are the rows of "validation", too, if the labels of validation images may not be used.
    """
    rows = setup.splits | {"train": setup.labelled}
    return rows | {"validation": setup.labelled} if chooses_by_few(setup.config) else rows


def chooses_by_few(config: ConfigDict) -> bool:
    """Return whether settings are chosen by the few labels alone."""
    return config.data.validation_labels == "few"


def mask_rows(setup: Setup) -> dict[str, np.ndarray]:
    """Return the rows of `transfer_rows` whose images have a mask."""
    assert setup.source.masked is not None
    return {split: rows[setup.source.masked[rows]] for split, rows in transfer_rows(setup).items()}


def every_nth(rows: np.ndarray, max_count: int) -> np.ndarray:
    """Return at most `max_count` evenly spaced rows; evenly, because images are often sorted by class."""
    return rows[:: -(-len(rows) // max_count)]


def init_names(config: ConfigDict, reads_labels: bool) -> list[str]:
    """Return the initializations that this run evaluates, its own pretraining first."""
    given = [name_weights(config.init.weights, config.init.name)] if config.init.weights else []
    pretrained = ["+".join([*given, "supervised" if reads_labels else "ssl"])] if config.pretrain.epochs else []
    return [*pretrained, *given, "random"]
