"""The real lenses on tiny files of both layouts."""

import numpy as np
import pytest

from jaxssl.data.datasets import real_lenses
from jaxssl.errors import UserError
from tests.data import layouts

RNG = np.random.default_rng(0)


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, image)


@pytest.fixture
def one_band(tmp_path):
    arrays = {f"{i}_hst": 100 * RNG.random((12, 12)) for i in range(5)}
    arrays |= {f"nl_{i}_hst": 100 * RNG.random((12, 12)) for i in range(3)}
    for name, image in arrays.items():
        save(tmp_path / "download" / "real_hst" / f"{name}.npy", image)
        save(tmp_path / "download" / "__MACOSX" / "real_hst" / f"{name}.npy", image)
    return tmp_path / "download", arrays


def three_bands(root, prefixes):
    arrays = {}
    for prefix in prefixes:
        for kind in ("lenses", "nonlenses"):
            for i in range(3):
                arrays[f"{prefix}{kind}/{i}"] = RNG.random((3, 12, 12)).astype(np.float32)
                save(root / f"{prefix}{kind}" / f"{i}.npy", arrays[f"{prefix}{kind}/{i}"])
    return arrays


def load(root, **kw):
    return real_lenses.load(manual_dir=str(root), cache_dir=str(root.parent / "cache"), **({"size": 12} | kw))


def test_one_band(one_band):
    root, arrays = one_band
    save(root / "copy" / "real_hst" / "1_hst.npy", np.zeros((12, 12)))
    got = load(root)
    assert got.ids.tolist() == sorted(arrays) and got.classes == ("not_lens", "lens")
    assert got.labels.tolist() == [0 if name.startswith("nl_") else 1 for name in sorted(arrays)]
    np.testing.assert_array_equal(got.images[..., 0], np.float32([arrays[name] for name in sorted(arrays)]))
    assert got.images.dtype == np.float32 and got.official is None and not got.groups_known


def test_nan_is_refused_unless_said(one_band):
    root, arrays = one_band
    for name in ("1_hst", "nl_2_hst"):
        holed = arrays[name].copy()
        holed[:2, 5] = np.nan
        save(root / "real_hst" / f"{name}.npy", holed)
    with pytest.raises(UserError, match=r"^1_hst: 2 of its values are NaN .* in 2 of 8 images: set data\.nan"):
        load(root)
    for nan, value in (("zero", 0), ("median", np.median(np.delete(arrays["1_hst"].ravel(), [5, 17])))):
        got = load(root, nan=nan)
        np.testing.assert_allclose(got.images[got.ids == "1_hst"][0, :2, 5, 0], value, rtol=1e-6)
        np.testing.assert_array_equal(got.images[got.ids == "1_hst"][0, 2:, :, 0], np.float32(arrays["1_hst"][2:]))


def test_three_bands(tmp_path):
    root = tmp_path / "download"
    arrays = three_bands(root, [""])
    save(root / "lenses" / "0.npy", np.pad(arrays["lenses/0"], ((0, 0), (1, 1), (0, 2))))
    got = load(root, bands=3)
    assert got.ids.tolist() == sorted(arrays) and got.labels.tolist() == [1] * 3 + [0] * 3
    assert got.images.shape == (6, 12, 12, 3) and got.official is None
    for i in range(1, 6):
        np.testing.assert_array_equal(got.images[i], np.moveaxis(arrays[got.ids[i]], 0, -1))


def test_three_bands_with_an_official_split(tmp_path):
    arrays = three_bands(tmp_path / "download", ["train_", "test_"])
    got = load(tmp_path / "download", bands=3)
    assert got.ids.tolist() == sorted(arrays)
    assert got.official.tolist() == [name.split("_")[0] for name in got.ids]
    assert got.labels.tolist() == [0 if "non" in name else 1 for name in got.ids]


def test_both_downloads_in_one_folder(one_band):
    root, arrays = one_band
    colour = three_bands(root, [""])
    assert load(root).ids.tolist() == sorted(arrays) and load(root, bands=3).ids.tolist() == sorted(colour)


def test_bands_stream_from_records_of_their_own(one_band):
    root, arrays = one_band
    colour = three_bands(root, [""])
    for bands, of in ((1, arrays), (3, colour)):
        got = layouts.check_streams(load, root, bands=bands)
        assert got.ids.tolist() == sorted(of) and got.channels == bands
    assert len(list(root.parent.glob("cache/records/*.array_record"))) == 2


def test_what_is_missing_or_wrong(one_band):
    root, _ = one_band
    with pytest.raises(UserError, match=r"data\.options\.bands is 2: it must be 1 or 3"):
        load(root, bands=2)
    with pytest.raises(UserError, match=r"^nonlenses/\*\.npy not found under data\.manual_dir=.*drive"):
        load(root, bands=3)
    save(root / "real_hst" / "7_hst.npy", np.zeros((3, 12, 12)))
    with pytest.raises(UserError, match=r"^1 of 9 files cannot be read: 7_hst \(has 3 bands, not 1"):
        load(root)
    for path in (root / "real_hst").glob("nl_*"):
        path.unlink()
    with pytest.raises(UserError, match=r"^nl_<n>_hst\.npy not found"):
        load(root)


def test_objects_are_refused(one_band):
    root, _ = one_band
    np.save(root / "real_hst" / "1_hst.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(UserError, match=r"1 of 8 files cannot be read: 1_hst \(Object arrays cannot be loaded"):
        load(root)
