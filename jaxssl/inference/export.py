"""Exports an encoder to PyTorch, or to any runtime of StableHLO: what `jaxssl export` does."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import safetensors.numpy
from flax import linen as nn
from jax import export

from jaxssl import files
from jaxssl.inference import trained
from jaxssl.inference.inputs import check_suffix
from jaxssl.models.convnext import ConvNeXt
from jaxssl.models.efficientnet import EfficientNetLite
from jaxssl.models.resnet import ResNet
from jaxssl.models.vit import EPSILON, ViT
from jaxssl.results.workdir import read_config, read_splits
from jaxssl.weights.load import to_torch
from jaxssl.weights.provenance import describe_origin

Tree = Any

PUBLISHED_STAGES = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}


def export_encoder(workdir: str | Path, to: str | Path, evaluation: str = "") -> str:
    """Write an encoder of a finished run to the file `to`.

    Args:
      workdir: of the run.
      to: output file, overwritten. By its suffix:
        .safetensors: the weights in the layout of torchvision or timm.
        .stablehlo: the computation with its weights. `jax.export.deserialize(file.read_bytes()).call(images)` returns
          the features on the CPU, CUDA or TPU, without jaxssl.
      evaluation: "" for the pretrained encoder, or the name of a fine-tuning in results.json.

    Returns:
      A few lines that describe the file and how to load it.

    Raises:
      UserError: as `trained.load`; another suffix; an encoder without such a layout; a file that cannot be written.
    """
    workdir, to = Path(workdir).expanduser(), Path(to).expanduser()
    check_suffix(to, (".safetensors", ".stablehlo"))
    network = trained.load(workdir, evaluation)
    config = read_config(workdir)
    name, size = config["config"]["model"]["name"], config["config"]["data"]["image_size"]
    pixels = json.dumps(config.get("pixels"))
    if to.suffix == ".safetensors":
        usage = pytorch_code(name, network.encoder, size, network.channels)
        notes = {"format": "pt", "encoder": name, "image_size": str(size), "pixels": pixels, "pytorch": usage}
        notes |= describe_origin(config["config"]["data"], read_splits(workdir))
        content = safetensors.numpy.save(to_torch(network.encoder, network.variables, size), notes)
    else:
        usage = f"jax.export.deserialize(pathlib.Path({to.name!r}).read_bytes()).call(images)"
        content = to_stablehlo(network.encoder, network.variables, size, network.channels)
    with files.output_errors(to):
        files.write_bytes(to, content)
    return (
        f"{to}: {name}, {network.channels} channel{'s' * (network.channels > 1)}, {size} px\n"
        f"  {usage}\n"
        f"  images: (x - low) / (high - low), then (x - mean) / std by channel, with {pixels}"
    )


def to_stablehlo(encoder: nn.Module, variables: Tree, size: int, channels: int) -> bytes:
    """Serialize the function from images [B, size, size, channels] float32, for any B, to features [B, D] float32.

    Images are processed one by one: the encoders choose algorithms by static shapes, and B is not static.
    """

    def encode(image: jax.Array) -> jax.Array:
        out: Any = encoder.apply(variables, image[None], train=False)
        return out["pooled"][0]

    (batch,) = export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, size, size, channels), jnp.float32)
    mapped = jax.jit(lambda images: jax.lax.map(encode, images))
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
    arguments += ", qk_norm=True" * encoder.qk_norm + ", pre_norm=True" * encoder.pre_norm
    if encoder.norm_epsilon != EPSILON:
        arguments += f", norm_layer=functools.partial(torch.nn.LayerNorm, eps={encoder.norm_epsilon})"
    return arguments


def pytorch_code(name: str, encoder: nn.Module, size: int, channels: int) -> str:
    """Return the code that makes a PyTorch model for these weights, or that timm has no model of this size.

    The model takes [B, channels, size, size] and loads the weights with `strict=True`; its output in `eval` mode is
    "pooled".
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
    return f"m = {code}; m.load_state_dict(safetensors.torch.load_file(FILE)); m.eval()"
