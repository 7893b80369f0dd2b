"""Writes the features of images to a file: what `jaxssl embed` does."""

import csv
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxssl import files
from jaxssl.data.labels import match_groups
from jaxssl.errors import UserError
from jaxssl.inference import network as networks
from jaxssl.inference.inputs import Inputs, apply_to_images, check_suffix, find_images, format_count
from jaxssl.results.cells import escape_row

FEATURES = ("pooled", "patches")
_PART_SIZE = 1024  # Images held in memory before they are written.


class Part(NamedTuple):
    """Features of some images: [N, D], or [N, P, D] of patches."""

    ids: list[str]
    groups: list[str]
    features: np.ndarray


def write_features(
    workdir: str | Path,
    images: Sequence[str],
    to: str | Path,
    features: str = "pooled",
    group_pattern: str = "",
    evaluation: str = "",
) -> str:
    """Write the features of images to the file `to`.

    Args:
      workdir: of a finished run.
      images: folders, files or archives, as of `inputs.find_images`.
      to: output file, overwritten. By its suffix:
        .parquet: columns id, group, features (a list of float32) and, for patches, patch; a row per image or patch.
        .csv: likewise with a column per feature, f0, f1, ...
        .npz: arrays id [N], group [N], features [N, D] or, for patches, [N, P, D].
      features: "pooled" or "patches"; patches are counted row by row from 0.
      group_pattern: regular expression with one group, which matches the image's group in its id; "": each image is a
        group of its own.
      evaluation: "" for the pretrained encoder, or the name of a fine-tuning in results.json.

    Returns:
      One line that describes the file.

    Raises:
      UserError: as `network.load` and `find_images`; another suffix; a pattern that does not match; no image that can
        be used; a file that cannot be written, or needs a package that is not installed.
    """
    to = files.expand_user(to)
    check_suffix(to, tuple(WRITERS))
    inputs = find_images(images)
    groups = match_groups(inputs.ids, group_pattern, "--group_pattern") if group_pattern else inputs.ids
    network = networks.load(workdir, evaluation)
    program = network.patch_features if features == "patches" else network.features
    with files.output_errors(to), files.atomic_path(to) as path:
        shapes = [part.features.shape for part in WRITERS[to.suffix](path, _parts(network, program, inputs, groups))]
    size = " x ".join(map(str, shapes[0][1:]))
    return f"{to}: {format_count(sum(n for n, *_ in shapes), len(inputs.ids))}, {size} features each"


def _parts(network: networks.Network, program: Callable, inputs: Inputs, groups: list[str]) -> Iterator[Part]:
    outputs = apply_to_images(network, program, inputs)
    while some := list(itertools.islice(outputs, _PART_SIZE)):
        rows = [i for i, *_ in some]
        yield Part([inputs.ids[i] for i in rows], [groups[i] for i in rows], np.stack([one for _, one, _ in some]))


def _columns(part: Part) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the columns before the features, and the features [rows, D], of a row per image or per patch."""
    if part.features.ndim == 2:
        return {"id": np.array(part.ids), "group": np.array(part.groups)}, part.features
    images, patches, width = part.features.shape
    columns = {"id": np.repeat(part.ids, patches), "group": np.repeat(part.groups, patches)}
    columns["patch"] = np.tile(np.arange(patches), images)
    return columns, part.features.reshape(images * patches, width)


# Each writer yields every part after it has written it.


def _write_csv(path: Path, parts: Iterator[Part]) -> Iterator[Part]:
    with open(path, "w", encoding="utf-8", newline="") as stream:
        table, head = csv.writer(stream, lineterminator="\n"), None
        for part in parts:
            columns, features = _columns(part)
            if head is None:
                head = [*columns, *(f"f{i}" for i in range(features.shape[1]))]
                table.writerow(head)
            rows = zip(*columns.values(), features, strict=True)
            table.writerows([*escape_row(values), *row] for *values, row in rows)
            yield part


def _write_parquet(path: Path, parts: Iterator[Part]) -> Iterator[Part]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        message = "--to: .parquet files need the package pyarrow: pip install pyarrow"
        raise UserError(message, code="missing", field="--to") from error
    writer = None
    try:
        for part in parts:
            columns, features = _columns(part)
            array = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1])
            table = pa.table({**columns, "features": array})
            writer = writer or parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
            yield part
    finally:
        if writer:
            writer.close()


def _write_npz(path: Path, parts: Iterator[Part]) -> Iterator[Part]:
    held = list(parts)
    ids, groups = [i for part in held for i in part.ids], [g for part in held for g in part.groups]
    features = np.concatenate([part.features for part in held])
    with open(path, "wb") as stream:
        np.savez(stream, features=features, id=np.array(ids), group=np.array(groups))
    yield from held


WRITERS = {".parquet": _write_parquet, ".csv": _write_csv, ".npz": _write_npz}
