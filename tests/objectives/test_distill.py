"""Distillation against a NumPy oracle, by what must not reach the teacher, and from the workdir of a real run."""

import json
import math
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxssl.augment.views import Pixels
from jaxssl.objectives import distill
from jaxssl.run import experiment
from jaxssl.run.teacher import load_teacher
from jaxssl.training import checkpoint
from tests import tiny, tiny_config
from tests.golden import make_published
from tests.objectives import test_byol as oracle
from tests.refusals import refuses


def one_view():
    batch = tiny.two_views()
    return batch | {"views": batch["views"][:1]}


def make_teacher(width=5):
    """A network of five features whose every number is random, its running statistics too."""
    encoder, rng = tiny.Encoder(width), np.random.default_rng(3)
    shapes = jax.eval_shape(lambda: encoder.init(jax.random.key(0), jnp.zeros((1, 2, 2, 1)), train=False))
    variables = jax.tree.map(lambda s: rng.uniform(0.5, 2, s.shape).astype(np.float32), shapes)
    variables["params"]["linear"]["kernel"] = rng.normal(size=(4, width)).astype(np.float32)
    linear = {"kernel": rng.normal(size=(width, 3)), "bias": rng.normal(size=3)}
    head = {"linear": jax.tree.map(np.float32, linear)}

    def apply(variables, image):
        return encoder.apply(variables, image, train=False)["pooled"]

    return distill.Teacher("there", apply, variables, 1, head, ("a", "b", "c"), supervised=True)


def make(known, classes=3, **options):
    return distill.make(tiny.Encoder(), classes=classes, teacher=known, **options)


@pytest.fixture
def teacher():
    return make_teacher()


def teach(known, image):
    """Features and logits by running statistics."""
    p, statistics = known.variables["params"], known.variables["batch_stats"]["bn"]
    x = oracle.linear(p["linear"], image.reshape(len(image), -1))
    x = (x - statistics["mean"]) / np.sqrt(statistics["var"] + 1e-5) * p["bn"]["scale"] + p["bn"]["bias"]
    pooled = np.maximum(x, 0)
    return pooled, oracle.linear(known.head["linear"], pooled)


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def test_loss_on_features_against_the_oracle(teacher):
    objective, batch = make(teacher), one_view()
    params, state, target = objective.init(jax.random.key(0), batch)
    params["predictor"]["bias"] += 0.1
    (image,) = batch["views"]
    pooled, statistics = oracle.encoder(params["encoder"], state["encoder"]["batch_stats"], image)
    prediction = oracle.linear(params["predictor"], pooled)
    value, (new, metrics) = objective.loss(params, state, target, batch, jax.random.key(1))
    assert value == pytest.approx(oracle.regression(prediction, teach(teacher, image)[0]), rel=1e-4)
    expected = {"encoder": {"batch_stats": statistics}}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), new, expected)
    assert metrics["features"].shape == (8, 6)


@pytest.mark.parametrize(("temperature", "label_weight"), [(1.0, 0.0), (4.0, 0.3), (2.0, 1.0)])
def test_loss_on_logits_against_the_oracle(teacher, temperature, label_weight):
    kw = {"on": "logits", "temperature": temperature, "label_weight": label_weight}
    objective, batch = make(teacher, **kw), one_view()
    batch["label"][2] = -1
    params, state, target = objective.init(jax.random.key(0), batch)
    params["head"]["linear"]["kernel"] += jax.random.normal(jax.random.key(5), (6, 3))
    (image,) = batch["views"]
    pooled, _ = oracle.encoder(params["encoder"], state["encoder"]["batch_stats"], image)
    own, wanted = oracle.linear(params["head"]["linear"], pooled), teach(teacher, image)[1]
    log_p, log_q = log_softmax(wanted / temperature), log_softmax(own / temperature)
    expected = (1 - label_weight) * temperature**2 * (np.exp(log_p) * (log_p - log_q)).sum(1)
    known = batch["label"] >= 0
    expected -= label_weight * np.where(known, log_softmax(own)[np.arange(8), batch["label"]], 0)
    value, (_, metrics) = objective.loss(params, state, target, batch, jax.random.key(1))
    assert value == pytest.approx(expected.mean(), rel=1e-4)
    assert metrics["accuracy"] == pytest.approx((own.argmax(1) == batch["label"])[known].mean())


@pytest.mark.parametrize("on", ["features", "logits"])
def test_no_gradient_reaches_the_teacher_and_it_stays_as_it_is(teacher, on):
    objective, batch = make(teacher, on=on), one_view()
    params, state, target = objective.init(jax.random.key(0), batch)
    if on == "logits":
        params["head"]["linear"]["kernel"] += np.eye(6, 3, dtype=np.float32)
    gradient = jax.grad(lambda t: objective.loss(params, state, t, batch, jax.random.key(2))[0])(target)
    jax.tree.map(lambda g: np.testing.assert_array_equal(g, 0), gradient)
    of_student = jax.grad(lambda p: objective.loss(p, state, target, batch, jax.random.key(2))[0])(params)
    assert np.abs(of_student["encoder"]["linear"]["kernel"]).max() > 0
    assert set(state) == {"encoder"}
    after = objective.advance(target, params, jnp.asarray(3))
    jax.tree.map(np.testing.assert_array_equal, after["teacher_encoder"], teacher.variables)
    assert ("teacher_head" in after) == (on == "logits")


