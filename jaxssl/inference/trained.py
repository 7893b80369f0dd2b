"""Reads back what a finished run left: its pretrained encoder, or a network that it fine-tuned, with the head."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxssl import files, models
from jaxssl.errors import UserError, did_you_mean
from jaxssl.training import checkpoint

Tree = Any


class Trained(NamedTuple):
    """A network as it was at its best, in NumPy arrays.

    Attributes:
      encoder: makes "pooled" [B, D] of images [B, H, W, `channels`].
      variables: its "params" and, where it has any, "batch_stats".
      head: parameters of a `heads.Linear` on "pooled", as wide as there are `classes`; None for an encoder alone.
      classes: of the images it was trained on, in the order of the head; empty where they had none.
      channels: of the images it takes.
      supervised: whether labels went into it.
    """

    encoder: nn.Module
    variables: Tree
    head: Tree | None
    classes: tuple[str, ...]
    channels: int
    supervised: bool


def load(workdir: str | Path, evaluation: str = "") -> Trained:
    """What the run in `workdir` trained.

    Args:
      workdir: of a run that ended.
      evaluation: "" for its pretrained encoder; for the network with a head of one of its fine-tunings, the name of
        that in results.json, such as "finetune_ssl".

    Raises:
      UserError: no run is there, it has not ended, it trained no such network, or a checkpoint is damaged.
    """
    workdir = Path(workdir).expanduser()
    if not workdir.is_dir():
        raise UserError(f"{workdir} is not a folder; give the workdir of a run that ended")
    config = files.read_json(workdir / "config.json", "give the workdir of a run, which holds one")
    results = files.read_json(workdir / "results.json", "the run there has not ended; its command goes on with it")
    try:
        encoder, size = encoder_of(config["config"]), config["config"]["data"]["image_size"]
        classes, pretrained = tuple(results["dataset"]["classes"]), results["pretrain"]
        finetuned = {
            e["name"]: e.get("phase", e["name"]) for e in results["evaluations"] if e["protocol"] == "finetune"
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{workdir} is not of a jaxssl run that this version can read: {error!r}") from error
    if evaluation not in (*[""] * bool(pretrained), *finetuned):
        encoders = ["its pretrained encoder ('')"] * bool(pretrained) + [repr(name) for name in finetuned]
        raise UserError(
            f"{workdir} has no network {evaluation!r}: {did_you_mean(evaluation, finetuned)}"
            f"there is {', '.join(encoders) or 'none, for want of labels and of pretraining'}"
        )
    folder = folder_of(workdir, finetuned.get(evaluation, ""))
    found = checkpoint.read(folder)
    if found is None:
        raise UserError(f"{folder} is missing or damaged: copy it again, or run the command of {workdir} in a new one")
    if evaluation:
        variables = {"params": found["params"]["encoder"], **found["model_state"]["encoder"]}
        head, supervised = found["params"]["head"], True
    else:
        variables, head, supervised = found, None, pretrained.get("supervised", False)
    channels = count_channels(encoder, size, variables["params"])
    variables = checkpoint.merge(shapes_of(encoder, size, channels), variables, str(folder))
    return Trained(encoder, variables, head, classes, channels, supervised)


def read_splits(workdir: Path) -> Any:
    """splits.json of a run that ended."""
    return files.read_json(workdir / "splits.json", "copy it beside the rest of the run")


def encoder_of(config: dict[str, Any]) -> nn.Module:
    m = config["model"]
    return models.make(m["name"], stem=m["stem"], dtype=jnp.dtype(m["dtype"]), **m["options"])


def folder_of(workdir: Path, phase: str) -> Path:
    """Of the checkpoint of the network that this phase trained; "" for the pretrained encoder.

    Where validation could not tell one epoch from another, the last one stands.
    """
    checkpoints = workdir / "checkpoints"
    if not phase:
        return checkpoints / "encoder"
    best = checkpoints / f"{phase}_best"
    return best if best.exists() else checkpoints / phase


def shapes_of(encoder: nn.Module, size: int, channels: int) -> Tree:
    """Shapes of the variables of an encoder of such images."""
    image = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    return jax.eval_shape(lambda key, image: encoder.init(key, image, train=False), jax.random.key(0), image)


def count_channels(encoder: nn.Module, size: int, params: Tree) -> int:
    """Channels of the images that these parameters take, which grow by as many with each channel."""
    one, two = (count(shapes_of(encoder, size, channels)["params"]) for channels in (1, 2))
    return max(1, 1 + (count(params) - one) // (two - one))


def count(params: Tree) -> int:
    return sum(p.size for p in jax.tree.leaves(params))
