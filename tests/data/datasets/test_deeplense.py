"""DeepLense on tiny files of the official layouts, and on one real file of each class of the models."""

import os
from pathlib import Path

import numpy as np
import pytest

from jaxssl import data
from jaxssl.data import splits
from jaxssl.data.datasets import deeplense, folder
from jaxssl.errors import UserError
from tests.data import layouts
from tests.refusals import refuses

RNG = np.random.default_rng(0)


def save(path, image, mass=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    if mass is None:
        return np.save(path, image)
    pair = np.empty(2, object)
    pair[:] = image, mass
    np.save(path, pair, allow_pickle=True)


@pytest.fixture
def common_test(tmp_path):
    arrays = {}
    for side, count in (("train", 6), ("val", 2)):
        for name in ("no", "sphere", "vort"):
            for i in range(count):
                image = arrays[f"{side}/{name}/{i}"] = RNG.random((1, 15, 15))
                save(tmp_path / "download" / "dataset" / side / name / f"{i}.npy", image)
                (tmp_path / "download" / "__MACOSX" / "dataset" / side / name).mkdir(parents=True, exist_ok=True)
                (tmp_path / "download" / "__MACOSX" / "dataset" / side / name / f"._{i}.npy").write_bytes(b"\0")
    return tmp_path / "download", arrays


def model(root, name, test=True):
    arrays = {}
    for side in [name, f"{name}_test"][: 1 + test]:
        for kind in ("axion", "cdm", "no_sub"):
            for i in range(3):
                image = arrays[f"{side}/{kind}/{kind}_sim_{i}"] = RNG.random((10, 10))
                save(root / side / kind / f"{kind}_sim_{i}.npy", image, 1.1e-23 if kind == "axion" else None)
    return arrays


def load(root, **kw):
    return deeplense.load(manual_dir=str(root), cache_dir=str(root.parent / "cache"), **({"size": 10} | kw))


def check(got, arrays):
    assert sorted(arrays) == got.ids.tolist() and got.images.dtype == np.float32
    for name, image, label in zip(got.ids, got.images, got.labels, strict=True):
        np.testing.assert_array_equal(image[..., 0], np.float32(arrays[name].squeeze()))
        assert got.classes[label] == name.split("/")[1]


def test_common_test(common_test):
    root, arrays = common_test
    got = load(root, size=15)
    check(got, arrays)
    assert got.classes == ("no", "sphere", "vort") and not got.groups_known
    assert (got.official == np.where(np.char.startswith(got.ids, "val"), "test", "train")).all()
    parts = splits.split(got, seed=0, validation=0.2, test=0.2)
    assert (got.official[parts["test"]] == "test").all() and len(parts["test"]) == 6
    assert len(parts["validation"]) and (got.official[parts["validation"]] == "train").all()


@pytest.mark.parametrize(
    ("part", "name"), [("model_i", "Model_I"), ("model_ii", "Model_II"), ("model_iii", "Model_III")]
)
def test_models(tmp_path, part, name):
    root = tmp_path / "download"
    arrays = {each: model(root, each) for each in ("Model_I", "Model_II", "Model_III")}
    got = load(root, part=part)
    check(got, arrays[name])
    assert got.classes == ("axion", "cdm", "no_sub")
    assert (got.official == np.where(np.char.startswith(got.ids, f"{name}_test/"), "test", "train")).all()


def test_each_part_streams_from_records_of_its_own(tmp_path):
    root = tmp_path / "download"
    arrays = {each: model(root, each) for each in ("Model_I", "Model_II", "Model_III")}
    for part, name in (("model_i", "Model_I"), ("model_ii", "Model_II"), ("model_iii", "Model_III")):
        check(layouts.check_streams(load, root, part=part), arrays[name])
    assert len(list(tmp_path.glob("cache/records/*.array_record"))) == 3


def test_model_without_its_test_images(tmp_path):
    arrays = model(tmp_path / "download", "Model_II", test=False)
    got = load(tmp_path / "download", part="model_ii")
    check(got, arrays)
    assert got.official is None


def test_by_name(tmp_path):
    """As a config calls it."""
    arrays = model(tmp_path / "download", "Model_II")
    given = {
        "seed": 0,
        "dir": "",
        "cache_dir": str(tmp_path / "cache"),
        "size": 10,
        "on_bad_file": "stop",
        "nan": "refuse",
    }
    got = data.load("deeplense", manual_dir=str(tmp_path / "download"), options={"part": "model_ii"}, **given)
    check(got, arrays)
    with refuses("unknown-name", "data.options.prat", "did you mean 'part'"):
        data.load("deeplense", manual_dir="", options={"prat": "model_i"}, **given)


def test_unknown_part_and_missing_folders(common_test):
    root, _ = common_test
    with pytest.raises(UserError, match=r"data\.options\.part is 'model_4': did you mean 'model_i'"):
        load(root, part="model_4")
    with pytest.raises(UserError, match=r"^Model_I/axion/ with files \.npy not found under data\.manual_dir="):
        load(root, part="model_i")
    for path in (root / "dataset" / "val" / "vort").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"^val/vort/ with files \.npy not found"):
        load(root)


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_axion_files_run_nothing(tmp_path):
    root = tmp_path / "download"
    model(root, "Model_II")
    save(root / "Model_II" / "axion" / "axion_sim_1.npy", RNG.random((10, 10)), Touch(tmp_path / "trace"))
    with pytest.raises(
        UserError, match=r"^1 of 18 files cannot be read: Model_II/axion/axion_sim_1 .*mkdir' is refused"
    ):
        load(root, part="model_ii")
    got = load(root, part="model_ii", on_bad_file="skip")
    assert len(got.ids) == 17 and not (tmp_path / "trace").exists()


