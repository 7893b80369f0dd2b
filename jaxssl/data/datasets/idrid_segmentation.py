"""IDRiD, segmentation part (Porwal et al. 2018, Data 3(3):25): 81 fundus images with masks of lesions and optic disc.

In `A. Segmentation`, `1. Original Images/{a. Training Set,b. Testing Set}/IDRiD_<nn>.jpg` are 54 and 27 images of
4288 x 2848, and `2. All Segmentation Groundtruths/{a. ...,b. ...}/<kind>/IDRiD_<nn>_{MA,HE,EX,SE,OD}.tif` their masks;
where an image has no such lesion, it has no such file. The grading part, `B. Disease Grading`, may lie beside it: its
numbers have three digits.

jaxssl classifies images, so that the images come without labels, for pretraining, unless `data.options.label` names a kind:
then the two classes are whether the mask of that kind has any pixel. Kinds that all images have are refused. The
official split is kept; which images show the same patient is not published.

The masks themselves are prepared and kept as images are: `load_masks` gives those of all images at the size of these,
from the memory or from records, and `masks` those of one image at the size of its file.
"""

import contextlib
import functools
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxssl.data import source
from jaxssl.data.datasets import prepared
from jaxssl.data.io import images
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

DATASET = prepared.Dataset(
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


def examples(download: prepared.Download, label: str = "") -> list[prepared.Example]:
    """The images, labelled by whether they have lesions of the kind `label` where that is not empty."""
    found = _images(download)
    labels = _labels(download, list(found), label) if label else {}
    return [prepared.Example(name, path, labels.get(name), split=name.split("/")[0]) for name, path in found.items()]


def load(
    *,
    manual_dir: str,
    cache_dir: str,
    size: int,
    on_bad_file: str = "stop",
    memory_mib: float = math.inf,
    label: str = "",
) -> source.Source:
    """Loads the images, without labels or with those of one kind of `KINDS`; ids are such as "train/IDRiD_01".

    See `prepared.load`.
    """
    if label and label not in KINDS:
        raise UserError(
            f"data.options.label is '{label}': it must be one of {', '.join(KINDS)}, or empty for no labels"
        )
    return prepared.load(
        DATASET._replace(classes=CLASSES) if label else DATASET,
        functools.partial(examples, label=label),
        manual_dir=manual_dir,
        cache_dir=cache_dir,
        size=size,
        on_bad_file=on_bad_file,
        memory_mib=memory_mib,
    )


def load_masks(
    *, manual_dir: str, cache_dir: str, size: int, on_bad_file: str = "stop", memory_mib: float = math.inf
) -> source.Source:
    """Loads the masks of all images, as a dataset of their own.

    Its ids are those of `load`, in the same order; but where `on_bad_file` is "skip", either may lack other ones. Its
    images are [N, size, size, 5] uint8, a channel for each of `KINDS`, cut and resampled as the images are: 255 where
    the lesion fills the pixel, 0 where there is none, and its share between. `mask >= 128` is the nearest mask of two
    values; small lesions have lower values only, and vanish from it. See `prepared.load`.
    """
    return prepared.load(
        DATASET._replace(title="masks of the lesions of diabetic retinopathy", read=read_masks),
        mask_examples,
        manual_dir=manual_dir,
        cache_dir=cache_dir,
        size=size,
        on_bad_file=on_bad_file,
        memory_mib=memory_mib,
    )


def mask_examples(download: prepared.Download) -> list[prepared.Example]:
    """Those of `examples`, with the files of their masks."""
    of: dict[str, tuple[Path, ...]] = {}
    for (name, _), path in sorted(_mask_paths(download).items()):
        of[name] = (*of.get(name, ()), path)
    if not of:
        raise prepared.missing(download, "2. All Segmentation Groundtruths/a. Training Set/*/IDRiD_*_*.tif")
    return [example._replace(extra=of.get(example.id, ())) for example in examples(download)]


def read_masks(example: prepared.Example) -> np.ndarray:
    """[H, W, 5] uint8 at the size of the image, 0 or 255, a channel for each of `KINDS`; 0 where there is no file.

    Raises:
      ValueError: a mask that is broken or of another size; besides, what `images.read` raises at the image.
    """
    shape = images.read(example.path).shape[:2]
    found = np.zeros((*shape, len(KINDS)), np.uint8)
    for path in example.extra:
        mask = _mask(path)
        if mask.shape != shape:
            raise ValueError(f"{path.name} is {mask.shape}, and its image {shape}")
        found[mask, list(KINDS).index(path.stem[-2:].upper())] = 255
    return found


def masks(manual_dir: str | Path, image_id: str) -> dict[str, np.ndarray]:
    """The masks of one image.

    Args:
      manual_dir: the folder that the download was unpacked into.
      image_id: as `load` gives it.

    Returns:
      A mask for each of `KINDS`, [H, W] bool at the size of the file, all False where there is no such file.

    Raises:
      UserError: no such image, or it or a mask of it is broken, or of another size.
    """
    found = {example.id: example for example in mask_examples(prepared.look(DATASET, manual_dir))}
    if image_id not in found:
        raise UserError(
            f"{image_id} is none of the {len(found)} images under {manual_dir}, such as {next(iter(found))}"
        )
    with _to_mend(manual_dir):
        read = read_masks(found[image_id]) > 0
    return dict(zip(KINDS, np.moveaxis(read, -1, 0), strict=True))


def _images(download: prepared.Download) -> dict[str, Path]:
    """By image id, in the order of the files."""
    found = {}
    for file in download.files:
        named = _IMAGE.search(file)
        if named:
            found.setdefault(_id(named), download.root / file)
    if not found:
        raise prepared.missing(download, "A. Segmentation/1. Original Images/a. Training Set/IDRiD_01.jpg")
    return found


def _id(named: re.Match) -> str:
    return f"{_SIDES[named['side'].lower()]}/{named['id']}"


def _mask_paths(download: prepared.Download) -> dict[tuple[str, str], Path]:
    """By image id and kind."""
    named = [(_MASK.search(file), file) for file in download.files]
    found = {(_id(match), match["kind"].upper()): download.root / file for match, file in named if match}
    return {(name, kind): path for (name, kind), path in found.items() if kind in KINDS}


def _labels(download: prepared.Download, names: list[str], kind: str) -> dict[str, str]:
    paths = _mask_paths(download)
    if all((name, kind) not in paths for name in names):
        raise prepared.missing(download, f"2. All Segmentation Groundtruths/a. Training Set/*/IDRiD_*_{kind}.tif")
    with _to_mend(download.root):
        present = {name: (name, kind) in paths and bool(_mask(paths[name, kind]).any()) for name in names}
    labels = {name: CLASSES[there] for name, there in present.items()}
    if len(set(labels.values())) == 1:
        raise UserError(
            f"data.options.label={kind}: {KINDS[kind]} are {labels[names[0]]} in every image: choose another kind"
        )
    return labels


def _mask(path: Path) -> np.ndarray:
    # As in reading images: decoders raise nearly anything at a broken file.
    try:
        return images.read(path).any(-1)
    except Exception as error:
        raise ValueError(f"{path.name} cannot be read as a mask: {images.reason(error)}") from error


@contextlib.contextmanager
def _to_mend(root: str | Path) -> Iterator[None]:
    """A file that cannot be read is the user's to mend."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{root}: {images.reason(error)}: download it again") from error