def test_each_init_makes_the_teacher_anew(teacher):
    """The state of a step is donated, and with it the target."""
    objective = make(teacher)
    assert objective.constant_target
    *_, target = objective.init(jax.random.key(0), one_view())
    jax.tree.map(lambda array: array.delete(), target)
    *_, target = objective.init(jax.random.key(1), one_view())
    jax.tree.map(np.testing.assert_array_equal, target["teacher_encoder"], teacher.variables)


def test_a_predictor_and_its_negative_cost_two_on_average(teacher):
    objective, batch = make(teacher), one_view()
    params, state, target = objective.init(jax.random.key(0), batch)
    negative = params | {"predictor": jax.tree.map(jnp.negative, params["predictor"])}
    pair = [objective.loss(p, state, target, batch, jax.random.key(1))[0] for p in (params, negative)]
    assert abs(pair[0] - pair[1]) > 0.1
    assert np.mean(pair) == pytest.approx(2, rel=1e-5)


def test_labels_alone_cost_the_logarithm_of_the_classes_at_first(teacher):
    objective = make(teacher, on="logits", label_weight=1.0)
    params, state, target = objective.init(jax.random.key(0), one_view())
    value, _ = objective.loss(params, state, target, one_view(), jax.random.key(1))
    assert value == pytest.approx(math.log(3), rel=1e-6)
    assert objective.first_loss(8) == pytest.approx(math.log(3))
    assert make(teacher, on="logits", label_weight=0.9).first_loss is None


@pytest.mark.parametrize("on", ["features", "logits"])
@pytest.mark.parametrize("supervised", [False, True])
def test_what_labels_taught_is_supervised_on_features_too(teacher, on, supervised):
    assert make(teacher._replace(supervised=supervised), on=on).supervised == (supervised or on == "logits")


@pytest.mark.parametrize(
    ("options", "code", "field", "value"),
    [
        ({"on": "maps"}, "unknown-name", "on", "'maps'"),
        ({"temperature": 0.0}, "out-of-range", "temperature", "0.0"),
        ({"on": "logits", "label_weight": 1.5}, "out-of-range", "label_weight", "1.5"),
        ({"label_weight": 0.5}, "conflict", "label_weight", "0.5 needs pretrain.options.on='logits'"),
        ({"on": "logits", "classes": 4}, "mismatch", "teacher", "there has 3 classes, and these images have 4"),
    ],
)
def test_options_that_cannot_work(teacher, options, code, field, value):
    with refuses(code, f"pretrain.options.{field}", value):
        make(teacher, **options)


def test_a_teacher_that_does_not_fit(teacher):
    with refuses("mismatch", "pretrain.options.teacher", "there takes images of 1 channel", "these have 3"):
        make(teacher).init(jax.random.key(0), {"views": (np.zeros((2, 2, 2, 3), np.float32),)})
    with refuses("mismatch", "pretrain.options.evaluation", "there"):
        make(teacher._replace(head=None), on="logits")


@pytest.mark.parametrize("workdir", ["", "there"])
def test_a_teacher_that_cannot_be_loaded(workdir):
    with refuses("missing", "pretrain.options.teacher", f"pretrain.options.teacher={workdir!r}"):
        load_teacher({"teacher": workdir, "evaluation": ""}, 16)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """The config of a student of a run's fine-tuned network, its workdir and results."""
    folder = tmp_path_factory.mktemp("taught")
    c = tiny_config.get_config()
    c.pretrain.epochs = 0
    c.transfer.protocols = ("finetune",)
    c.transfer.freeze_epochs = 0
    experiment.run(c, folder / "teacher")

    c = tiny_config.get_config("distill")
    c.model.options.width = 2
    c.pretrain.objective = "distill"
    c.pretrain.options.teacher = str(folder / "teacher")
    c.pretrain.options.evaluation = "finetune_random"
    c.pretrain.options.on = "logits"
    c.transfer.protocols = ("knn",)
    return c, folder / "student", experiment.run(c, folder / "student")


def test_a_student_learns_from_the_workdir_of_a_run(taught):
    _, workdir, results = taught
    assert results["pretrain"]["supervised"] and math.isfinite(results["pretrain"]["final_loss"])
    state = checkpoint.load_numpy(workdir / "checkpoints" / "pretrain")
    assert state["target"] == {} and set(state["params"]) == {"encoder", "head", "online_probe"}


def test_a_student_that_goes_on_has_its_teacher_back(taught, tmp_path):
    c, whole, _ = taught
    shutil.copytree(whole, tmp_path / "half")
    folder = tmp_path / "half" / "checkpoints" / "pretrain"
    checkpoint.remove(folder / str(checkpoint.list_steps(folder)[0]))
    shutil.rmtree(tmp_path / "half" / "checkpoints" / "encoder")
    experiment.run(c, tmp_path / "half")
    encoders = (checkpoint.load_numpy(place / "checkpoints" / "encoder") for place in (whole, tmp_path / "half"))
    jax.tree.map(np.testing.assert_array_equal, *encoders)


