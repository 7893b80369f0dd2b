"""`jaxssl predict WORKDIR IMAGES... --to=predictions.csv`: the class probabilities of new images.

IMAGES are folders, files (PNG, JPEG, TIFF, npy, DICOM, FITS) of any size, or .npz archives. The table has the columns
image_id, predicted, p_<class>..., as the run's own predictions.csv, and calibrated_<class>... where the run has found a
temperature on validation. Images that cannot be taken are named on stderr with the reason, and the others are done; how
many have the names of images that the network was trained or chosen on is said, for a score on those says nothing.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from jaxssl import files
from jaxssl.errors import UserError
from jaxssl.evaluation import calibration
from jaxssl.inference import inputs, trained
from jaxssl.inference import network as inference


def run(workdir: str | Path, images: Sequence[str], to: str | Path, evaluation: str = "") -> str:
    """Writes the probabilities of images to the file `to`.

    Args:
      workdir: of a run that ended.
      images: folders, files or archives, as of `inputs.find`.
      to: a `.csv` file, which is replaced.
      evaluation: as of `inference.load`.

    Returns:
      What was written, and how many of the images the run has seen before, in a line.

    Raises:
      UserError: as `inference.load` and `inputs.find`; another ending; a run without a trained head; no image that can
        be taken; a file that cannot be written.
    """
    to = Path(to).expanduser()
    if to.suffix != ".csv":
        raise UserError(f"--to={to} should end in .csv")
    network = inference.load(workdir, evaluation)
    program, found = network.probabilities, inputs.find(images)
    with (
        files.output_errors(to),
        files.atomic_path(to) as place,
        open(place, "w", encoding="utf-8", newline="") as stream,
    ):
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(columns(network))
        done = []
        for i, p in inputs.results(network, program, found):
            table.writerow([found.ids[i], network.classes[p.argmax()], *map(repr, numbers(network, p))])
            done.append((found.ids[i], found.given[i]))
    said = f"{to}: {inputs.counted(len(done), len(found.ids))}, by {network.evaluation}"
    known = seen(Path(workdir).expanduser(), done)
    return said + (f"; {known} of them are training or validation images of the run: no score on them" if known else "")


def seen(workdir: Path, images: Sequence[tuple[str, Path | np.ndarray]]) -> int:
    """How many of `inputs.Inputs` have the names of images that the run in `workdir` was trained on, or chosen on."""
    splits = trained.read_splits(workdir)
    known = {*splits["train"], *splits["validation"]}
    return sum(not known.isdisjoint(names(*image)) for image in images)


def names(name: str, given: Path | np.ndarray) -> Iterator[str]:
    """What a run may have called an image: the end of its path, of a folder at least, or its name in a publication."""
    yield name
    if isinstance(given, Path):
        yield given.stem
        parts = given.resolve().parts
        yield from ("/".join(parts[i:]) for i in range(1, len(parts) - 1))


def columns(network: inference.Network) -> list[str]:
    kinds = ("p", "calibrated") if network.temperature else ("p",)
    return ["image_id", "predicted", *(f"{kind}_{name}" for kind in kinds for name in network.classes)]


def numbers(network: inference.Network, p: np.ndarray) -> list[float]:
    """The probabilities of one image [classes], then the calibrated ones if there are any."""
    calibrated = calibration.apply_temperature(p[None], network.temperature)[0].astype(np.float32) if network.temperature else []
    return [float(value) for value in (*p, *calibrated)]
