"""Covid-19 x-rays on tiny files of the same layout."""

import numpy as np
import pytest

from jaxssl.data.datasets import covid19_xray
from jaxssl.errors import UserError
from tests.data import layouts

CLASSES = covid19_xray.DATASET.classes


@pytest.fixture
def download(tmp_path):
    """The same file names in each folder, of three formats and modes."""
    root = tmp_path / "download" / "Covid19-dataset"
    for side in ("train", "test"):
        for c, name in enumerate(CLASSES):
            layouts.picture(root / side / name / "01.jpeg", 50 * c, mode="L")
            layouts.picture(root / side / name / "02.JPG", 50 * c)
            layouts.picture(root / side / name / "03.png", (50 * c, 50 * c, 50 * c, 255), mode="RGBA")
    return root.parent


def test_tiny_download(download):
    layouts.litter(download)
    got = layouts.load(covid19_xray, download)
    assert got.images.shape == (18, 8, 8, 3) and got.images.dtype == np.uint8 and not got.groups_known
    for side in ("train", "test"):
        assert layouts.counts(got, side) == dict.fromkeys(CLASSES, 3)
    assert got.ids[0] == "test/Covid/01.jpeg" and got.official[0] == "test" and len(set(got.ids)) == 18
    assert np.abs(got.images.mean((1, 2, 3)) - 50 * got.labels).max() < 3


def test_nested_folders_in_lower_case(download):
    inner = download / "Covid19-dataset"
    for folder in sorted(inner.glob("*/*")):
        folder.rename(folder.with_name(folder.name.lower()))
    (download / "Covid19-dataset2").mkdir()
    inner.rename(download / "Covid19-dataset2" / "Covid19-dataset")
    assert layouts.counts(layouts.load(covid19_xray, download)) == dict.fromkeys(CLASSES, 6)


def test_side_that_is_missing(download):
    (download / "Covid19-dataset" / "test").rename(download / "Covid19-dataset" / "elsewhere")
    with pytest.raises(UserError, match=r"^test/Covid/ .*not found under .*covid19-image-dataset from Kaggle"):
        layouts.load(covid19_xray, download)
