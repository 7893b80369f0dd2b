"""The encoder of a run leaves it with its features, as weights and as a computation."""

import json

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import scipy.special

from jaxssl import models
from jaxssl.cli.parser import main
from jaxssl.inference import export, trained
from jaxssl.models.shapes import shapes_of
from jaxssl.results.workdir import write
from jaxssl.training import checkpoint
from jaxssl.weights.load import load

PIXELS = {"low": 0.0, "high": 255.0, "mean": [0.5], "std": [0.25]}


@pytest.fixture
def workdir(tmp_path):
    """As a run of ResNets on grey images leaves it: a pretrained encoder and a fine-tuned network."""
    kw = {"width": 4, "stages": [1, 1]}
    encoder = models.find("resnet18")(stem="small", **kw)
    shapes = shapes_of(encoder, 16, 1)
    rng = np.random.default_rng(0)

    def dense(rows, columns):
        return {"kernel": rng.normal(size=(rows, columns)).astype("f4"), "bias": rng.normal(size=columns).astype("f4")}

    first, second = (jax.tree.map(lambda s: rng.uniform(0.5, 1.5, s.shape).astype("f4"), shapes) for _ in "12")
    tuned = {
        "params": {"encoder": second["params"], "head": {"hidden0": dense(8, 3), "linear": dense(3, 2)}},
        "model_state": {"encoder": {"batch_stats": second["batch_stats"]}},
    }
    folder = tmp_path / "run"
    checkpoint.save(folder / "checkpoints" / "encoder", 0, first)
    checkpoint.save(folder / "checkpoints" / "finetune_ssl", 0, tuned)
    model = {"name": "resnet18", "stem": "small", "dtype": "float32", "options": kw}
    config = {"config": {"model": model, "data": {"image_size": 16, "dir": "", "manual_dir": ""}}, "pixels": PIXELS}
    write(folder / "config.json", config)
    write(folder / "splits.json", {"train": [], "validation": [], "fingerprint": "abc"})
    evaluations = [{"name": "finetune_ssl", "protocol": "finetune"}]
    results = {"dataset": {"classes": ["a", "b"]}, "pretrain": {"supervised": False}, "evaluations": evaluations}
    write(folder / "results.json", results)
    return folder


@pytest.mark.parametrize("evaluation", ["", "finetune_ssl"])
def test_weights_come_back(workdir, evaluation, tmp_path, capsys):
    file = tmp_path / "new" / "encoder.safetensors"
    assert main(["export", str(workdir), f"--to={file}", f"--evaluation={evaluation}"]) == 0
    found = trained.load(workdir, evaluation)
    back = load(str(file), found.encoder, 1, 16).variables
    jax.tree.map(np.testing.assert_array_equal, back, found.variables)
    with safetensors.safe_open(file, "numpy") as opened:
        notes = opened.metadata()
    assert json.loads(notes["pixels"]) == PIXELS and notes["format"] == "pt" and notes["image_size"] == "16"
    assert f"{file}: resnet18, 1 channel, 16 px" in capsys.readouterr().out
    assert [f.name for f in file.parent.iterdir()] == [file.name]


