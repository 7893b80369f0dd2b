"""`jaxssl.load`: what a run trained gives for new images just what it gave in the run."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax

import jaxssl
from jaxssl.augment import views
from jaxssl.errors import UserError
from jaxssl.inference import conversion
from jaxssl.inference import network as inference
from jaxssl.run import encoders
from jaxssl.run import prepare as preparation
from jaxssl.training import checkpoint
from tests import tiny_run


@pytest.fixture(scope="module")
def network(run):
    return jaxssl.load(run.workdir)


def test_to_import_it_starts_no_backend():
    code = (
        "import jaxssl, sys; assert 'jax' not in sys.modules; jaxssl.load; "
        "from jax._src import xla_bridge; assert not xla_bridge._backends"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        jaxssl.lode  # noqa: B018


def test_predictions_of_files_are_those_of_the_run(run, network):
    expected = tiny_run.predictions(run.workdir, "finetune_ssl")
    found = network.predict([run.images / name for name in expected])
    assert found.shape == (len(expected), 2) and found.dtype == np.float32
    np.testing.assert_allclose(found, list(expected.values()), rtol=1e-5)
    assert network.classes == tiny_run.CLASSES and network.evaluation == "finetune_ssl"


def test_another_evaluation_is_of_its_own_network(run):
    expected = tiny_run.predictions(run.workdir, "finetune_random")
    network = jaxssl.load(run.workdir, "finetune_random")
    np.testing.assert_allclose(
        network.predict([str(run.images / name) for name in expected]), list(expected.values()), rtol=1e-5
    )
    assert network.classifier is network.encoder
    assert not np.allclose(list(expected.values()), list(tiny_run.predictions(run.workdir, "finetune_ssl").values()))


def test_features_are_those_of_the_run(run, network):
    setup = preparation.prepare(tiny_run.get_config(run.images), run.workdir)
    variables = encoders.init_encoder(setup)
    variables = checkpoint.restore(run.workdir / "checkpoints" / "encoder", variables)[1]
    expected = encoders.compute_features(setup, variables, np.arange(len(setup.source.ids)))
    found = network.encode([run.images / name for name in setup.source.ids])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    # As the run holds them, too.
    np.testing.assert_allclose(network.encode(setup.source.images), expected, rtol=1e-5, atol=1e-5)
    scaled = views.eval_transform(setup.source.images, setup.pixels, 16)
    np.testing.assert_allclose(network.encode(scaled, preprocess=False), expected, rtol=1e-5, atol=1e-5)


def test_features_of_patches_have_the_pooled_ones_for_their_mean(run, network):
    files = sorted(run.images.rglob("*.png"))
    patches = network.encode(files, patches=True)
    assert patches.shape[0] == len(files) and patches.shape[1] > 1
    np.testing.assert_allclose(patches.mean(1), network.encode(files), rtol=1e-5, atol=1e-6)


def test_a_full_batch_and_one_over_give_what_one_image_gives(run):
    network = jaxssl.load(run.workdir, batch_size=1)
    assert network.batch_size == network.mesh.size == jax.device_count() == 8
    files = sorted(run.images.rglob("*.jpg"))[:9]
    np.testing.assert_allclose(
        network.encode(files), np.concatenate([network.encode(file) for file in files]), rtol=1e-5, atol=1e-6
    )


def test_nothing_is_compiled_twice(run, network):
    network.encode(np.zeros((1, 20, 20, 3), np.uint8))
    before = network.features.func._cache_size()
    network.encode(np.zeros((100, 31, 17, 3), np.uint8))
    assert network.features.func._cache_size() == before


def image(shape=(24, 30, 3), dtype=np.uint8, low=0, high=255):
    return np.random.default_rng(1).integers(low, high, shape, endpoint=True).astype(dtype)


def test_arrays_of_another_depth_mean_what_they_say(network):
    eight = image()
    expected = network.encode([eight])
    for same in (eight.astype(np.uint16) * 257, eight.astype(np.float32), eight.astype(np.int64), eight.tolist()):
        np.testing.assert_array_equal(network.encode(np.asarray(same)), expected)
    grey = eight[..., :1]
    np.testing.assert_array_equal(network.encode([grey]), network.encode([np.repeat(grey, 3, -1)]))
    np.testing.assert_array_equal(network.encode([grey[..., 0]]), network.encode([grey]))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (image() / 255, r"values in \[0, 1\], and the run's images in \[0, 255\]: multiply it by 255"),
        (image().astype(np.uint16), "16 bits but no value above 255"),
        (image((24, 30, 2)), "has 2 channels, and the run's images have 3"),
        (np.where(image() > 9, np.nan, image()), "NaN"),
        (np.array(["a", "b"]), "not numbers"),
    ],
)
def test_an_array_whose_values_cannot_be_known_is_refused(network, given, says):
    with pytest.raises(UserError, match=f"1 of 2 images cannot be used: image 1 .*{says}") as error:
        network.encode([image(), given])
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read_are_named(network, run, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match=r"2 of 3 images cannot be used: .*torn.png \(.*; .*gone.png \(No such file"):
        network.predict([next(run.images.rglob("*.png")), tmp_path / "torn.png", tmp_path / "gone.png"])


@pytest.mark.parametrize("shape", [(16, 16, 3), (2, 20, 20, 3), (0, 16, 16, 3)])
def test_without_preprocessing_the_shape_is_that_of_training(network, shape):
    with pytest.raises(UserError, match=r"without preprocessing they must be \[N, 16, 16, 3\]"):
        network.encode(np.zeros(shape), preprocess=False)


def test_no_images_are_refused(network):
    with pytest.raises(UserError, match="no image is given"):
        network.encode([])


@pytest.mark.parametrize(
    ("shape", "channels", "count"),
    [
        ((5, 9, 8, 1), 1, 5),
        ((5, 9, 8), 1, 5),
        ((9, 8, 1), 1, 1),
        ((9, 8, 3), 3, 1),
        ((9, 8), 1, 1),
        ((2, 3, 9, 8), 3, 2),
    ],
)
def test_a_single_image_is_told_from_several(shape, channels, count):
    assert len(inference.list_images(np.zeros(shape), channels)) == count


def rewrite(file, change):
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


def test_calibrated_probabilities_are_of_the_logits_over_the_temperature(copy, run):
    rewrite(copy / "results.json", lambda r: [e.update(temperature=2.0) for e in r["evaluations"]])
    network = jaxssl.load(copy)
    files = sorted(run.images.rglob("*.png"))[:5]
    plain, found = network.predict(files), network.predict(files, calibrated=True)
    assert found.dtype == np.float32
    logits = network.encode(files)  # Of another encoder: of the right shape alone.
    assert logits.shape[0] == 5
    pooled = jaxssl.load(copy, "finetune_ssl").encode(files)
    head = network.classifier.head["linear"]
    logits = pooled @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(plain, softmax(logits, 1), rtol=1e-4)
    np.testing.assert_allclose(found, softmax(logits / 2, 1), rtol=1e-4)


@pytest.mark.parametrize("temperature", [None, "absent"])
def test_without_a_temperature_nothing_is_calibrated(copy, temperature):
    def change(results):
        for e in results["evaluations"]:
            e.pop("temperature", None)
            e.update({} if temperature else {"temperature": None})

    rewrite(copy / "results.json", change)
    with pytest.raises(UserError, match=r"finetune_ssl has no temperature in results.json"):
        jaxssl.load(copy).predict(image()[None], calibrated=True)


def test_a_run_without_a_trained_head_encodes_and_refuses_to_predict(copy):
    rewrite(copy / "results.json", lambda r: r.update(evaluations=r["evaluations"][:1]))
    shutil.rmtree(copy / "checkpoints" / "probe_ssl")
    network = jaxssl.load(copy)
    assert len(network.encode(image()[None])) == 1
    with pytest.raises(UserError, match=r"no network with a trained head .* 'finetune' among transfer.protocols"):
        network.predict(image()[None])


def test_where_nothing_was_pretrained_the_fine_tuned_network_encodes(copy):
    rewrite(copy / "results.json", lambda r: r.update(pretrain=None, evaluations=r["evaluations"][-1:]))
    network = jaxssl.load(copy)
    assert network.evaluation == "finetune_random" and network.encoder is network.classifier


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda w: shutil.rmtree(w), "results.json cannot be read"),
        (lambda w: (w / "results.json").write_text("[]"), "results.json has no schema_version"),
        (lambda w: rewrite(w / "config.json", lambda c: c.pop("pixels")), "not of a jaxssl run"),
        (lambda w: shutil.rmtree(w / "checkpoints"), "missing or damaged"),
    ],
)
def test_what_is_wrong_with_a_workdir_is_said_in_one_line(copy, spoil, says):
    spoil(copy)
    with pytest.raises(UserError, match=says) as error:
        jaxssl.load(copy)
    assert "\n" not in str(error.value)


def test_an_evaluation_without_a_network_is_refused(run):
    with pytest.raises(UserError, match="has no network 'knn_ssl'"):
        jaxssl.load(run.workdir, "knn_ssl")


def test_an_older_run_that_tells_no_dtype_takes_any(copy):
    rewrite(copy / "config.json", lambda c: c.pop("dtype"))
    assert jaxssl.load(copy).encode((image() / 255).astype(np.float32)).shape[0] == 1


def test_a_jpeg_is_read_at_the_size_at_which_the_run_read_it(run, network, tmp_path):
    """It is decoded at a fraction of its size, and the bytes differ from those of a whole decoding."""
    big = image((400, 400, 3))
    Image.fromarray(big).save(tmp_path / "big.jpg")
    read = inference.image_files.read(tmp_path / "big.jpg", 20)
    assert read.shape[0] < 400
    np.testing.assert_array_equal(network.encode(tmp_path / "big.jpg"), network.encode([read]))


def test_a_network_prints_one_line(network, run):
    assert repr(network) == f"Network('{run.workdir}': ResNet, 16 x 16 x 3 images, 2 classes by finetune_ssl)"


def test_grey_images_that_are_saved_as_rgb_are_grey():
    grey = np.random.default_rng(0).integers(0, 256, (4, 5, 1), np.uint8)
    assert (conversion.convert_channels(np.dstack([grey] * 3), 1) == grey).all()
    assert conversion.convert_channels(grey, 3) is grey
    with pytest.raises(ValueError, match="has 3 channels, and the run's images have 1"):
        conversion.convert_channels(np.dstack([grey, grey, grey // 2]), 1)
