"""`jaxssl export WORKDIR --to=FILE.safetensors | FILE.stablehlo`: an encoder for PyTorch, or for any runtime.

`.safetensors` holds the weights in torchvision's or timm's naming. `.stablehlo` holds the computation with its weights:
`jax.export.deserialize(file.read_bytes()).call(images)` gives the features, on the CPU, CUDA or TPU, without jaxssl.
"""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import safetensors.numpy
from flax import linen as nn
from jax import export

from jaxssl import files
from jaxssl.errors import UserError
from jaxssl.inference import trained
from jaxssl.models.efficientnet import EfficientNetLite
from jaxssl.models.resnet import ResNet
from jaxssl.models.vit import ViT
from jaxssl.weights import weights

Tree = Any

STAGES = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}  # As published.


def run(workdir: str | Path, to: str | Path, evaluation: str = "") -> str:
    """Writes an encoder of the run in `workdir` to the file `to`.

    Args:
      workdir: of a run that ended.
      to: a `.safetensors` or `.stablehlo` file, which is replaced.
      evaluation: "" for the pretrained encoder, or the name of a fine-tuning in results.json.

    Returns:
      What was written and how it is loaded, in a few lines.

    Raises:
      UserError: as `trained.load`; another ending; an encoder without such a layout; a file that cannot be written.
    """
    workdir, to = Path(workdir).expanduser(), Path(to).expanduser()
    if to.suffix not in (".safetensors", ".stablehlo"):
        raise UserError(f"--to={to} should end in .safetensors (weights) or .stablehlo (the computation)")
    found = trained.load(workdir, evaluation)
    config = files.read_json(workdir / "config.json", "give the workdir of a run")
    name, size = config["config"]["model"]["name"], config["config"]["data"]["image_size"]
    pixels = json.dumps(config.get("pixels"))
    if to.suffix == ".safetensors":
        recipe = in_pytorch(name, found.encoder, size, found.channels)
        notes = {"format": "pt", "encoder": name, "image_size": str(size), "pixels": pixels, "pytorch": recipe}
        notes |= weights.origin(config["config"]["data"], trained.read_splits(workdir))
        content = safetensors.numpy.save(weights.to_torch(found.encoder, found.variables, size), notes)
    else:
        recipe = f"jax.export.deserialize(pathlib.Path({to.name!r}).read_bytes()).call(images)"
        content = stablehlo(found.encoder, found.variables, size, found.channels)
    with files.output_errors(to):
        files.write_bytes(to, content)
    return (
        f"{to}: {name}, {found.channels} channel{'s' * (found.channels > 1)}, {size} px\n"
        f"  {recipe}\n"
        f"  images: (x - low) / (high - low), then (x - mean) / std by channel, with {pixels}"
    )


def stablehlo(encoder: nn.Module, variables: Tree, size: int, channels: int) -> bytes:
    """The function from images [B, size, size, channels] float32, for any B, to features [B, D] float32, serialized.

    Images pass one by one: the encoders choose their forms by static shapes, and B is none.
    """

    def encode(image: jax.Array) -> jax.Array:
        return encoder.apply(variables, image[None], train=False)["pooled"][0]

    (batch,) = export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, size, size, channels), jnp.float32)
    mapped = jax.jit(lambda images: jax.lax.map(encode, images))
    return export.export(mapped, platforms=("cpu", "cuda", "tpu"))(images).serialize()


def in_pytorch(name: str, encoder: nn.Module, size: int, channels: int) -> str:
    """How PyTorch makes a model of [B, channels, size, size] that takes the weights with `strict=True`, or
    that timm has none of these sizes. Its output in `eval` mode is "pooled".
    """
    small = encoder.stem == "small"
    match encoder:
        case ResNet(width=64) if encoder.stages == STAGES[name]:
            made = f"timm.create_model('{name}', num_classes=0, in_chans={channels})"
            if small:
                made += f"; m.conv1 = torch.nn.Conv2d({channels}, 64, 3, padding=1, bias=False)"
                made += "; m.maxpool = torch.nn.Identity()"
        case EfficientNetLite(width=1.0, depth=1.0):
            made = f"timm.create_model('tf_efficientnet_lite0', num_classes=0, in_chans={channels})"
            if small:
                made += "; m.conv_stem.stride = (1, 1)"
        case ViT():
            side = -(-size // encoder.patch) * encoder.patch
            pool = "'avg', fc_norm=False" if encoder.pool == "mean" else "'token'"
            made = (
                f"timm.models.VisionTransformer(img_size={side}, patch_size={encoder.patch}, in_chans={channels}, "
                f"num_classes=0, embed_dim={encoder.width}, depth={encoder.depth}, num_heads={encoder.heads}, "
                f"reg_tokens={encoder.registers}, global_pool={pool})"
            )
        case _:
            return "in the naming of torchvision and timm, which have no model of this size"
    return f"m = {made}; m.load_state_dict(safetensors.torch.load_file(FILE)); m.eval()"
