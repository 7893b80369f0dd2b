"""IDRiD, segmentation part (Porwal et al. 2018, Data 3(3):25): 81 fundus images with masks of lesions and optic disc.

In `A. Segmentation`, `1. Original Images/{a. Training Set,b. Testing Set}/IDRiD_<nn>.jpg` are 54 and 27 images of 4288
x 2848, and `2. All Segmentation Groundtruths/{a. ...,b. ...}/<kind>/IDRiD_<nn>_{MA,HE,EX,SE,OD}.tif` their masks; where
an image has no such lesion, it has no such file. The grading part, `B. Disease Grading`, may be in the same folder: its
numbers have three digits.

The images come without labels, unless `data.options.label` names a kind: then the two classes are whether the mask of
that kind has any pixel. Kinds that all images have are refused. The official split is kept; which images show the same
patient is not published.

With `data.options.masks=True` images come with the class of each pixel, one of `KINDS` or the background. A pixel that
is of several kinds, such as a microaneurysm in a haemorrhage, has the first of `data.options.kinds`; with one kind
alone, such as `EX`, nothing is lost. `masks` gives those of one image at the size of its file, each on its own.
"""

import contextlib
import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxssl.data import downloads, prepared, source
from jaxssl.data.io import images, loading
from jaxssl.errors import UserError

KINDS = {
    "MA": "microaneurysms",
    "HE": "haemorrhages",
    "EX": "hard exudates",
    "SE": "soft exudates",
    "OD": "optic disc",
}
CLASSES = ("absent", "present")
_SIDES = {"a": "train", "b": "test"}
_IMAGE = re.compile(r"(?:^|/)1\. original images/(?P<side>[ab])\. [^/]*/(?P<id>idrid_\d\d)\.jpg$", re.IGNORECASE)
_MASK = re.compile(
    r"(?:^|/)2\. all segmentation groundtruths/(?P<side>[ab])\. [^/]*/[^/]*/(?P<id>idrid_\d\d)_(?P<kind>[a-z]+)\.tif$",
    re.IGNORECASE,
)

DATASET = downloads.Dataset(
    name="idrid_segmentation",
    title="fundus images with masks of the lesions of diabetic retinopathy",
    classes=(),
    images=81,
    group="",
    license="CC BY 4.0",
    homepage="https://doi.org/10.21227/H25W98",
    download="'A. Segmentation' of IDRiD from IEEE DataPort (https://doi.org/10.21227/H25W98)",
    citation="""@article{porwal2018idrid,
  author = {Porwal, Prasanna and Pachade, Samiksha and Kamble, Ravi and Kokare, Manesh and Deshmukh, Girish and
    Sahasrabuddhe, Vivek and Meriaudeau, Fabrice},
  title = {Indian Diabetic Retinopathy Image Dataset ({IDRiD}): A Database for Diabetic Retinopathy Screening Research},
  journal = {Data}, volume = {3}, number = {3}, pages = {25}, year = {2018}, doi = {10.3390/data3030025}
}""",
)


def examples(download: downloads.Download, label: str = "") -> list[downloads.Example]:
    """Return the images; with `label`, a kind of lesion, each is labelled by whether it has any."""
    found = _images(download)
    labels = _labels(download, list(found), label) if label else {}
    return [downloads.Example(name, path, labels.get(name), split=name.split("/")[0]) for name, path in found.items()]


def load(
    *, label: str = "", masks: bool = False, kinds: Sequence[str] = tuple(KINDS), **arguments: Any
) -> source.Source:
    """Load the images, without labels or with those of one of `KINDS`; ids are such as "train/IDRiD_01".

    Args:
      label: one of `KINDS`, or "" for no labels.
      masks: whether to load the masks, too.
      kinds: those of `KINDS` that masks have; where they overlap, the first counts.
      **arguments: those of `prepared.load`.
    """
    if label and label not in KINDS:
        raise UserError(
            f"data.options.label is '{label}': it must be one of {', '.join(KINDS)}, or empty for no labels",
            code="unknown-name",
            field="data.options.label",
        )
    dataset, found = DATASET, None
    if masks:
        dataset, found = masked(downloads.list_files(DATASET, arguments["manual_dir"]), label, kinds)
    dataset = dataset._replace(classes=CLASSES if label else ())
    return prepared.load(dataset, lambda download: found or examples(download, label), **arguments)


