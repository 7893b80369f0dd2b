"""Downloads converted once with TFDS, without TensorFlow, and read into a `Source`.

Files of images are kept byte for byte, and arrays of `Dataset.read` in their dtype. A file that cannot be read, and
values that are not finite, are handled when the dataset is loaded and not when it is converted: `data.on_bad_file` and
`data.nan` may differ from run to run. See `jaxssl.data.downloads` for how a dataset is described.
"""

import contextlib
import hashlib
import io
import itertools
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from jaxssl.data import downloads, masks, records, source
from jaxssl.data.downloads import Dataset, Download, Example
from jaxssl.data.io import arrays, images, loading
from jaxssl.errors import UserError


def load(
    dataset: Dataset,
    examples: Callable[[Download], list[Example]],
    *,
    manual_dir: str,
    cache_dir: str,
    size: int,
    on_bad_file: str = "stop",
    nan: str = "refuse",
    fit: str = "pad",
    memory_mib: float = math.inf,
) -> source.Source:
    """Convert a download into `cache_dir`, unless that was done for the same files, and load it.

    Args:
      dataset: its description.
      examples: lists the examples of a download.
      manual_dir: the folder that the download was unpacked into, in any arrangement of outer folders.
      cache_dir: each state of the download has its own folder, by labels, groups, file names and file sizes.
      size: side in pixels at which images are held.
      on_bad_file: "stop" or "skip".
      nan: "refuse", "zero" or "median".
      fit: "pad", "crop" or "squash" for images that are not square.
      memory_mib: images up to this size (MiB) are held in memory; larger sets are kept decoded in `cache_dir`.

    Returns:
      The dataset in the order of its ids.

    Raises:
      UserError: a file is missing or differs from the published one, the cache cannot be written, or images cannot be
        read or differ in kind.
    """
    download = downloads.list_files(dataset, manual_dir)
    found = _with_files(download, examples(download), on_bad_file)
    try:
        builder = _prepare(download, found, cache_dir)
    except OSError as error:
        raise UserError(
            f"data.cache_dir={cache_dir}: the dataset cannot be prepared there: {error}",
            code="not-writable",
            field="data.cache_dir",
        ) from error
    # The folders of TFDS for this state of the download, the dataset and its version.
    cache = records.Cache(Path(cache_dir), memory_mib, "/".join(builder.data_path.parts[-3:]))
    loaded = _read(builder, dataset, size, cache, {"on_bad_file": on_bad_file, "nan": nan, "fit": fit})
    read_mask, of = dataset.read_mask, {example.id: example for example in found}
    if read_mask is None:
        return loaded
    policies = {"fit": fit, "on_bad_file": on_bad_file, "cache": cache}
    return masks.attach(loaded, lambda row: read_mask(of[loaded.ids[row]]), dataset.mask_classes, **policies)