def test_a_teacher_that_has_seen_the_test_images_is_refused(taught, tmp_path):
    c = taught[0].copy_and_resolve_references()
    c.seed = 1
    with refuses("leakage", "pretrain.options.teacher", "of the test images"):
        experiment.run(c, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_teacher_of_other_classes_is_refused(taught, tmp_path):
    """As many of them, but not the same: what it calls the first is another thing."""
    c = taught[0].copy_and_resolve_references()
    c.pretrain.options.teacher = str(shutil.copytree(c.pretrain.options.teacher, tmp_path / "teacher"))
    results = json.loads((tmp_path / "teacher" / "results.json").read_text())
    classes = results["dataset"]["classes"]
    results["dataset"]["classes"] = [classes[1], classes[0], *classes[2:]]
    (tmp_path / "teacher" / "results.json").write_text(json.dumps(results))
    with refuses("mismatch", "pretrain.options.teacher", f"the classes {classes[1]}, {classes[0]}, "):
        experiment.run(c, tmp_path / "student")


def published(tmp_path, name, notes=None):
    """A file of made weights of a small DINOv2, and its encoder."""
    shapes = json.loads((Path(__file__).parents[1] / "golden" / "published.json").read_text())["dinov2"]
    tensors = {key: np.ascontiguousarray(tensor) for key, tensor in make_published.state(shapes).items()}
    safetensors.numpy.save_file(tensors, tmp_path / name, notes)
    return str(tmp_path / name)


# low, high, mean, std and asinh of the student's images, and what a published teacher makes of stored values.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
EXPORTED = {"low": 10.0, "high": 60.0, "mean": [0.3], "std": [0.2], "asinh": 2.0}


def imagenet(stored):
    return (stored / 255 - IMAGENET[0]) / IMAGENET[1]


def stretched(stored):
    return (np.arcsinh(2 * (stored - 10) / 50) / np.arcsinh(2) - 0.3) / 0.2


@pytest.mark.parametrize(
    ("name", "notes", "pixels", "channels", "expected"),
    [
        ("dinov2_vits14.safetensors", None, Pixels(0, 255, (0.2, 0.5, 0.4), (0.3, 0.1, 0.2)), 3, imagenet),
        ("dinov2_vits14.safetensors", None, Pixels(0, 255, (0.2,), (0.3,)), 1, imagenet),
        ("a.safetensors", {"pixels": json.dumps(EXPORTED)}, Pixels(0, 99, (0.2,), (0.3,), 5.0), 3, stretched),
        ("a.safetensors", None, Pixels(0, 100, (0.2,), (0.3,)), 3, lambda stored: (stored / 100 - 0.2) / 0.3),
    ],
)
def test_the_teacher_gets_images_in_its_own_scaling(tmp_path, name, notes, pixels, channels, expected):
    """From the stored values: those of the student's views are standardized by its own scaling."""
    file = published(tmp_path, name, notes)
    stored = np.random.default_rng(0).uniform(20, 90, (2, 28, 28, channels)).astype(np.float32)
    unit = (stored - pixels.low) / (pixels.high - pixels.low)
    unit = np.arcsinh(pixels.asinh * unit) / np.arcsinh(pixels.asinh) if pixels.asinh else unit
    seen = (unit - np.float32(pixels.mean)) / np.float32(pixels.std)
    teacher = load_teacher({"teacher": file}, 28, pixels)
    wanted = load_teacher({"teacher": file}, 28)  # Takes images as they are.
    given = np.broadcast_to(expected(stored), (2, 28, 28, 3)).astype(np.float32)
    features = wanted.apply(wanted.variables, given)
    np.testing.assert_allclose(teacher.apply(teacher.variables, seen), features, rtol=1e-3, atol=1e-4)
    distill.check_channels(teacher, channels)


def test_published_weights_are_a_teacher(tmp_path):
    """Of a ViT with learnt positions: model and options are read off the tensors."""
    file = published(tmp_path, "dinov2.safetensors")
    tensors = safetensors.numpy.load_file(file)
    loaded = load_teacher({"teacher": file}, 28)
    assert (loaded.name, loaded.channels, loaded.head, loaded.supervised) == (file, 3, None, False)
    image = np.random.default_rng(0).normal(size=(2, 14, 14, 3)).astype(np.float32)
    larger = load_teacher({"teacher": file, "teacher_size": 28}, 14)
    same = loaded.apply(loaded.variables, jax.image.resize(image, (2, 28, 28, 3), "linear"))
    np.testing.assert_allclose(larger.apply(larger.variables, image), same, atol=1e-5)
    two = {f"{side}.{name}": tensor for side in ("student", "teacher") for name, tensor in tensors.items()}
    safetensors.numpy.save_file(two, file)
    with refuses("mismatch", "pretrain.options.teacher", "'student.', 'teacher.'"):
        load_teacher({"teacher": file}, 28)
    assert load_teacher({"teacher": file, "evaluation": "teacher."}, 28).channels == 3