def test_arrays_that_are_no_image_and_mass(tmp_path):
    root = tmp_path / "download"
    model(root, "Model_II")
    wrong = np.empty(3, object)
    wrong[:] = RNG.random((10, 10)), 1.0, 2.0
    np.save(root / "Model_II" / "axion" / "axion_sim_1.npy", wrong, allow_pickle=True)
    save(root / "Model_II" / "axion" / "axion_sim_2.npy", RNG.random((10, 10)), RNG.random((10, 10)))
    with pytest.raises(UserError, match=r"2 of 18 files .*of shape \(3,\), not an image and a mass"):
        load(root, part="model_ii")


def test_nan(common_test):
    root, arrays = common_test
    holed = arrays["train/no/0"].copy()
    holed[0, 3, 4] = np.nan
    save(root / "dataset" / "train" / "no" / "0.npy", holed)
    with pytest.raises(UserError, match=r"train/no/0: 1 of its values are NaN .* in 1 of 24 images: set data\.nan"):
        load(root, size=15)
    got = load(root, size=15, nan="zero")
    assert got.images[got.ids == "train/no/0"][0, 3, 4, 0] == 0


def test_real_files(shared_data, tmp_path):
    (tmp_path / "download").mkdir()
    real = shared_data / "lensing" / "deeplense_model_sample"
    (tmp_path / "download" / "Model_III").symlink_to(real)
    got = load(tmp_path / "download", part="model_iii", size=64)
    assert got.ids.tolist() == ["Model_III/axion/axion", "Model_III/cdm/cdm", "Model_III/no_sub/nosub"]
    for image, name in zip(got.images, got.ids, strict=True):
        np.testing.assert_array_equal(
            image[..., 0], np.float32(np.load(real / f"{Path(name).relative_to('Model_III')}.npy"))
        )
    assert 0 <= got.images.min() < got.images.max() <= 1


def test_folder_reads_real_cutouts(shared_data):
    """Those of COSMOS are without labels: one folder of npy files, which needs no builder."""
    root = shared_data / "lensing" / "hst_cosmos_unlabelled" / "npy_335_raw"
    got = folder.load(dir=str(root), size=335)
    assert got.images.shape == (10, 335, 335, 1) and got.images.dtype == np.float32 and got.classes == ()
    np.testing.assert_array_equal(got.images[0, ..., 0], np.load(root / got.ids[0]))
