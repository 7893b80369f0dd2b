"""The encoder as a transformer: scikit-learn's own checks, and a pipeline on images."""

import json
import shutil

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

import jaxssl
from jaxssl.inference.sklearn import Encoder

STATUSES = ("passed", "failed", "skipped")
NEED_MORE = {"check_array_api_input"}  # An option of SciPy in the environment.


@pytest.fixture(scope="module")
def of_floats(run, tmp_path_factory):
    """The run as if its images had been floats: scikit-learn's checks have any number for a value."""
    workdir = shutil.copytree(run.workdir, tmp_path_factory.mktemp("floats") / "workdir")
    config = json.loads((workdir / "config.json").read_text())
    (workdir / "config.json").write_text(json.dumps(config | {"dtype": "float32"}))
    return workdir


def test_scikit_learns_checks_pass(of_floats):
    found = check_estimator(Encoder(of_floats, shape=(1, -1, 1)), on_skip=None, on_fail=None)
    of = {status: {check["check_name"] for check in found if check["status"] == status} for status in STATUSES}
    assert not of["failed"], of["failed"]
    assert len(of["passed"]) > 40 and of["skipped"] <= NEED_MORE


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    level = np.repeat([60, 160], 12)
    return (level[:, None, None, None] + rng.integers(-50, 50, (24, 18, 22, 3))).astype(np.uint8), np.repeat([0, 1], 12)


def test_features_are_those_of_encode_and_carry_names(run, images):
    X, y = images
    encoder = Encoder(str(run.workdir))
    found = encoder.fit_transform(X, y)
    np.testing.assert_array_equal(found, jaxssl.load(run.workdir).encode(X))
    assert encoder.get_feature_names_out().tolist() == [f"encoder{i}" for i in range(found.shape[1])]
    flat = clone(encoder).set_params(shape=(18, -1, 3)).fit_transform(X.reshape(len(X), -1))
    np.testing.assert_array_equal(flat, found)


def test_another_evaluation_is_of_another_network(run, images):
    found = [Encoder(run.workdir, name).transform(images[0]) for name in ("finetune_ssl", "finetune_random", "")]
    assert not np.allclose(found[0], found[1]) and not np.allclose(found[0], found[2])


def test_in_a_pipeline_it_tells_bright_from_dark(run, images):
    X, y = images
    pipeline = make_pipeline(Encoder(run.workdir), LogisticRegression(max_iter=1000)).fit(X[::2], y[::2])
    assert pipeline.score(X[1::2], y[1::2]) == 1


def test_flat_rows_of_unknown_shape_are_refused(run, images):
    with pytest.raises(ValueError, match=r"rows of 1188 values are not images: give \[N, H, W, C\], or shape"):
        Encoder(run.workdir).fit(images[0].reshape(24, -1))


def test_paths_are_images_too(run):
    paths = sorted((run.images / "dark").iterdir())[:4]
    features = Encoder(run.workdir).fit(paths).transform([str(path) for path in paths])
    np.testing.assert_array_equal(features, jaxssl.load(run.workdir).encode(paths))
