"""Transfer of an encoder to masks: a linear classifier of pixels on frozen maps, fine-tuning with a decoder, scores."""

import csv
import functools
import io
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxssl import files
from jaxssl.augment import views
from jaxssl.data.pipeline import masks_of
from jaxssl.evaluation import detection
from jaxssl.evaluation import segmentation as scoring
from jaxssl.models import decoder as decoders
from jaxssl.objectives import Objective
from jaxssl.objectives import segmentation as objectives
from jaxssl.results.cells import escape_row
from jaxssl.results.schema import Evaluation
from jaxssl.results.segmentations import COLUMNS
from jaxssl.results.words import is_segmentation
from jaxssl.run.encoders import map_batches
from jaxssl.run.finetuning import Task, train
from jaxssl.run.scoring import describe_evaluation, write_files
from jaxssl.run.setup import Setup, mask_rows
from jaxssl.run.transfer import Arm

Tree = Any
Network = dict[str, Tree]
LEVELS = scoring.LEVELS - 1
CHUNK = 64  # Images whose probabilities are counted at a time.


class Masks(NamedTuple):
    """What one protocol made of one encoder.

    Attributes:
      predicted: [N, S, S] uint8, the masks of the test images in the size in which images are held.
      levels: [N, C, 2, 256], see `evaluation.segmentation.count_levels`.
      lesions: the connected components of each mask; their scores are the highest probabilities, times 255.
      seconds: of training, of choosing on validation, and of predicting.
      images: number of images trained on, each as often as it was seen.
      chosen: fields of results.json that tell what was chosen on validation.
    """

    predicted: np.ndarray
    levels: np.ndarray
    lesions: list[detection.Lesions]
    seconds: float
    images: int
    chosen: dict[str, Any]


def make_decoder(setup: Setup, protocol: str) -> nn.Module:
    """Return the decoder of a protocol."""
    return decoders.make(protocol, len(setup.source.mask_classes), setup.encoder.dtype)


def segment(setup: Setup, protocol: str, arm: Arm) -> Masks:
    """Train a decoder and, in the protocol "segment", the encoder; predict the test images.

    The epoch, and the learning rate, is that with the highest mean Dice of the validation images.
    """
    c, decoder, rows = setup.config.transfer, make_decoder(setup, protocol), mask_rows(setup)
    freeze_epochs = c.epochs if protocol == "segment_linear" else c.freeze_epochs
    count = make_count(setup, decoder)

    def objective_at(epoch: int) -> Objective:
        options = {"frozen": epoch < freeze_epochs, "batch_norm": c.batch_norm, "drop_path": c.drop_path}
        return objectives.make(setup.encoder, decoder, **options)

    def measure(network: Network) -> dict[str, float]:
        counted = map_batches(setup, rows["validation"], functools.partial(count, network), masks=True)
        common, total, nats = counted[:, 0, 1:], counted[:, 1, 1:], counted[:, 2, 0]
        dice = np.where(total > 0, 2 * common / np.maximum(total, 1), 1)
        return {"validation": float(dice.mean()), "validation_loss": float(nats.mean())}

    task = Task(rows["train"], objective_at, measure, freeze_epochs, masks=True)
    trained = train(setup, f"{protocol}_{arm.init}", task, arm.variables)
    trained.chosen["selected_by"] = "dice"  # Always defined.
    start = time.perf_counter()
    predict = functools.partial(make_predict(setup, decoder), trained.network)
    outputs = map_batches(setup, rows["test"], predict)
    predicted, probabilities = outputs[..., 0], outputs[..., 1:]
    levels = count_levels(setup, probabilities, rows["test"])
    classes = len(setup.source.mask_classes)
    lesions = [detection.find_lesions(mask, classes, p) for mask, p in zip(predicted, probabilities, strict=True)]
    seconds = time.perf_counter() - start + trained.seconds
    return Masks(predicted, levels, lesions, seconds, trained.images, trained.chosen)


def make_predict(setup: Setup, decoder: nn.Module) -> Any:
    """Return (network, batch) -> [B, S, S, 1 + C] uint8: the class, and 255 times the probability of each foreground
    class."""

    @jax.jit
    def predict(network: Network, batch: dict) -> jax.Array:
        p = probabilities_of(setup, decoder, network, batch)
        levels = jnp.rint(p[..., 1:] * LEVELS)
        return jnp.concatenate([p.argmax(-1)[..., None], levels.astype(int)], -1).astype(jnp.uint8)

    return predict