def test_the_computation_gives_the_features_of_any_number_of_images(workdir, tmp_path):
    file = tmp_path / "encoder.stablehlo"
    export.export_encoder(workdir, file)
    found = trained.load(workdir)
    computation = jax.export.deserialize(file.read_bytes())
    images = np.random.default_rng(1).normal(size=(3, 16, 16, 1)).astype(np.float32)
    expected = found.encoder.apply(found.variables, images, train=False)["pooled"]
    np.testing.assert_allclose(computation.call(images), expected, rtol=1e-4)
    assert computation.call(images[:1]).shape == (1, 8)
    assert set(computation.platforms) == {"cpu", "cuda", "tpu"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--to=encoder.h5"], "--to=encoder.h5 must end in .safetensors or .stablehlo or .onnx"),
        (["--to=x.safetensors", "--classifier"], "--classifier needs a network with a head"),
        (["--to=x.safetensors", "--naming=huggingface"], "--naming=huggingface: only ViTs are exported"),
        (["--to=x.safetensors", "--evaluation=finetune_sl"], "did you mean 'finetune_ssl'"),
        (["--to=config.json/x.safetensors"], "config.json/x.safetensors cannot be written: "),
    ],
)
def test_a_mistake_is_answered_in_one_line(workdir, arguments, says, monkeypatch, capsys):
    monkeypatch.chdir(workdir)
    assert main(["export", str(workdir), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("jaxssl: ") and error.count("\n") == 1
    assert says in error


def test_no_workdir(tmp_path, capsys):
    assert main(["export", str(tmp_path / "none"), "--to=x.stablehlo"]) == 2
    assert "none is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "kw", "says"),
    [
        ("resnet18", {}, "timm.create_model('resnet18', num_classes=0, in_chans=2);"),
        ("resnet50", {"stem": "small"}, "torch.nn.Conv2d(2, 64, 3, padding=1, bias=False); m.maxpool"),
        ("resnet18", {"stages": (3, 4, 6, 3)}, "no model of this size"),
        ("resnet18", {"width": 32}, "no model of this size"),
        ("efficientnet_lite0", {}, "timm.create_model('tf_efficientnet_lite0', num_classes=0, in_chans=2);"),
        ("efficientnet_lite0", {"width": 1.4}, "no model of this size"),
        (
            "vit_tiny",
            {"patch": 8, "registers": 3},
            "img_size=40, patch_size=8, in_chans=2, num_classes=0, embed_dim=192",
        ),
        ("vit_tiny", {"pool": "cls"}, "img_size=48, patch_size=16,"),
        ("vit_tiny", {"layer_scale": 1e-5, "pool": "fc_norm"}, "global_pool='avg', fc_norm=True, init_values=1e-5"),
        ("vit_tiny", {"activation": "swiglu", "mlp_width": 96}, "act_layer=torch.nn.SiLU, mlp_ratio=192/192"),
        ("vit_tiny", {"pre_norm": True, "norm_epsilon": 1e-5}, "pre_norm=True, norm_layer=functools.partial("),
        ("convnext_tiny", {"depths": (1, 1, 1, 1)}, "depths=(1, 1, 1, 1), dims=(96, 192, 384, 768)"),
    ],
)
def test_how_pytorch_loads_it(name, kw, says):
    assert says in export.pytorch_code(name, models.find(name)(**kw), 36, 2)


def test_a_classifier_leaves_with_its_classes(workdir, tmp_path):
    """Its weights by hand: logits of the MLP on the features; its computation: what the run predicts."""
    weights, computation = tmp_path / "classifier.safetensors", tmp_path / "classifier.stablehlo"
    said = export.export_encoder(workdir, weights, "finetune_ssl", classifier=True)
    export.export_encoder(workdir, computation, "finetune_ssl", classifier=True)
    tensors = safetensors.numpy.load_file(weights)
    with safetensors.safe_open(weights, "numpy") as opened:
        notes = opened.metadata()
    assert (json.loads(notes["classes"]), notes["task"]) == (["a", "b"], "single")
    assert "no model of this size" in said
    found = trained.load(workdir, "finetune_ssl")
    images = np.random.default_rng(1).normal(size=(3, 16, 16, 1)).astype(np.float32)
    pooled = np.asarray(found.encoder.apply(found.variables, images, train=False)["pooled"])
    hidden = np.maximum(pooled @ tensors["fc.0.weight"].T + tensors["fc.0.bias"], 0)
    logits = hidden @ tensors["fc.2.weight"].T + tensors["fc.2.bias"]
    expected = scipy.special.softmax(logits, axis=1)
    predicted = jax.export.deserialize(computation.read_bytes()).call(images)
    np.testing.assert_allclose(predicted, expected, rtol=1e-3, atol=1e-5)


def test_the_code_of_a_classifier():
    encoder = models.make("vit_tiny", {}, {})
    head = {"head.0": {"kernel": np.zeros((192, 8))}, "head.2": {"kernel": np.zeros((8, 3))}}
    code = export.pytorch_code("vit_tiny", encoder, 32, 1, head)
    assert "num_classes=3" in code
    assert "m.head = torch.nn.Sequential(torch.nn.Linear(192, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))" in code


@pytest.mark.slow  # jax2onnx takes ten seconds an encoder.
@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("resnet18", {"width": 8}, 33),
        ("vit_tiny", {"depth": 2, "width": 64, "heads": 2, "patch": 8}, 30),
        ("convnext_tiny", {"depths": (1, 1, 1, 1), "widths": (8, 8, 8, 8)}, 32),
        ("efficientnet_lite0", {}, 32),
    ],
)
@pytest.mark.filterwarnings("ignore")  # Those of jax2onnx.
def test_onnxruntime_gives_the_predictions(name, options, size):
    pytest.importorskip("jax2onnx", reason="jaxssl[onnx] is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="jaxssl[onnx] is not installed")
    encoder = models.make(name, {"stem": "imagenet"}, options)
    variables = encoder.init(jax.random.key(0), np.zeros((1, size, size, 3)), train=False)
    width = encoder.apply(variables, np.zeros((1, size, size, 3)), train=False)["pooled"].shape[1]
    kernel = np.arange(3 * width, dtype="f4").reshape(width, 3) / (100 * width)
    head = {"linear": {"kernel": kernel, "bias": np.arange(3, dtype="f4")}}
    network = trained.Trained(encoder, variables, head, ("a", "b", "c"), 3, True)
    program = export.make_program(network, classifier=True)
    content = export.to_onnx(program, ("B", size, size, 3), {"classes": '["a", "b", "c"]'})
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for count in (1, 3):
        images = np.random.default_rng(count).normal(size=(count, size, size, 3)).astype(np.float32)
        predicted = session.run(None, {"images": images})[0]
        np.testing.assert_allclose(predicted, program(images), atol=1e-5)
    assert session.get_modelmeta().custom_metadata_map == {"classes": '["a", "b", "c"]'}
