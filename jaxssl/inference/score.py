"""Scores a trained network on labelled images from elsewhere: what `jaxssl score` does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxssl import data, files
from jaxssl.data.copies import group_copies, hash_image
from jaxssl.data.source import UNLABELLED, Source
from jaxssl.errors import UserError, did_you_mean
from jaxssl.evaluation.evaluate import evaluate, paired_difference
from jaxssl.evaluation.tasks import TASKS
from jaxssl.inference import network as networks
from jaxssl.inference.conversion import convert
from jaxssl.inference.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from jaxssl.inference.predict import count_seen
from jaxssl.results import schema
from jaxssl.results.workdir import read_results


def score_images(
    workdir: str | Path,
    images: str | Path,
    evaluation: str = "",
    options: Mapping[str, Any] | None = None,
    severities: Sequence[int] = (),
) -> dict[str, Any]:
    """Score a network of a run on labelled images that the run has not seen.

    Args:
      workdir: of a finished run.
      images: a folder with a sub-folder for each class, a table, or an .npz archive, as `data.dir` of a config.
      evaluation: as of `network.load`.
      options: as `data.options` of a config, such as {"group_pattern": r"(patient\\d+)"}.
      severities: from 1 to 5, at which the images are corrupted and scored again.

    Returns:
      The content of score.json: the scores on these images, with 95 % intervals over groups, and those on the test
      split of the run.

    Raises:
      UserError: as `network.load` and `data.load`; no image has a label, or one has a class that the run does not know.
    """
    network, folder = networks.load(workdir, evaluation), files.expand_user(images)
    source = load_images(network, folder, options or {})
    labels = match_labels(source, network.classes)
    rows, task = np.flatnonzero(source.known), network.encoder.task
    held = source.images[rows]
    probabilities = network.predict(held).astype(np.float64)
    results, names = read_results(network.workdir), [(name, folder / name) for name in source.ids[rows].tolist()]
    own = next(e for e in results["evaluations"] if e["name"] == network.evaluation)
    content = evaluate(probabilities, labels[rows], source.groups[rows], task=task) | {
        "task": task,
        "workdir": str(network.workdir),
        "data": str(folder),
        "fingerprint": source.fingerprint,
        "evaluation": network.evaluation,
        "classes": list(network.classes),
        "groups": len(np.unique(source.groups[rows])),
        "groups_known": source.groups_known,
        "seen": count_seen(network.workdir, names, [hash_as_held(image, network) for image in held]),
        "test_split": {"images": own["images"], "metrics": own["metrics"]},
        "corruptions": score_corrupted(network, held, probabilities, labels[rows], source.groups[rows], severities),
    }
    return schema.with_version("score.json", content)


def score_corrupted(
    network: networks.Network,
    images: np.ndarray,
    clean: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    severities: Sequence[int],
) -> list[dict[str, Any]]:
    """Score corrupted images, and compare with the predictions `clean` of the same images: "corruptions" of score.json.

    Raises:
      UserError: there is no such severity.
    """
    for severity in severities:
        if severity not in SEVERITIES:
            message = f"--corrupt={severity}: severities are from {SEVERITIES[0]} to {SEVERITIES[-1]}"
            raise UserError(message, code="out-of-range", field="--corrupt")
    metrics, found = TASKS[network.encoder.task].compared, []
    for name in CORRUPTIONS if severities else ():
        for severity in severities:
            p = network.predict(corrupt(images, name, severity, network.pixels)).astype(np.float64)
            scores = evaluate(p, labels, groups, task=network.encoder.task)["metrics"]
            differences = {metric: paired_difference(p, clean, labels, groups, metric) for metric in metrics}
            found.append(
                {
                    "corruption": name,
                    "severity": severity,
                    "metrics": {metric: scores[metric] for metric in metrics},
                    "differences": differences,
                }
            )
    return found


def hash_as_held(image: np.ndarray, network: networks.Network) -> str:
    """Return the hash of an image as the run would hold it."""
    converted = convert(image, network.channels, network.dtype)
    return hash_image(np.broadcast_to(converted, (*converted.shape[:2], network.channels))).hex()


def load_images(network: networks.Network, folder: Path, options: Mapping[str, Any]) -> Source:
    """Load images as those of the run were loaded; equal images are one group."""
    source = data.load(
        "folder",
        seed=0,
        dir=str(folder),
        manual_dir="",
        cache_dir="",
        size=network.size,
        on_bad_file="stop",
        nan=network.nan,
        fit=network.fit,
        options=options,
        task=network.encoder.task,
    )
    return group_copies(source)


def match_labels(source: Source, classes: tuple[str, ...]) -> np.ndarray:
    """Return the labels of images by the classes of a run, which may have more classes.

    Raises:
      UserError: no image has a label, or one has a class that is not among `classes`.
    """
    if not source.classes:
        raise UserError(
            "the images have no labels to score by: give a folder with a sub-folder for each class, or a table",
            code="missing",
            field="IMAGES",
        )
    for name in source.classes:
        if name not in classes:
            raise UserError(
                f"class '{name}' is not one of the run: {did_you_mean(name, classes)}it has {', '.join(classes)}",
                code="unknown-name",
                field="IMAGES",
            )
    index = np.array([classes.index(name) for name in source.classes])
    if source.task == "value":
        return source.labels
    if source.task == "multi":
        labels = np.full((len(source.labels), len(classes)), UNLABELLED)
        labels[:, index] = source.labels
        return labels
    return np.where(source.labels == UNLABELLED, UNLABELLED, index[source.labels])
