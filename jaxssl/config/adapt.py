"""Adapts a config to an objective or encoder that the command line puts in the place of its own."""

import logging
from collections.abc import Callable, Collection
from typing import Any

from ml_collections import ConfigDict

from jaxssl import models

log = logging.getLogger(__name__)
# Fields that the config sets for its own objective, with the values that another one needs.
FIELDS_OF = {
    "mae": {"pretrain.augment.jitter_probability": 0.0, "pretrain.optimizer.weight_decay": 0.05},
    "rotation": {
        "pretrain.augment.rotate90": False,
        "pretrain.augment.flip_vertical": False,
        "pretrain.augment.rotation": 0.0,
    },
}
# For objectives that not every encoder fits: the encoder to take instead.
ENCODER_OF = {"mae": "vit_tiny", "inpaint": "resnet18"}


def adapt(c: ConfigDict, given: Collection[str], swap_encoder: Callable[[str], object]) -> None:
    """Change what a newly chosen objective or encoder cannot work with, in place, with one line that lists the changes.

    Args:
      c: the config, with the new names.
      given: paths that the command line sets; these are never changed.
      swap_encoder: sets `model.name` and the options that the new encoder takes.
    """
    changes: dict[str, Any] = {}
    objective = c.pretrain.objective
    if "pretrain.objective" in given:
        changes |= FIELDS_OF.get(objective, {})
        if "model.name" not in given and not fits(c.model.name, objective):
            swap_encoder(ENCODER_OF[objective])
            changes["model.name"] = c.model.name
            if is_vit(c.model.name):
                changes["model.options.patch"] = patch_size(c.data.image_size)
    if c.init.weights == "imagenet" and c.model.name != "efficientnet_lite0":
        changes["init.weights"] = ""
    changes = {path: value for path, value in changes.items() if path not in given}
    changed = [path for path, value in changes.items() if path == "model.name" or c[path] != value]
    for path in changed:
        section, _, name = path.rpartition(".")
        with c[section].ignore_type():
            c[section][name] = changes[path]
    if changed:
        new = "pretrain.objective" if "pretrain.objective" in given else "model.name"
        listed = ", ".join(f"{path}={changes[path]!r}" for path in changed)
        log.warning("%s=%s: it also sets %s", new, c[new], listed)


def fits(encoder: str, objective: str) -> bool:
    """Return whether an objective can train this encoder: MAE needs patches, and inpainting needs a feature map."""
    return {"mae": is_vit(encoder), "inpaint": not is_vit(encoder)}.get(objective, True)


def is_vit(encoder: str) -> bool:
    return models.available().get(encoder) == "vit"


def patch_size(image_size: int) -> int:
    """Return the side of the patches with which an image has some 64 to 196 of them."""
    return 4 if image_size < 64 else 8 if image_size < 160 else 16
