"""Exact copies as one group."""

import numpy as np
import pytest

from jaxssl.data import source, splits
from jaxssl.data.copies import group_copies


def make(copies, groups=None, count=40, **kw):
    images = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 1), np.uint8)
    for a, b in copies:
        images[b] = images[a]
    ids = [f"i{i:02d}" for i in range(count)]
    return source.make(images, np.arange(count) % 2, ids, ("a", "b"), groups=groups, **kw)


def test_copies_join_their_groups_and_all_that_hang_on_them():
    groups = [f"p{i // 2:02d}" for i in range(40)]
    got = group_copies(make([(0, 2), (5, 9)], groups))
    assert (got.groups[:4] == "p00").all() and (got.groups[[4, 5, 8, 9]] == "p02").all()
    assert (got.groups[10:] == np.array(groups[10:])).all() and got.groups_known


def test_without_copies_nothing_changes():
    data = make([])
    assert group_copies(data) is data


def test_unknown_groups_stay_unknown():
    got = group_copies(make([(3, 30)]))
    assert got.groups[30] == got.groups[3] == "i03" and not got.groups_known


@pytest.mark.parametrize("seed", range(5))
def test_no_copy_crosses_a_split(seed):
    got = group_copies(make([(i, 39 - i) for i in range(8)]))
    parts = splits.split(got, seed=seed, validation=0.2, test=0.3)
    side = {int(i): name for name, rows in parts.items() for i in rows}
    assert all(side[i] == side[39 - i] for i in range(8))


def test_sides_of_a_given_split_are_not_joined():
    official = np.array(["train"] * 20 + ["test"] * 20)
    got = group_copies(make([(0, 1), (0, 30)], official=official), official)
    assert got.groups[1] == "i00" and got.groups[30] == "i30"
    splits.check(got, {"train": np.arange(20), "test": np.arange(20, 40)})
