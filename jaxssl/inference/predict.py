"""Writes the class probabilities of images to a file: what `jaxssl predict` does."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from jaxssl import files
from jaxssl.data.label_text import format_label
from jaxssl.evaluation import calibration
from jaxssl.evaluation.tasks import TASKS
from jaxssl.inference import network as networks
from jaxssl.inference.inputs import apply_to_images, check_suffix, find_images, format_count
from jaxssl.results.cells import escape_row
from jaxssl.results.words import METRIC_NAMES, describe_test_images, format_estimate
from jaxssl.results.workdir import read_results, read_splits


def write_predictions(workdir: str | Path, images: Sequence[str], to: str | Path, evaluation: str = "") -> str:
    """Write the probabilities of images to the file `to`.

    Its columns are image_id, predicted and p_<class>... (none for values), as in the run's predictions.csv, and
    calibrated_<class>... if the run has a temperature.

    Args:
      workdir: of a finished run.
      images: folders, files or archives, as of `inputs.find_images`.
      to: a .csv file, overwritten.
      evaluation: as of `network.load`.

    Returns:
      A line that describes the file, one with the test score of the network, and one for each reason to doubt it.

    Raises:
      UserError: as `network.load` and `find_images`; another suffix; a run without a trained head; no image that can
        be used; a file that cannot be written.
    """
    to = files.expand_user(to)
    check_suffix(to, (".csv",))
    network = networks.load(workdir, evaluation)
    program, inputs = network.probabilities, find_images(images)
    done, hashes = [], []
    with (
        files.output_errors(to),
        files.atomic_path(to) as path,
        open(path, "w", encoding="utf-8", newline="") as stream,
    ):
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(_header(network))
        for i, p, pixels in apply_to_images(network, program, inputs):
            guess = TASKS[network.encoder.task].predicted(p[None])[0]
            texts = escape_row((inputs.ids[i], format_label(guess, network.classes, network.encoder.task)))
            table.writerow([*texts, *map(repr, _numbers(network, p))])
            done.append((inputs.ids[i], inputs.sources[i]))
            hashes.append(pixels)
    line = f"{to}: {format_count(len(done), len(inputs.ids))}, by {network.evaluation}"
    seen = count_seen(network.workdir, done, hashes)
    warning = f"; {seen} of them are training or validation images of the run: do not score it on them"
    return "\n".join([line + warning * bool(seen), *describe_quality(network)])


def describe_quality(network: networks.Network) -> list[str]:
    """Return the score of a network on the test split of its run, and what makes it doubtful."""
    results = read_results(network.workdir)
    e = next(e for e in results["evaluations"] if e["name"] == network.evaluation)
    metric = next(iter(e["metrics"]))
    lines = [
        f"{network.evaluation}: {METRIC_NAMES.get(metric, metric)} {format_estimate(e['metrics'][metric])} on "
        f"{describe_test_images(results)} of the run"
    ]
    copies, pretraining = results["dataset"]["test_images_copied_in_train"], results["pretrain"]
    doubts = {
        "it gives every test image the same class": e["constant_predictor"],
        f"{copies} of its test images are among the training images, too": copies > 0,
        "groups are unknown: a patient may be in training and test images": not results["dataset"]["groups_known"],
        "the pretrained encoder collapsed": bool(
            pretraining and pretraining["collapse"]["verdict"] == "collapsed" and e["init"] != "random"
        ),
    }
    return lines + [f"caution: {text}" for text, holds in doubts.items() if holds]


def count_seen(
    workdir: Path, images: Sequence[tuple[str, Path | np.ndarray]], hashes: Sequence[str] | None = None
) -> int:
    """Return how many images are training or validation images of the run, by their pixels or else by their names.

    Args:
      workdir: of the run.
      images: (id, source) as in `inputs.Inputs`.
      hashes: of their pixels, see `network.Output`.
    """
    splits = read_splits(workdir, "copy it to the rest of the run")
    if hashes is not None and "pixels" in splits:
        return sum(pixels in {*splits["pixels"]} for pixels in hashes)
    known = {*splits["train"], *splits["validation"]}
    return sum(not known.isdisjoint(_possible_ids(*image)) for image in images)


def _possible_ids(name: str, source: Path | np.ndarray) -> Iterator[str]:
    """Yield the ids that a run may give to an image: its name in a public dataset, or the end of its path."""
    yield name
    if isinstance(source, Path):
        yield source.stem
        parts = source.resolve().parts
        yield from ("/".join(parts[i:]) for i in range(1, len(parts) - 1))


def _header(network: networks.Network) -> list[str]:
    if network.encoder.task == "value":
        return ["image_id", "predicted"]
    kinds = ("p", "calibrated") if network.temperature else ("p",)
    return ["image_id", "predicted", *(f"{kind}_{name}" for kind in kinds for name in network.classes)]


def _numbers(network: networks.Network, p: np.ndarray) -> list[float]:
    """Return the probabilities [classes] of one image, followed by the calibrated ones if there are any."""
    if network.encoder.task == "value":
        return []
    numbers = [float(value) for value in p]
    if network.temperature:
        calibrated = calibration.apply_temperature(p[None], network.temperature)[0].astype(np.float32)
        numbers += [float(value) for value in calibrated]
    return numbers
