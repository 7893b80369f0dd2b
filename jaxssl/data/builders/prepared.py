"""What the builders share: prepare a download once with TFDS, without TensorFlow, and read it into a `Source`.

A builder module has a `tensorflow_datasets` builder, whose features are `image`, `label`, `image_id` and `group` and
whose metadata say `groups_known`, a function that lists its examples, and `load`, which calls the one here.
"""

import contextlib
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from jaxssl.data import images, source
from jaxssl.errors import UserError

Examples = dict[str, list[tuple[str, dict[str, Any]]]]


def missing(what: str, manual_dir: str | Path, download: str) -> UserError:
    """The one line for a file that is not there: which, where to get it, and where to put it."""
    where = f"data.manual_dir={manual_dir}" if str(manual_dir) else "data.manual_dir, which is empty"
    return UserError(f"{what} not found under {where}: download {download} and unpack it into that folder")


def load(
    builder: type[tfds.core.DatasetBuilder],
    examples: Examples,
    *,
    manual_dir: str,
    cache_dir: str,
    size: int,
    on_bad_file: str = "stop",
) -> source.Source:
    """Prepares the dataset into `cache_dir` where that has not been done for the same files, and reads it.

    Args:
      builder: its VERSION goes up when what it writes changes.
      examples: as the builder will generate them, key and features of each, by split; more than one split is taken as
        the official one. Images are paths.
      manual_dir: the download.
      cache_dir: each state of the download, told by labels, groups, file names and file sizes, has a folder of its own.
      size: side in pixels at which images are held.
      on_bad_file: "stop" or "skip".

    Returns:
      The dataset in the order of its ids.

    Raises:
      UserError: a cache that cannot be written, or images that cannot be read.
    """
    try:
        made = _prepare(builder, _digest(examples, Path(manual_dir)), manual_dir, cache_dir)
    except OSError as error:
        raise UserError(f"data.cache_dir={cache_dir}: the dataset cannot be prepared there: {error}") from error
    return _read(made, size, on_bad_file)


def _digest(examples: Examples, manual_dir: Path) -> str:
    digest = hashlib.sha256()
    for split, rows in sorted(examples.items()):
        for key, example in sorted(rows, key=lambda row: row[0]):
            path = Path(example["image"])
            seen = (split, key, example["label"], example["group"], path.relative_to(manual_dir), path.stat().st_size)
            digest.update("\0".join(map(str, seen)).encode() + b"\n")
    return digest.hexdigest()[:12]


def _prepare(builder: type, digest: str, manual_dir: str, cache_dir: str) -> tfds.core.DatasetBuilder:
    # TFDS would look for checksums beside the builder's code, by way of a package that it does not declare.
    builder.code_path = None
    with _quiet():
        made = builder(data_dir=str(Path(cache_dir) / digest), file_format="array_record")
        if made.data_path.exists():
            return made
        config = tfds.download.DownloadConfig(manual_dir=str(manual_dir), try_download_gcs=False)
        try:
            made.download_and_prepare(download_config=config)
        except OSError:
            # Another run may have prepared the same files meanwhile, and renamed its folder first.
            made = builder(data_dir=str(Path(cache_dir) / digest), file_format="array_record")
            if not made.data_path.exists():
                raise
    return made


def _read(made: tfds.core.DatasetBuilder, size: int, on_bad_file: str) -> source.Source:
    with _quiet():
        sources = made.as_data_source(decoders={"image": tfds.decode.SkipDecoding()})
    rows = [
        (record["image_id"].decode(), split, i, record["label"], record["group"].decode())
        for split, records in sources.items()
        for i, record in enumerate(records)
    ]
    rows.sort()
    ids, splits, _, labels, groups = map(np.array, zip(*rows, strict=True))
    pixels, kept = images.stack(
        lambda i: images.read(sources[rows[i][1]][rows[i][2]]["image"], size), ids, size, on_bad_file=on_bad_file
    )
    return source.make(
        pixels,
        labels[kept],
        ids[kept],
        tuple(made.info.features["label"].names),
        groups=groups[kept] if made.info.metadata["groups_known"] else None,
        official=splits[kept] if len(sources) > 1 else None,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """TFDS prints to stdout, draws progress bars and logs each call: none of it is about the experiment."""
    verbosity = logging.get_verbosity()
    tfds.disable_progress_bar()
    logging.set_verbosity(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
