"""Checks that an encoder has what the config adapts of it, before an image is read."""

from flax import linen as nn
from ml_collections import ConfigDict

from jaxssl.config import schedule
from jaxssl.errors import UserError
from jaxssl.models.depth import layers_of
from jaxssl.models.shapes import shapes_of
from jaxssl.training import lora


def check(config: ConfigDict, encoder: nn.Module) -> None:
    """Raise UserError if the encoder has no layers for layer decay, LoRA or drop path, or no class token."""
    for phase in schedule.trained_phases(config):
        check_phase(config, phase, encoder)
    if config.transfer.drop_path and not hasattr(encoder, "drop_path"):
        raise refusal(config, "transfer.drop_path", "no stochastic depth", 0.0)
    wants_class_token = any("cls" in features for features in config.transfer.probe_features)
    if wants_class_token and not getattr(encoder, "class_token", False):
        raise refusal(config, "transfer.probe_features", "no class token", ("pooled",))


def check_phase(config: ConfigDict, phase: schedule.Phase, encoder: nn.Module) -> None:
    """Raise UserError if one phase cannot adapt the encoder as it is asked to."""
    c = config[phase]
    if c.optimizer.layer_decay == 1 and not c.lora.rank:
        return
    params = shapes_of(encoder, max(config.data.image_size, encoder.smallest_image), 3)["params"]  # pyright: ignore
    if c.lora.rank and not lora.find_kernels(params, tuple(c.lora.on)):
        raise refusal(config, f"{phase}.lora.rank", f"none of the dense layers {tuple(c.lora.on)}", 0)
    if c.lora.rank and phase == "pretrain" and not config.init.weights:
        raise UserError(
            f"pretrain.lora.rank={c.lora.rank} adapts weights, and init.weights='' names none: set it, or "
            "pretrain.lora.rank=0",
            code="conflict",
            field="pretrain.lora.rank",
        )
    try:
        layers_of({"encoder": params})
    except ValueError:
        if c.optimizer.layer_decay < 1:
            path = f"{phase}.optimizer.layer_decay"
            raise refusal(config, path, "no blocks with the names of jaxssl.models.depth", 1.0) from None


def refusal(config: ConfigDict, path: str, lacks: str, off: object) -> UserError:
    message = f"{path}={config[path]}: model.name={config.model.name!r} has {lacks}: set {path}={off}"
    return UserError(message, code="mismatch", field=path)
