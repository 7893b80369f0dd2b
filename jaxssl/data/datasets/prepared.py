"""What the builders share: prepare a download once with TFDS, without TensorFlow, and read it into a `Source`.

A builder is a module with three names, and this is all of a small one:

    DATASET = prepared.Dataset(name="moles", title="moles", classes=("bad", "good"), group="patient", ...)

    def examples(download: prepared.Download) -> list[prepared.Example]:
        places = prepared.image_files(download)
        rows = prepared.table(prepared.find(download, "labels.csv"), ("id", "kind", "patient"))
        return [
            prepared.Example(row["id"], places.get(row["id"]), label=row["kind"], group=row["patient"])
            for place, row in rows
        ]

    load = functools.partial(prepared.load, DATASET, examples)

Where `Dataset.read` is None, the files of the examples are images: they are kept byte for byte, and decoded when they
are loaded. Otherwise `read` makes an array of each example, one at a time, which is kept as it is: float stays float
and 16 bits stay 16 bits. A file that `read` raises at is a bad file like an image that cannot be decoded, and holes in
float arrays are for `data.nan`: both are settled when the dataset is loaded and not when it is prepared.

`find`, `image_files` and `class_folders` look for files in the download whatever the case of letters and the depth of
folders, `table` reads a csv file and `pick` a value of few that are known. What they miss is an error that names the
file and the place to download it from; an image that is listed without its file (`path` None) is an error, or a warning
where `data.on_bad_file` is "skip".
"""

import contextlib
import hashlib
import io
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from jaxssl.data import records, source
from jaxssl.data.io import images
from jaxssl.data.io import table as tables
from jaxssl.errors import UserError


class Example(NamedTuple):
    """One image of a dataset.

    Attributes:
      id: unique and stable, from the file's name.
      path: the file that holds the image, None where the download lists it without its file.
      label: the name of its class, None where it has no label.
      group: the patient, lesion or series; not looked at where `Dataset.group` is empty.
      split: "train", "validation" or "test"; a dataset all of whose examples are "train" has no official split.
      fold: from 0 on, its part of the cross-validation that the dataset gives; every example has one, or none has.
      extra: what else `Dataset.read` reads for it, such as masks.
    """

    id: str
    path: Path | None
    label: str | None
    group: str = ""
    split: str = "train"
    fold: int | None = None
    extra: tuple[Path, ...] = ()


