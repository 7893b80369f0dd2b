"""ISIC 2019 on tiny files of the same layout."""

import pytest

from jaxssl.data.datasets import isic2019
from jaxssl.errors import UserError
from tests.data import layouts

CLASSES = isic2019.DATASET.classes
NAMES = [f"ISIC_{i:07d}" + "_downsampled" * (i % 5 == 0) for i in range(16)]


def truth(root, chosen=None, unknown="0.0"):
    """One hot, the class of image i being i mod 8."""
    chosen = [{i % 8} for i in range(16)] if chosen is None else chosen
    rows = [
        [name, *("1.0" if c in hot else "0.0" for c in range(8)), unknown]
        for name, hot in zip(NAMES, chosen, strict=True)
    ]
    layouts.table(root / "ISIC_2019_Training_GroundTruth.csv", [["image", *CLASSES, "UNK"], *rows])


@pytest.fixture
def download(tmp_path):
    """Images 0 to 3 without a lesion; then two to a lesion."""
    root = tmp_path / "download"
    for i, name in enumerate(NAMES):
        layouts.picture(root / "ISIC_2019_Training_Input" / "ISIC_2019_Training_Input" / f"{name}.jpg", 10 * i)
    truth(root)
    rows = [[name, "55.0", "", f"BCN_{i // 2:07d}" if i >= 4 else "", "female"] for i, name in enumerate(NAMES)]
    head = ["image", "age_approx", "anatom_site_general", "lesion_id", "sex"]
    layouts.table(root / "ISIC_2019_Training_Metadata.csv", [head, *reversed(rows)])
    return root


def test_tiny_download(download):
    layouts.litter(download)
    got = layouts.load(isic2019, download)
    assert got.ids.tolist() == NAMES and got.classes == CLASSES and got.official is None
    assert got.labels.tolist() == [i % 8 for i in range(16)]
    assert got.groups.tolist() == NAMES[:4] + [f"BCN_{i // 2:07d}" for i in range(4, 16)] and got.groups_known
    assert all(abs(image.mean() - 10 * i) < 3 for i, image in enumerate(got.images))


@pytest.mark.parametrize(
    ("first", "unknown", "says"),
    [(set(), "0.0", "none"), ({0, 4}, "0.0", "MEL and BKL"), (set(), "1.0", "UNK")],
)
def test_image_without_exactly_one_class(download, first, unknown, says):
    truth(download, [first, *({i % 8} for i in range(1, 16))], unknown)
    place = r"ISIC_2019_Training_GroundTruth\.csv line 2: the class of ISIC_0000000_downsampled"
    with pytest.raises(UserError, match=rf"{place} is {says}, not one of MEL, NV"):
        layouts.load(isic2019, download)


def test_without_metadata_lesions_are_not_guessed(download):
    (download / "ISIC_2019_Training_Metadata.csv").unlink()
    with pytest.raises(UserError, match=r"^ISIC_2019_Training_Metadata\.csv not found under .*challenge\.isic"):
        layouts.load(isic2019, download)
