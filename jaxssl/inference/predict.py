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
from jaxssl.results.workdir import read_splits


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
      One line that describes the file, and says how many of the images the run was trained or selected on.

    Raises:
      UserError: as `network.load` and `find_images`; another suffix; a run without a trained head; no image that can
        be used; a file that cannot be written.
    """
    to = Path(to).expanduser()
    check_suffix(to, (".csv",))
    network = networks.load(workdir, evaluation)
    program, inputs = network.probabilities, find_images(images)
    done = []
    with (
        files.output_errors(to),
        files.atomic_path(to) as path,
        open(path, "w", encoding="utf-8", newline="") as stream,
    ):
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(_header(network))
        for i, p in apply_to_images(network, program, inputs):
            guess = TASKS[network.encoder.task].predicted(p[None])[0]
            texts = escape_row((inputs.ids[i], format_label(guess, network.classes, network.encoder.task)))
            table.writerow([*texts, *map(repr, _numbers(network, p))])
            done.append((inputs.ids[i], inputs.sources[i]))
    line = f"{to}: {format_count(len(done), len(inputs.ids))}, by {network.evaluation}"
    seen = count_seen(Path(workdir).expanduser(), done)
    warning = f"; {seen} of them are training or validation images of the run: do not score it on them"
    return line + warning * bool(seen)


def count_seen(workdir: Path, images: Sequence[tuple[str, Path | np.ndarray]]) -> int:
    """Return how many images have the name of a training or validation image of the run.

    Args:
      workdir: of the run.
      images: (id, source) as in `inputs.Inputs`.
    """
    splits = read_splits(workdir, "copy it to the rest of the run")
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