def masked(
    download: downloads.Download, label: str = "", kinds: Sequence[str] = tuple(KINDS)
) -> tuple[downloads.Dataset, list[downloads.Example]]:
    """Return the dataset with masks of these kinds, and `examples` with the files of all their masks."""
    kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    if not kinds or not {*kinds} <= {*KINDS}:
        raise UserError(
            f"data.options.kinds={kinds}: give some of {', '.join(KINDS)}",
            code="unknown-name",
            field="data.options.kinds",
        )
    of: dict[str, tuple[Path, ...]] = {}
    for (name, _), path in sorted(_mask_paths(download).items()):
        of[name] = (*of.get(name, ()), path)
    if not of:
        raise downloads.missing_error(download, "2. All Segmentation Groundtruths/a. Training Set/*/IDRiD_*_*.tif")
    names = ("background", *(KINDS[kind] for kind in kinds))
    dataset = DATASET._replace(read_mask=functools.partial(read_classes, kinds=kinds), mask_classes=names)
    return dataset, [example._replace(extra=of.get(example.id, ())) for example in examples(download, label)]


def read_classes(example: downloads.Example, kinds: Sequence[str] = tuple(KINDS)) -> np.ndarray:
    """Read the masks of an image as classes [H, W] uint8, see `read_masks`; where kinds overlap, the first counts."""
    of_kinds = read_masks(example)[..., [[*KINDS].index(kind) for kind in kinds]] > 0
    return np.where(of_kinds.any(-1), of_kinds.argmax(-1) + 1, 0).astype(np.uint8)


def read_masks(example: downloads.Example) -> np.ndarray:
    """Read the masks of an image as [H, W, 5] uint8, 0 or 255, a channel for each of `KINDS`; 0 where there is no file.

    Raises:
      ValueError: a mask is broken or of another size than the image; or as `images.read` raises for the image.
    """
    shape = images.read(example.file).shape[:2]
    found = np.zeros((*shape, len(KINDS)), np.uint8)
    for path in example.extra:
        mask = _mask(path)
        if mask.shape != shape:
            raise ValueError(f"{path.name} is {mask.shape}, and its image {shape}")
        found[mask, list(KINDS).index(path.stem[-2:].upper())] = 255
    return found


def masks(manual_dir: str | Path, image_id: str) -> dict[str, np.ndarray]:
    """Return the masks of one image at full size.

    Args:
      manual_dir: the folder that the download was unpacked into.
      image_id: as `load` gives it.

    Returns:
      A mask for each of `KINDS`, [H, W] bool at the size of the file, all False where there is no such file.

    Raises:
      UserError: there is no such image, or it or one of its masks is broken or differs in size.
    """
    found = {example.id: example for example in masked(downloads.list_files(DATASET, manual_dir))[1]}
    if image_id not in found:
        raise UserError(
            f"{image_id} is none of the {len(found)} images under {manual_dir}, such as {next(iter(found))}",
            code="unknown-name",
        )
    with _as_user_error(manual_dir):
        read = read_masks(found[image_id]) > 0
    return dict(zip(KINDS, np.moveaxis(read, -1, 0), strict=True))


def _images(download: downloads.Download) -> dict[str, Path]:
    """Return the images by id, in the order of the files."""
    found = {}
    for file in download.files:
        named = _IMAGE.search(file)
        if named:
            found.setdefault(_id(named), download.root / file)
    if not found:
        raise downloads.missing_error(download, "A. Segmentation/1. Original Images/a. Training Set/IDRiD_01.jpg")
    return found


def _id(named: re.Match) -> str:
    return f"{_SIDES[named['side'].lower()]}/{named['id']}"


def _mask_paths(download: downloads.Download) -> dict[tuple[str, str], Path]:
    """Return the masks by image id and kind."""
    named = [(_MASK.search(file), file) for file in download.files]
    found = {(_id(match), match["kind"].upper()): download.root / file for match, file in named if match}
    return {(name, kind): path for (name, kind), path in found.items() if kind in KINDS}


def _labels(download: downloads.Download, names: list[str], kind: str) -> dict[str, str]:
    paths = _mask_paths(download)
    if all((name, kind) not in paths for name in names):
        raise downloads.missing_error(
            download, f"2. All Segmentation Groundtruths/a. Training Set/*/IDRiD_*_{kind}.tif"
        )
    with _as_user_error(download.root):
        present = {name: (name, kind) in paths and bool(_mask(paths[name, kind]).any()) for name in names}
    labels = {name: CLASSES[there] for name, there in present.items()}
    if len(set(labels.values())) == 1:
        raise UserError(
            f"data.options.label={kind}: {KINDS[kind]} are {labels[names[0]]} in every image: choose another kind",
            code="too-few",
            field="data.options.label",
        )
    return labels


def _mask(path: Path) -> np.ndarray:
    # Decoders raise nearly any exception at a broken file.
    try:
        return np.asarray(images.read(path).any(-1))
    except Exception as error:
        raise ValueError(f"{path.name} cannot be read as a mask: {loading.reason(error)}") from error


@contextlib.contextmanager
def _as_user_error(root: str | Path) -> Iterator[None]:
    """Turn the error of a file that cannot be read into a UserError."""
    try:
        yield
    except Exception as error:
        raise UserError(
            f"{root}: {loading.reason(error)}: download it again", code="damaged", field="data.manual_dir"
        ) from error
