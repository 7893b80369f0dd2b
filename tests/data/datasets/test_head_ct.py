"""Head CT on tiny files of the same layout, and on a real copy."""

import numpy as np
import pytest

from jaxssl.data.datasets import head_ct
from jaxssl.errors import UserError
from tests.data import layouts


def labels(root, values):
    layouts.table(root / "labels.csv", [["id", " hemorrhage"], *enumerate(values)])


@pytest.fixture
def download(tmp_path):
    root = tmp_path / "download"
    for i in range(12):
        mode, shade = (("L", 20 * i), ("RGB", 20 * i), ("RGBA", (20 * i,) * 3 + (255,)))[i % 3]
        layouts.picture(root / "head_ct" / "head_ct" / f"{i:03d}.png", shade, (8 + i, 9), mode)
    labels(root, [1] * 6 + [0] * 6)
    return root


def check_tiny(got):
    assert got.ids.tolist() == [f"{i:03d}" for i in range(12)] == got.groups.tolist()
    assert got.labels.tolist() == [1] * 6 + [0] * 6 and got.classes == ("normal", "hemorrhage")
    assert got.images.shape == (12, 8, 8, 3) and got.official is None and got.groups_known
    assert np.abs(got.images.mean((1, 2, 3)) - 20 * np.arange(12)).max() < 1


def test_tiny_download(download):
    layouts.litter(download)
    check_tiny(layouts.load(head_ct, download))


def test_one_folder(download):
    (download / "head_ct" / "head_ct").rename(download / "images")
    (download / "head_ct").rmdir()
    (download / "images").rename(download / "head_ct")
    check_tiny(layouts.load(head_ct, download))


def test_label_that_is_none(download):
    labels(download, [1] * 6 + [2] * 6)
    with pytest.raises(UserError, match=r"labels\.csv line 8: hemorrhage is '2', not one of 0, 1"):
        layouts.load(head_ct, download)


def test_real_copy(shared_data, tmp_path):
    got = head_ct.load(manual_dir=str(shared_data / "head_ct_hemorrhage"), cache_dir=str(tmp_path), size=8)
    assert layouts.counts(got) == {"normal": 100, "hemorrhage": 100}
    assert got.ids[[0, -1]].tolist() == ["000", "199"] and got.labels[0] == 1 and got.labels[-1] == 0