class Dataset(NamedTuple):
    """What is known of a dataset before its files are read.

    Attributes:
      name: of the builder's module.
      title: what it holds, in half a line.
      classes: names of the classes, in the order of the labels; empty where nothing is labelled.
      group: what a group is: "patient", "lesion"; empty where the download does not tell, so that each image is one.
      license: as its publisher states it.
      homepage: where it is published.
      download: what to download from where, to follow the word "download".
      citation: BibTeX.
      read: makes [H, W, C], or what `images.as_image` takes for it, of an example; None for files of images. Where it
        depends on keywords, it is a `functools.partial` with these, which the cache then tells apart.
      dtype: "uint8", "uint16" or "float32", of what `read` makes.
      checksums: file name and md5 of the archives, where published.
      version: goes up when the same download gives other examples, or `read` other arrays.
      images: how many there are as published; 0 where parts or copies differ.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    group: str
    license: str
    homepage: str
    download: str
    citation: str
    read: Callable[[Example], np.ndarray] | None = None
    dtype: str = "uint8"
    checksums: tuple[tuple[str, str], ...] = ()
    version: str = "1.0.0"
    images: int = 0


class Download(NamedTuple):
    """The folder that a dataset was unpacked into.

    Attributes:
      dataset: what should be there.
      root: `data.manual_dir`.
      files: what is there, as paths relative to `root` with "/", those in fewest folders first and then by name;
        without hidden files and `__MACOSX`.
    """

    dataset: Dataset
    root: Path
    files: Sequence[str]


def look(dataset: Dataset, manual_dir: str | Path) -> Download:
    """Lists the files of a download. UserError where there is no such folder."""
    root = Path(manual_dir)
    if not str(manual_dir) or not root.is_dir():
        said = f"={manual_dir} is not a folder" if str(manual_dir) else " is empty"
        raise UserError(f"data.manual_dir{said}: download {dataset.download}, unpack it, and set this to where it lies")
    return Download(dataset, root, sorted(images.find(root), key=lambda file: (file.count("/"), file)))


def missing(download: Download, what: str) -> UserError:
    """The one line for a file that is not there: which, where to get it, and where to put it."""
    root, place = download.root, download.dataset.download
    return UserError(f"{what} not found under data.manual_dir={root}: download {place} and unpack it into that folder")


def find(download: Download, *names: str) -> Path:
    """The file whose path ends in one of these names (which may hold "/"), the first of the names first.

    Raises:
      UserError: there is none.
    """
    for name in names:
        ends = "/" + name.lower()
        found = next((file for file in download.files if f"/{file}".lower().endswith(ends)), None)
        if found:
            return download.root / found
    raise missing(download, names[0])


def image_files(download: Download, folder: str = "", extensions: tuple[str, ...] = images.PICTURES) -> dict[str, Path]:
    """The images in folders of this name, or in any, by file name without extension; the shortest path goes first."""
    found: dict[str, Path] = {}
    for file in download.files:
        path = download.root / file
        if path.suffix.lower() in extensions and (not folder or path.parent.name.lower() == folder.lower()):
            found.setdefault(path.stem, path)
    return found


def class_folders(
    download: Download,
    sides: Sequence[str],
    classes: Sequence[str],
    *,
    optional: Sequence[str] = (),
    extensions: tuple[str, ...] = images.PICTURES,
) -> list[tuple[str, str, Path]]:
    """The files at <side>/<class>/<file>, at any depth; a file that an archive holds twice is taken once.

    Args:
      download: where to look.
      sides: names of the folders of the official split.
      classes: names of the folders in each of them.
      optional: those of the sides that may be missing.
      extensions: of the files, in lower case.

    Returns:
      Side, class (both as given) and path of each, sorted.

    Raises:
      UserError: a class of a side, which is not optional, has no file.
    """
    known_sides, known_classes = ({name.lower(): name for name in names} for names in (sides, classes))
    found: dict[tuple[str, str, str], Path] = {}
    for file in download.files:
        *_, side, name, last = ("", "", *file.split("/"))
        side, name = known_sides.get(side.lower()), known_classes.get(name.lower())
        if side and name and last.lower().endswith(extensions):
            found.setdefault((side, name, last), download.root / file)
    seen = {key[:2] for key in found}
    absent = [
        f"{side}/{name}" for side in sides if side not in optional for name in classes if (side, name) not in seen
    ]
    if absent:
        raise missing(download, f"{absent[0]}/ with files {', '.join(extensions)}")
    return sorted((side, name, path) for (side, name, _), path in found.items())


def table(path: Path, columns: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """The rows of a table of the download that has these columns. See `jaxssl.data.io.table.read`."""
    return tables.read(path, columns, mend="download it again")


def pick(place: str, row: Mapping[str, str], column: str, known: Mapping[str, str]) -> str:
    """What a value of a table's row stands for; UserError where it is not known."""
    if row[column] not in known:
        raise UserError(f"{place}: {column} is '{row[column]}', not one of {', '.join(known)}")
    return known[row[column]]


def load(
    dataset: Dataset,
    examples: Callable[[Download], list[Example]],
    *,
    manual_dir: str,
    cache_dir: str,
    size: int,
    on_bad_file: str = "stop",
    nan: str = "refuse",
    memory_mib: float = math.inf,
) -> source.Source:
    """Prepares the dataset into `cache_dir` where that has not been done for the same files, and reads it.

    Args:
      dataset: its description.
      examples: lists the examples of a download.
      manual_dir: the folder that the download was unpacked into, in any arrangement of outer folders.
      cache_dir: each state of the download, told by labels, groups, file names and file sizes, has a folder of its own.
      size: side in pixels at which images are held.
      on_bad_file: "stop" or "skip".
      nan: "refuse", "zero" or "median".
      memory_mib: up to which images are held in memory; more are kept in `cache_dir`, decoded.

    Returns:
      The dataset in the order of its ids.

    Raises:
      UserError: a file that is missing or not as published, a cache that cannot be written, or images that cannot be
        read or do not go together.
    """
    download = look(dataset, manual_dir)
    found = _present(download, examples(download), on_bad_file)
    try:
        made = _prepare(download, found, cache_dir)
    except OSError as error:
        raise UserError(f"data.cache_dir={cache_dir}: the dataset cannot be prepared there: {error}") from error
    # The folders that TFDS has made for this state of the download, the dataset and its version.
    cache = records.Cache(Path(cache_dir), memory_mib, "/".join(made.data_path.parts[-3:]))
    return _read(made, dataset, size, on_bad_file, nan, cache)


