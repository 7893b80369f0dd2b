"""`jaxssl embed WORKDIR IMAGES... --to=FILE.parquet | FILE.csv | FILE.npz`: the features of images.

IMAGES are folders, files (PNG, JPEG, TIFF, npy, DICOM, FITS) of any size, or .npz archives. By the ending of FILE:

.parquet  columns id, group, features (a list of float32), and patch with --features=patches: a row an image or patch.
.csv      the same with a column for each feature, f0, f1, ...
.npz      arrays id [N], group [N], features [N, D] or, with --features=patches, [N, P, D].

Where no pattern tells the groups, each image is one of its own. Patches are in rows, from 0 on. Images that cannot be
taken are named on stderr with the reason, and the others are done.
"""

import csv
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxssl import files
from jaxssl.data.datasets import folder
from jaxssl.errors import UserError
from jaxssl.inference import inputs
from jaxssl.inference import network as inference

FEATURES = ("pooled", "patches")
_AT_ONCE = 1024  # Images that are held before they are written.


class Part(NamedTuple):
    """Some images: features are [N, D], or [N, P, D] of patches."""

    ids: list[str]
    groups: list[str]
    features: np.ndarray


def run(
    workdir: str | Path,
    images: Sequence[str],
    to: str | Path,
    features: str = "pooled",
    group_pattern: str = "",
    evaluation: str = "",
) -> str:
    """Writes the features of images to the file `to`.

    Args:
      workdir: of a run that ended.
      images: folders, files or archives, as of `inputs.find`.
      to: a `.parquet`, `.csv` or `.npz` file, which is replaced.
      features: "pooled" or "patches".
      group_pattern: what its one group matches in an id is the group; "": each image is one of its own.
      evaluation: "" for the pretrained encoder, or the name of a fine-tuning in results.json.

    Returns:
      What was written, in a line.

    Raises:
      UserError: as `inference.load` and `inputs.find`; another ending; a pattern that does not fit; no image that can
        be taken; a file that cannot be written, or needs a package that is not there.
    """
    to = Path(to).expanduser()
    if to.suffix not in WRITERS:
        raise UserError(f"--to={to} should end in {', '.join(WRITERS)}")
    found = inputs.find(images)
    groups = folder.match_groups(found.ids, group_pattern, "--group_pattern") if group_pattern else found.ids
    network = inference.load(workdir, evaluation)
    program = network.patch_features if features == "patches" else network.features
    with files.output_errors(to), files.atomic_path(to) as place:
        shapes = [part.features.shape for part in WRITERS[to.suffix](place, parts(network, program, found, groups))]
    each = " x ".join(map(str, shapes[0][1:]))
    return f"{to}: {inputs.counted(sum(n for n, *_ in shapes), len(found.ids))}, {each} features each"


def parts(network: inference.Network, program: Callable, found: inputs.Inputs, groups: list[str]) -> Iterator[Part]:
    results = inputs.results(network, program, found)
    while some := list(itertools.islice(results, _AT_ONCE)):
        rows = [i for i, _ in some]
        yield Part([found.ids[i] for i in rows], [groups[i] for i in rows], np.stack([one for _, one in some]))


def flat(part: Part) -> dict[str, np.ndarray]:
    """Columns of a row an image, or a row a patch; "features" [rows, D]."""
    if part.features.ndim == 2:
        return {"id": np.array(part.ids), "group": np.array(part.groups), "features": part.features}
    images, patches, _ = part.features.shape
    named = {"id": np.repeat(part.ids, patches), "group": np.repeat(part.groups, patches)}
    places = {"patch": np.tile(np.arange(patches), images)}
    return named | places | {"features": part.features.reshape(images * patches, -1)}


# Each takes parts as they come, and gives them on once they are written.


def write_csv(place: Path, given: Iterator[Part]) -> Iterator[Part]:
    with open(place, "w", encoding="utf-8", newline="") as stream:
        table, head = csv.writer(stream, lineterminator="\n"), None
        for part in given:
            *named, features = flat(part).items()
            if head is None:
                head = [*(name for name, _ in named), *(f"f{i}" for i in range(features[1].shape[1]))]
                table.writerow(head)
            table.writerows([*values, *row] for *values, row in zip(*(v for _, v in named), features[1], strict=True))
            yield part


def write_parquet(place: Path, given: Iterator[Part]) -> Iterator[Part]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UserError("--to: .parquet files need the package pyarrow: pip install pyarrow") from error
    writer = None
    try:
        for part in given:
            columns = flat(part)
            features = columns.pop("features")
            columns["features"] = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1])
            table = pa.table(columns)
            writer = writer or parquet.ParquetWriter(place, table.schema)
            writer.write_table(table)
            yield part
    finally:
        if writer:
            writer.close()


def write_npz(place: Path, given: Iterator[Part]) -> Iterator[Part]:
    all_parts = list(given)
    named = {"id": [i for p in all_parts for i in p.ids], "group": [g for p in all_parts for g in p.groups]}
    features = np.concatenate([part.features for part in all_parts])
    with open(place, "wb") as stream:
        np.savez(stream, features=features, **{name: np.array(values) for name, values in named.items()})
    yield from all_parts


WRITERS = {".parquet": write_parquet, ".csv": write_csv, ".npz": write_npz}
