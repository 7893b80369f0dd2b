"""Exports an encoder or a classifier to PyTorch, ONNX or StableHLO: what `jaxssl export` does."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import linen as nn
from jax import export

from jaxssl import files
from jaxssl.config.stored import read_config
from jaxssl.errors import UserError
from jaxssl.inference import trained
from jaxssl.inference.inputs import check_suffix
from jaxssl.models.convnext import ConvNeXt
from jaxssl.models.efficientnet import EfficientNetLite
from jaxssl.models.heads import classifier_of
from jaxssl.models.resnet import ResNet
from jaxssl.models.vit import EPSILON, ViT
from jaxssl.objectives.supervised import READOUTS
from jaxssl.results.workdir import read_splits
from jaxssl.weights.huggingface import to_huggingface
from jaxssl.weights.load import to_torch
from jaxssl.weights.provenance import describe_origin

Tree = Any

PUBLISHED_STAGES = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}


SUFFIXES = (".safetensors", ".stablehlo", ".onnx")
NAMINGS = ("timm", "huggingface")
HEADS = {ResNet: "fc", ViT: "head", ConvNeXt: "head.fc", EfficientNetLite: "classifier"}  # In timm and torchvision.


def export_encoder(
    workdir: str | Path, to: str | Path, evaluation: str = "", *, naming: str = "timm", classifier: bool = False
) -> str:
    """Write an encoder of a finished run, or a classifier, to the file `to`.

    Args:
      workdir: of the run.
      to: output file, overwritten. By its suffix:
        .safetensors: the weights in the layout of torchvision or timm.
        .stablehlo: the computation with its weights. `jax.export.deserialize(file.read_bytes()).call(images)` returns
          the features on the CPU, CUDA or TPU, without jaxssl.
        .onnx: the same for ONNX, by jax2onnx.
      evaluation: "" for the pretrained encoder, or the name of a fine-tuning in results.json.
      naming: of .safetensors: "timm", or "huggingface" for ViTs.
      classifier: whether the head of the fine-tuning is exported, too. Weights then give logits, computations what
        `jaxssl.load(workdir).predict` returns; classes and scaling of the pixels are in the metadata of the file.

    Returns:
      A few lines that describe the file and how to load it.

    Raises:
      UserError: as `trained.load`; another suffix; an encoder without such a layout; no head; a package is missing; a
        file that cannot be written.
    """
    workdir, to = files.expand_user(workdir), files.expand_user(to)
    check_suffix(to, SUFFIXES)
    network = trained.load(workdir, evaluation)
    check_head(network, naming, classifier)
    config = read_config(workdir)
    name, size = config["config"]["model"]["name"], config["config"]["data"]["image_size"]
    pixels = json.dumps(config.get("pixels"))
    notes = {"encoder": name, "image_size": str(size), "pixels": pixels}
    if classifier:
        notes |= {"classes": json.dumps(network.classes), "task": network.task}
    if to.suffix == ".safetensors":
        usage, tensors = name_tensors(network, name, size, naming, classifier)
        notes |= {"format": "pt", "pytorch": usage} | describe_origin(config["config"]["data"], read_splits(workdir))
        content = safetensors.numpy.save(tensors, notes)
    elif to.suffix == ".onnx":
        usage = f"onnxruntime.InferenceSession({to.name!r}).run(None, {{'images': images}})"
        content = to_onnx(make_program(network, classifier), ("B", size, size, network.channels), notes)
    else:
        usage = f"jax.export.deserialize(pathlib.Path({to.name!r}).read_bytes()).call(images)"
        content = to_stablehlo(make_program(network, classifier), size, network.channels)
    with files.output_errors(to):
        files.write_bytes(to, content)
    return (
        f"{to}: {name}, {network.channels} channel{'s' * (network.channels > 1)}, {size} px\n"
        f"  {usage}\n"
        f"  images: (x - low) / (high - low), then (x - mean) / std by channel, with {pixels}"
    )


def check_head(network: trained.Trained, naming: str, classifier: bool) -> None:
    """Raise UserError if a classifier is asked for and there is none, or not in this naming."""
    if classifier and network.head is None:
        raise UserError(
            "--classifier needs a network with a head: set --evaluation to a fine-tuning, such as finetune_ssl",
            code="missing",
            field="--classifier",
        )
    if classifier and naming == "huggingface":
        raise UserError(
            "--classifier and --naming=huggingface: heads are exported in timm's naming: leave one out",
            code="unsupported",
            field="--naming",
        )


def make_program(network: trained.Trained, classifier: bool) -> Callable[[jax.Array], jax.Array]:
    """Return the function from scaled images [B, H, W, C] to features [B, D], or to predictions [B, classes]."""

    def program(images: jax.Array) -> jax.Array:
        out: Any = network.encoder.apply(network.variables, images, train=False)
        if not classifier:
            return out["pooled"]
        assert network.head is not None
        head = classifier_of(len(network.classes), network.head)
        outputs: Any = head.apply({"params": network.head}, out, train=False)
        return READOUTS[network.task].activate(outputs)

    return program


def name_tensors(
    network: trained.Trained, name: str, size: int, naming: str, classifier: bool
) -> tuple[str, dict[str, np.ndarray]]:
    """Return the code that makes a PyTorch model, and the weights with its names."""
    encoder, variables = network.encoder, network.variables
    if naming == "huggingface":
        code, tensors = to_huggingface(encoder, variables, size)
        code = f"m = {code.replace('CHANNELS', str(network.channels))}"
        return f"{code}; m.load_state_dict(safetensors.torch.load_file(FILE)); m.eval()", tensors
    tensors, layers = to_torch(encoder, variables, size), {}
    if classifier:
        layers = name_head(HEADS[type(encoder)], network.head)
        for layer, of in layers.items():
            tensors |= {
                f"{layer}.weight": np.ascontiguousarray(of["kernel"].T),
                f"{layer}.bias": np.asarray(of["bias"]),
            }
    return pytorch_code(name, encoder, size, network.channels, layers), tensors


def name_head(module: str, head: Tree) -> dict[str, Tree]:
    """Return the dense layers of a head by their names in PyTorch: "fc", or "fc.0", "fc.2", ... of an MLP."""
    layers = [head[f"hidden{i}"] for i in range(len(head) - 1)] + [head["linear"]]
    return {module if len(layers) == 1 else f"{module}.{2 * i}": layer for i, layer in enumerate(layers)}


def to_onnx(program: Callable[[jax.Array], jax.Array], shape: tuple, notes: dict[str, str]) -> bytes:
    """Return a function of images as an ONNX model with notes as its metadata.

    Raises:
      UserError: jax2onnx is not installed.
    """
    try:
        jax2onnx = importlib.import_module("jax2onnx")
    except ImportError as error:
        raise UserError(
            "--to: .onnx files need the package jax2onnx: pip install 'jaxssl[onnx]'", code="missing", field="--to"
        ) from error
    try:
        model = jax2onnx.to_onnx(program, inputs=[shape], model_name="jaxssl", input_names=["images"])
    finally:
        jax.clear_caches()  # What was traced with its primitives cannot be run.
    for key, value in notes.items():
        model.metadata_props.add(key=key, value=value)
    return model.SerializeToString()


def to_stablehlo(program: Callable[[jax.Array], jax.Array], size: int, channels: int) -> bytes:
    """Serialize a function of images [B, size, size, channels] float32, for any B.

    Images are processed one by one: the encoders choose algorithms by static shapes, and B is not static.
    """
    (batch,) = export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, size, size, channels), jnp.float32)
    mapped = jax.jit(lambda images: jax.lax.map(lambda image: program(image[None])[0], images))
    return bytes(export.export(mapped, platforms=("cpu", "cuda", "tpu"))(images).serialize())


def timm_arguments(encoder: ViT, size: int, channels: int) -> str:
    """Return the arguments of timm's `VisionTransformer` for images of `size` pixels, padded to whole patches."""
    side, width = -(-size // encoder.patch) * encoder.patch, encoder.mlp_width or 4 * encoder.width
    pool = {"mean": "'avg', fc_norm=False", "cls": "'token'", "fc_norm": "'avg', fc_norm=True"}[encoder.pool]
    arguments = (
        f"img_size={side}, patch_size={encoder.patch}, in_chans={channels}, num_classes=0, embed_dim={encoder.width}, "
        f"depth={encoder.depth}, num_heads={encoder.heads}, reg_tokens={encoder.registers}, global_pool={pool}"
    )
    if encoder.activation == "swiglu":
        arguments += (
            f", mlp_layer=timm.layers.SwiGLUPacked, act_layer=torch.nn.SiLU, mlp_ratio={2 * width}/{encoder.width}"
        )
    elif encoder.mlp_width:
        arguments += f", mlp_ratio={width}/{encoder.width}"
    arguments += ", act_layer='quick_gelu'" * (encoder.activation == "quick_gelu")
    arguments += ", init_values=1e-5" * bool(encoder.layer_scale)
    arguments += ", class_token=False" * (not encoder.class_token)
    arguments += ", act_layer='gelu_tanh'" * (encoder.activation == "gelu_tanh")
    arguments += ", qk_norm=True" * encoder.qk_norm + ", pre_norm=True" * encoder.pre_norm
    if encoder.norm_epsilon != EPSILON:
        arguments += f", norm_layer=functools.partial(torch.nn.LayerNorm, eps={encoder.norm_epsilon})"
    return arguments


def pytorch_code(name: str, encoder: nn.Module, size: int, channels: int, head: dict[str, Tree] | None = None) -> str:
    """Return the code that makes a PyTorch model for these weights, or that timm has no model of this size.

    The model takes [B, channels, size, size] and loads the weights with `strict=True`; its output in `eval` mode is
    "pooled", or the logits of a head, whose layers are given by name.
    """
    small = getattr(encoder, "stem", "") == "small"
    match encoder:
        case ResNet(width=64) if encoder.stages == PUBLISHED_STAGES[name]:
            code = f"timm.create_model('{name}', num_classes=0, in_chans={channels})"
            if small:
                code += f"; m.conv1 = torch.nn.Conv2d({channels}, 64, 3, padding=1, bias=False)"
                code += "; m.maxpool = torch.nn.Identity()"
        case EfficientNetLite(width=1.0, depth=1.0):
            code = f"timm.create_model('tf_efficientnet_lite0', num_classes=0, in_chans={channels})"
            if small:
                code += "; m.conv_stem.stride = (1, 1)"
        case ViT():
            code = f"timm.models.VisionTransformer({timm_arguments(encoder, size, channels)})"
        case ConvNeXt(stem="imagenet"):
            code = (
                f"timm.create_model('convnext_tiny', num_classes=0, in_chans={channels}, depths={encoder.depths}, "
                f"dims={encoder.widths})"
            )
        case _:
            return "in the naming of torchvision and timm, which have no model of this size"
    if head:
        widths = [layer["kernel"].shape for layer in head.values()]
        code = code.replace("num_classes=0", f"num_classes={widths[-1][1]}")
        if len(head) > 1:
            layers = ", torch.nn.ReLU(), ".join(f"torch.nn.Linear({rows}, {columns})" for rows, columns in widths)
            code += f"; m.{HEADS[type(encoder)]} = torch.nn.Sequential({layers})"
    return f"m = {code}; m.load_state_dict(safetensors.torch.load_file(FILE)); m.eval()"