def _present(download: Download, examples: Sequence[Example], on_bad_file: str) -> list[Example]:
    """The examples that have their file."""
    twice = [name for name, count in Counter(example.id for example in examples).items() if count > 1]
    if twice:
        raise UserError(f"{twice[0]} stands twice in data.manual_dir={download.root}: download it again")
    absent = [example.id for example in examples if example.path is None]
    if absent:
        what = f"image {absent[0]} (the first of {len(absent)}, of {len(examples)} listed)"
        if on_bad_file != "skip" or len(absent) == len(examples):
            raise UserError(f"{missing(download, what)}, or set data.on_bad_file to 'skip'")
        logging.warning("skipped (data.on_bad_file): %s not found under %s", what, download.root)
    return [example for example in examples if example.path is not None]


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Examples as TFDS writes them, of any dataset: what TFDS takes from the class is set on the object."""

    # TFDS would look for checksums beside the builder's code, by way of a package that it does not declare.
    code_path = None

    def __init__(self, dataset: Dataset, examples: Sequence[Example], **kw):
        self.dataset, self.examples = dataset, examples
        self.name, self.VERSION = dataset.name, tfds.core.Version(dataset.version)
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
    # Readers raise nearly anything at a broken file; whether it stops or is skipped is not for the cache to know.
    try:
        return {"array": _array(dataset, example), "broken": False}
    except Exception:
        return {"array": np.zeros((1, 1, 1), dataset.dtype), "broken": True}


def _array(dataset: Dataset, example: Example) -> np.ndarray:
    array = images.as_image(np.asarray(dataset.read(example)))
    if array.dtype != dataset.dtype:
        raise ValueError(f"holds {array.dtype}, not {dataset.dtype}")
    return array


def _digest(download: Download, examples: Sequence[Example]) -> str:
    dataset = download.dataset
    reader = dataset.read and sorted(getattr(dataset.read, "keywords", {}).items())
    told = (dataset.classes, dataset.dtype, reader)
    digest = hashlib.sha256(repr(told).encode())
    for example in sorted(examples):
        files = [(path.relative_to(download.root), path.stat().st_size) for path in (example.path, *example.extra)]
        seen = (example.id, example.label, example.group, example.split, example.fold, *itertools.chain(*files))
        digest.update("\0".join(map(str, seen)).encode() + b"\n")
    return digest.hexdigest()[:12]


def _prepare(download: Download, examples: Sequence[Example], cache_dir: str) -> _Builder:
    data_dir = str(Path(cache_dir) / _digest(download, examples))
    with _quiet():
        made = _Builder(download.dataset, examples, data_dir=data_dir)
        if made.data_path.exists():
            return made
        _check_archives(download)
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        try:
            made.download_and_prepare(download_config=config)
        except OSError:
            # Another run may have prepared the same files meanwhile, and renamed its folder first.
            made = _Builder(download.dataset, examples, data_dir=data_dir)
            if not made.data_path.exists():
                raise
    return made


def _check_archives(download: Download) -> None:
    published = dict(download.dataset.checksums)
    for file in download.files:
        path = download.root / file
        if path.name in published:
            with open(path, "rb") as opened:
                md5 = hashlib.file_digest(opened, "md5").hexdigest()
            if md5 != published[path.name]:
                raise UserError(
                    f"{path} has md5 {md5}, published is {published[path.name]}: download and unpack it again"
                )


def _read(
    made: _Builder, dataset: Dataset, size: int, on_bad_file: str, nan: str, cache: records.Cache
) -> source.Source:
    pixels = "image" if dataset.read is None else "array"
    examples = {example.id: example for example in made.examples}
    with _quiet():
        raw = made.as_data_source(decoders={pixels: tfds.decode.SkipDecoding()})
        decoded = made.as_data_source()
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
        # Once more from the file, for its reason, or because only the moment was bad.
        return _array(dataset, examples[ids[i]]) if record["broken"] else record["array"]

    stacked, kept = images.stack(read_one, ids, size, on_bad_file=on_bad_file, nan=nan, cache=cache)
    return source.make(
        stacked,
        labels[kept],
        ids[kept],
        dataset.classes,
        groups=groups[kept] if dataset.group else None,
        official=splits[kept] if len(raw) > 1 else None,
        folds=folds[kept] if (folds >= 0).all() else None,
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