def make_count(setup: Setup, decoder: nn.Module) -> Any:
    """Return (network, batch) -> [B, 3, K] float32 by class: common pixels, predicted plus true ones, and mean nats."""
    classes = len(setup.source.mask_classes)

    @jax.jit
    def count(network: Network, batch: dict) -> jax.Array:
        p, mask = probabilities_of(setup, decoder, network, batch), batch["mask"]
        known = mask != objectives.UNKNOWN
        truth = jax.nn.one_hot(mask, classes)
        predicted = jax.nn.one_hot(p.argmax(-1), classes) * known[..., None]
        nats = -jnp.log(jnp.maximum((p * truth).sum(-1), 1e-12)) * known
        mean = nats.sum((1, 2)) / jnp.maximum(known.sum((1, 2)), 1)
        common, total = (predicted * truth).sum((1, 2)), (predicted + truth).sum((1, 2))
        return jnp.stack([common, total, jnp.broadcast_to(mean[:, None], common.shape)], 1)

    return count


def probabilities_of(setup: Setup, decoder: nn.Module, network: Network, batch: dict) -> jax.Array:
    """Return the probabilities [B, S, S, K] of a network, in the size in which images are held."""
    image = views.eval_transform(batch["image"], setup.pixels, setup.config.data.image_size)
    size = batch["image"].shape[1]
    return objectives.predict(setup.encoder, decoder, network["params"], network["model_state"], image, size)


def count_levels(setup: Setup, probabilities: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Count the pixels of each probability, given as uint8 [N, S, S, C]; see `evaluation.segmentation.count_levels`."""
    masks = masks_of(setup.source)
    parts = [slice(start, start + CHUNK) for start in range(0, len(rows), CHUNK)]
    return np.concatenate([scoring.count_levels(probabilities[at] / LEVELS, masks[rows[at]]) for at in parts])


# Scores.


def write_evaluation(setup: Setup, protocol: str, init: str, result: Masks) -> None:
    """Score the masks of one protocol and encoder; write evaluations/<name>.csv, .npz and .json."""
    name, rows, classes = f"{protocol}_{init}", mask_rows(setup)["test"], setup.source.mask_classes[1:]
    truth, groups = masks_of(setup.source)[rows], setup.source.groups[rows]
    of = scoring.scores(result.predicted, truth, len(classes) + 1)
    lesions = [detection.find_lesions(mask, len(classes) + 1) for mask in truth]
    evaluation = {
        **describe_evaluation(setup, protocol, init, result.chosen, result.seconds, result.images),
        **dict.fromkeys(("majority_accuracy", "confusion", "temperature", "overfitting")),
        **{"without_temperature": "", "reliability": [], "operating_point": []},
        **scoring.evaluate(of, groups, result.predicted.shape[1:], levels=result.levels),
        "detection": detection.evaluate(result.lesions, lesions, len(classes) + 1, groups),
        "mask_side": result.predicted.shape[1],
        "constant_predictor": scoring.is_constant(result.predicted),
    }
    stream = io.BytesIO()
    np.savez_compressed(stream, ids=setup.source.ids[rows], masks=result.predicted)
    write_files(setup.workdir, evaluation, {".csv": format_rows(setup, name, of).encode(), ".npz": stream.getvalue()})


def format_rows(setup: Setup, name: str, of: dict[str, np.ndarray]) -> str:
    """Return the rows of segmentations.csv of one evaluation: one for each image and class."""
    source, lines = setup.source, io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    for i, row in enumerate(mask_rows(setup)["test"]):
        for c, kind in enumerate(source.mask_classes[1:]):
            texts = escape_row(map(str, (name, source.ids[row], source.groups[row], kind)))
            writer.writerow([*texts, *(_format(of[column][i, c]) for column in COLUMNS)])
    return lines.getvalue()


def _format(value: np.number) -> str:
    return "" if np.isnan(value) else repr(value.item())


def write_segmentations(setup: Setup, evaluations: list[Evaluation]) -> None:
    """Write segmentations.csv, the rows of all evaluations of masks; nothing where there is none."""
    names = [e["name"] for e in evaluations if is_segmentation(e)]
    if not names:
        return
    lines = [",".join(("evaluation", "image_id", "group", "class", *COLUMNS)) + "\n"]
    lines += [(setup.workdir / "evaluations" / f"{name}.csv").read_text(encoding="utf-8") for name in names]
    files.write_text(setup.workdir / "segmentations.csv", "".join(lines))
