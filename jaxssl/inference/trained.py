"""Loads the networks of a finished run: its pretrained encoder, or a fine-tuned network with its head or decoder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn

from jaxssl import files, models
from jaxssl.config.stored import read_config
from jaxssl.errors import UserError, did_you_mean
from jaxssl.models import decoder as decoders
from jaxssl.models.precision import make_context
from jaxssl.models.shapes import count_channels, shapes_of
from jaxssl.results.schema import Results
from jaxssl.results.words import SEGMENTATION_PROTOCOLS, TRAINED_PROTOCOLS
from jaxssl.results.workdir import read_results
from jaxssl.training import checkpoint
from jaxssl.weights.merge import merge

Tree = Any


class Trained(NamedTuple):
    """A trained network, in NumPy arrays.

    Attributes:
      encoder: maps images [B, H, W, `channels`] to "pooled" [B, D].
      variables: its "params" and, if it has any, "batch_stats".
      head: parameters of a `heads.Classifier` on "pooled" with one output per class; None for an encoder alone.
      classes: classes of the training images, in the order of the head; empty if they had none.
      channels: of the images.
      supervised: whether labels were used.
      task: what the head predicts, see `jaxssl.data.source.Source`.
      decoder: maps feature maps to masks; None unless the network was trained on masks.
      decoder_variables: its "params" and, if it has any, "batch_stats".
      mask_classes: classes of masks, the background first.
    """

    encoder: nn.Module
    variables: Tree
    head: Tree | None
    classes: tuple[str, ...]
    channels: int
    supervised: bool
    task: str = "single"
    decoder: nn.Module | None = None
    decoder_variables: Tree | None = None
    mask_classes: tuple[str, ...] = ()


def load(workdir: str | Path, evaluation: str = "") -> Trained:
    """Load a network of a finished run.

    Args:
      workdir: of the run.
      evaluation: "" for its pretrained encoder; the name of a fine-tuning, a segmentation or the probe of the
        pretrained encoder in results.json, such as "finetune_ssl", for that network with its head or decoder.

    Raises:
      UserError: there is no run, it has not finished, it has no such network, or a checkpoint is damaged.
    """
    workdir = files.expand_user(workdir)
    if not workdir.is_dir():
        message = f"{workdir} is not a folder: give the workdir of a finished run"
        raise UserError(message, code="missing", field=str(workdir))
    config = read_config(workdir, "give the workdir of a run, which has one")
    results = read_results(workdir)
    try:
        encoder, size = encoder_of(config["config"]), config["config"]["data"]["image_size"]
        classes, pretrained = tuple(results["dataset"]["classes"]), results["pretrain"]
        found = {e["name"]: e for e in results["evaluations"] if e["protocol"] in TRAINED_PROTOCOLS}
        tuned = {name: e.get("phase", name) for name, e in found.items()}
    except UserError as error:
        raise UserError(f"{workdir / 'config.json'}: {error}", code=error.code, field=error.field) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise unreadable(workdir, error) from error
    probes = list_probes(workdir, results)
    if evaluation in probes:
        return _add_probe(load(workdir), workdir, evaluation)
    if evaluation not in (*[""] * bool(pretrained), *tuned):
        networks = ["its pretrained encoder ('')"] * bool(pretrained) + [repr(name) for name in (*tuned, *probes)]
        raise UserError(
            f"{workdir} has no network {evaluation!r}: {did_you_mean(evaluation, (*tuned, *probes))}"
            f"it has {', '.join(networks) or 'none: it had no labels and no pretraining'}",
            code="unknown-name",
            field="evaluation",
        )
    folder = checkpoint_folder(workdir, tuned.get(evaluation, ""))
    stored = _read_checkpoint(folder)
    if evaluation:
        # Orbax leaves out what is empty.
        variables = {"params": stored["params"]["encoder"], **(stored["model_state"].get("encoder") or {})}
        supervised = True
    else:
        variables, supervised = stored, bool(pretrained and pretrained.get("supervised"))
    channels = count_channels(encoder, size, variables["params"])
    variables = merge(shapes_of(encoder, size, channels), variables, str(folder))
    task = results["dataset"].get("task", "single")
    trained = Trained(encoder, variables, None, classes, channels, supervised, task)
    return _add_output(trained, found[evaluation]["protocol"], stored, results) if evaluation else trained


def list_probes(workdir: Path, results: Results) -> list[str]:
    """Return the linear probes whose weights are kept: those on the pretrained encoder."""
    names = (e["name"] for e in results["evaluations"] if e["protocol"] == "probe")
    return [name for name in names if (workdir / "checkpoints" / name).is_dir()]


def _add_probe(encoder: Trained, workdir: Path, evaluation: str) -> Trained:
    """Return the pretrained encoder with the linear probe on its features as head."""
    return encoder._replace(head=_read_checkpoint(workdir / "checkpoints" / evaluation), supervised=True)


def _read_checkpoint(folder: Path) -> Tree:
    """Return the newest intact checkpoint in a folder. UserError if there is none."""
    stored = checkpoint.load_numpy(folder)
    if stored is None:
        message = f"{folder} is missing or damaged: copy it again, or repeat the run in a new workdir"
        raise UserError(message, code="damaged", field=str(folder))
    return stored


def _add_output(trained: Trained, protocol: str, stored: Tree, results: Results) -> Trained:
    """Return a fine-tuned encoder with its head, or with its decoder."""
    params, state = stored["params"], stored["model_state"]
    if protocol not in SEGMENTATION_PROTOCOLS:
        return trained._replace(head=_unstandardize(params["head"], state.get("scale")))
    classes = tuple(results["dataset"].get("mask_classes", ()))
    return trained._replace(
        decoder=decoders.make(protocol, len(classes), trained.encoder.dtype),  # pyright: ignore
        decoder_variables={"params": params["decoder"], **(state.get("decoder") or {})},
        mask_classes=classes,
    )


def _unstandardize(head: Tree, scale: np.ndarray | None) -> Tree:
    """Return a head that predicts values where it predicted standardized ones with this mean and deviation."""
    if scale is None:
        return head
    linear = head["linear"]
    return {**head, "linear": {"kernel": linear["kernel"] * scale[1], "bias": linear["bias"] * scale[1] + scale[0]}}


def unreadable(workdir: Path, error: Exception) -> UserError:
    """Return the error for a workdir whose files do not hold what this version of jaxssl needs."""
    message = f"{workdir} is not of a jaxssl run that this version can read: {error!r}"
    return UserError(message, code="damaged", field=str(workdir))


def encoder_of(config: Mapping[str, Any]) -> nn.Module:
    """Return the encoder of a config, without variables."""
    m = config["model"]
    return models.make(m["name"], {"stem": m["stem"], **make_context(m["dtype"])}, m["options"])


def checkpoint_folder(workdir: Path, phase: str) -> Path:
    """Return the checkpoint of the network that a fine-tuning trained; of the pretrained encoder for "".

    It is the last epoch where validation could not rank the epochs.
    """
    checkpoints = workdir / "checkpoints"
    if not phase:
        return checkpoints / "encoder"
    best = checkpoints / f"{phase}_best"
    return best if best.exists() else checkpoints / phase
