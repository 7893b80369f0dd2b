"""The disk space that a run is said to take, against what it takes."""

import jax
import numpy as np
import pytest

from jaxssl.run import disk, prepare
from jaxssl.training import checkpoint
from tests import tiny_config, tiny_run


def count_bytes(folder):
    return sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(checkpoint.load_numpy(folder)))


def test_checkpoints_take_about_what_is_said(run):
    """In arrays: the files that orbax adds are larger than those of so small a network."""
    setup = prepare.prepare(tiny_run.get_config(run.images), run.workdir)
    most, end = disk.estimate_bytes(setup)
    arrays = sum(count_bytes(folder) for folder in (run.workdir / "checkpoints").iterdir())
    assert arrays == pytest.approx(end, rel=0.1)
    assert most > 1.5 * end
    assert disk.describe(setup).startswith("disk: up to ")


def test_keeping_the_optimizer_takes_more(run, tmp_path):
    sizes = []
    for keep in (False, True):
        c = tiny_config.get_config()
        c.checkpoints.optimizer_state = keep
        sizes.append(disk.estimate_bytes(prepare.prepare(c, tmp_path)))
    assert sizes[1][1] > 2 * sizes[0][1]


def test_too_little_space_is_told(tmp_path, caplog):
    disk.warn_if_too_little(tmp_path, 10, 20)
    assert not caplog.text
    disk.warn_if_too_little(tmp_path, 3 * 2**30, 2**30)
    assert "checkpoints take up to 3.0 GiB, and 1.0 GiB are free" in caplog.text