def _with_files(download: Download, examples: Sequence[Example], on_bad_file: str) -> list[Example]:
    """Return the examples that have a file. UserError for an id that occurs twice, and for missing files that stop."""
    twice = [name for name, count in Counter(example.id for example in examples).items() if count > 1]
    if twice:
        raise UserError(
            f"{twice[0]} is listed twice in data.manual_dir={download.root}: download it again",
            code="conflict",
            field="data.manual_dir",
        )
    absent = [example.id for example in examples if example.path is None]
    if absent:
        what = f"image {absent[0]} (the first of {len(absent)}, of {len(examples)} listed)"
        if on_bad_file != "skip" or len(absent) == len(examples):
            raise UserError(
                f"{downloads.missing_error(download, what)}, or set data.on_bad_file to 'skip'",
                code="missing",
                field="data.manual_dir",
            )
        logging.warning("skipped (data.on_bad_file): %s not found under %s", what, download.root)
    return [example for example in examples if example.path is not None]


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """TFDS builder of any dataset: what TFDS expects on the class is set on the object."""

    # TFDS would look for checksums next to the builder's code, with a package that it does not declare.
    code_path = None

    def __init__(self, dataset: Dataset, examples: Sequence[Example], **kw):
        self.dataset, self.examples = dataset, examples
        setattr(self, "name", dataset.name)  # noqa: B010 - a class variable of TFDS
        self.VERSION = tfds.core.Version(dataset.version)
        super().__init__(file_format="array_record", **kw)

    def _info(self) -> tfds.core.DatasetInfo:
        d = self.dataset
        if d.read is None:
            pixels = {"image": tfds.features.Image(shape=(None, None, 3))}
        else:
            # Floats hardly shrink.
            encoding = "bytes" if d.dtype == "float32" else "zlib"
            array = tfds.features.Tensor(shape=(None, None, None), dtype=np.dtype(d.dtype), encoding=encoding)
            pixels = {"array": array, "broken": tfds.features.Scalar(np.bool_)}
        return tfds.core.DatasetInfo(
            builder=self,
            description=d.title,
            features=tfds.features.FeaturesDict(
                {
                    **pixels,
                    "label": tfds.features.ClassLabel(names=d.classes),
                    "image_id": tfds.features.Text(),
                    "group": tfds.features.Text(),
                    "fold": tfds.features.Scalar(np.int32),
                }
            ),
            metadata=tfds.core.MetadataDict(groups_known=bool(d.group)),
            homepage=d.homepage,
            license=d.license,
            citation=d.citation,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        splits = sorted({example.split for example in self.examples})
        return {split: self._generate_examples(split) for split in splits}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for example in self.examples:
            if example.split == split:
                yield (
                    example.id,
                    {
                        **_pixels(self.dataset, example),
                        "label": source.UNLABELLED if example.label is None else example.label,
                        "image_id": example.id,
                        "group": example.group if self.dataset.group else example.id,
                        "fold": -1 if example.fold is None else example.fold,
                    },
                )


def _pixels(dataset: Dataset, example: Example) -> dict[str, Any]:
    if dataset.read is None:
        return {"image": example.path}
    # Readers raise nearly any exception at a broken file. Whether it stops or is skipped is decided at loading.
    try:
        return {"array": _array(dataset, example), "broken": False}
    except Exception:
        return {"array": np.zeros((1, 1, 1), dataset.dtype), "broken": True}


def _array(dataset: Dataset, example: Example) -> np.ndarray:
    array = arrays.as_image(np.asarray(dataset.read(example) if dataset.read else images.read(example.file)))
    if array.dtype != dataset.dtype:
        raise ValueError(f"holds {array.dtype}, not {dataset.dtype}")
    return array


def _digest(download: Download, examples: Sequence[Example]) -> str:
    dataset = download.dataset
    reader = dataset.read and sorted(getattr(dataset.read, "keywords", {}).items())
    digest = hashlib.sha256(repr((dataset.classes, dataset.dtype, reader)).encode())
    for example in sorted(examples):
        files = [(path.relative_to(download.root), path.stat().st_size) for path in (example.file, *example.extra)]
        seen = (example.id, example.label, example.group, example.split, example.fold, *itertools.chain(*files))
        digest.update("\0".join(map(str, seen)).encode() + b"\n")
    return digest.hexdigest()[:12]


def _prepare(download: Download, examples: Sequence[Example], cache_dir: str) -> _Builder:
    folder = Path(cache_dir) / _digest(download, examples)

    def make() -> _Builder:
        return _Builder(download.dataset, examples, data_dir=str(folder))

    with _quiet():
        if _is_whole(builder := make()):
            return builder
        _check_archives(download)
        folder.mkdir(parents=True, exist_ok=True)
        # Another run may prepare the same files: what is found under the lock was left by one that was killed, or lacks
        # deleted files, and TFDS would take it for prepared.
        with filelock.FileLock(folder / ".lock"):
            if _is_whole(builder := make()):
                return builder
            for left in (builder.data_path, *builder.data_path.parent.glob("incomplete.*")):
                shutil.rmtree(left, ignore_errors=True)
            builder = make()
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    return builder


def _is_whole(builder: _Builder) -> bool:
    """Return whether all files of a prepared dataset are there; files in a cache may have been deleted."""
    expected = [file for split in builder.info.splits.values() for file in split.filepaths]
    described = (builder.data_path / name for name in ("dataset_info.json", "features.json"))
    return bool(expected) and all(Path(file).exists() for file in (*described, *expected))


def _check_archives(download: Download) -> None:
    published = dict(download.dataset.checksums)
    for file in download.files:
        path = download.root / file
        if path.name in published:
            with open(path, "rb") as opened:
                md5 = hashlib.file_digest(opened, "md5").hexdigest()
            if md5 != published[path.name]:
                raise UserError(
                    f"{path} has md5 {md5}, published is {published[path.name]}: download and unpack it again",
                    code="damaged",
                    field="data.manual_dir",
                )


def _read(
    builder: _Builder, dataset: Dataset, size: int, cache: records.Cache, policies: dict[str, Any]
) -> source.Source:
    pixels = "image" if dataset.read is None else "array"
    examples = {example.id: example for example in builder.examples}
    with _quiet():
        raw: Any = builder.as_data_source(decoders={pixels: tfds.decode.SkipDecoding()})
        decoded: Any = builder.as_data_source()
    rows = [
        (record["image_id"].decode(), split, i, record["label"], record["group"].decode(), record["fold"])
        for split, records in raw.items()
        for i, record in enumerate(records)
    ]
    rows.sort()
    ids, splits, places, labels, groups, folds = map(np.array, zip(*rows, strict=True))

    def read_one(i: int) -> np.ndarray:
        if dataset.read is None:
            return images.read(raw[splits[i]][places[i]]["image"], size)
        record = decoded[splits[i]][places[i]]
        # Read the file again, for the reason, or because the fault was temporary.
        return _array(dataset, examples[ids[i]]) if record["broken"] else record["array"]

    stacked, kept, unread = loading.stack(read_one, ids.tolist(), size, cache=cache, **policies)
    return source.make(
        stacked,
        labels[kept],
        ids[kept],
        dataset.classes,
        groups=groups[kept] if dataset.group else None,
        official=splits[kept] if len(raw) > 1 else None,
        folds=folds[kept] if (folds >= 0).all() else None,
        unread=unread,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence TFDS, which prints to stdout, draws progress bars and logs each call."""
    verbosity = logging.get_verbosity()
    tfds.disable_progress_bar()
    logging.set_verbosity(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
