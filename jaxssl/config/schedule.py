"""From epochs to steps: steps per epoch, and the arguments of the optimizer."""

from typing import Any

from ml_collections import ConfigDict

from jaxssl.config.field import Phase
from jaxssl.errors import UserError
from jaxssl.results.words import TRAINED_PROTOCOLS


def trained_phases(c: ConfigDict) -> list[Phase]:
    """Return those of "pretrain" and "transfer" that train a network."""
    phases: list[Phase] = []
    if c.pretrain.epochs:
        phases.append("pretrain")
    if not {*TRAINED_PROTOCOLS}.isdisjoint(c.transfer.protocols):
        phases.append("transfer")
    return phases


def steps_per_epoch(images: int, c: ConfigDict, phase: str) -> int:
    """Return the number of whole batches in an epoch.

    Args:
      images: number of training images.
      c: config of the phase, `config.pretrain` or `config.transfer`.
      phase: its name, for the error.

    Raises:
      UserError: there are fewer images than one batch takes, or all epochs have more steps than can be counted.
    """
    used = min(images, c.images_per_epoch or images)
    steps = max(used // c.batch_size, c.min_steps_per_epoch)
    if c.epochs * steps >= 2**31:  # JAX counts them in 32 bits.
        raise UserError(
            f"{phase}.epochs={c.epochs} of {steps} steps are above the limit of {2**31:,} steps: reduce it",
            code="out-of-range",
            field=f"{phase}.epochs",
        )
    if not steps:
        raise UserError(
            f"{phase}.batch_size={c.batch_size} is larger than the {used} images to train on: reduce it",
            code="too-few",
            field=f"{phase}.batch_size",
        )
    return steps


def optimizer_options(c: ConfigDict, epochs: int, steps_per_epoch: int, batch_size: int) -> dict[str, Any]:
    """Return the arguments of `optimizers.make`, in steps, for `config.pretrain.optimizer` or that of `transfer`."""
    scale = batch_size / 256 if c.scale_learning_rate else 1.0
    return {
        "name": c.name,
        "learning_rate": c.learning_rate * scale,
        "steps": epochs * steps_per_epoch,
        "warmup_steps": c.warmup_epochs * steps_per_epoch,
        "decay": c.decay,
        "weight_decay": c.weight_decay,
        "momentum": c.momentum,
        "beta1": c.beta1,
        "beta2": c.beta2,
        "clip_norm": c.clip_norm,
        "layer_decay": c.layer_decay,
    }
