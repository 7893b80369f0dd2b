"""IDRiD, segmentation part (Porwal et al. 2018, Data 3(3):25): 81 fundus images with masks of lesions and optic disc.

In `A. Segmentation`, `1. Original Images/{a. Training Set,b. Testing Set}/IDRiD_<nn>.jpg` are 54 and 27 images of
4288 x 2848, and `2. All Segmentation Groundtruths/{a. ...,b. ...}/<kind>/IDRiD_<nn>_{MA,HE,EX,SE,OD}.tif` their masks;
where an image has no such lesion, it has no such file. The grading part, `B. Disease Grading`, may lie beside it: its
numbers have three digits.

jaxssl classifies images, so that the images come without labels, for pretraining, unless `data.kw.label` names a kind:
then the two classes are whether the mask of that kind has any pixel. Kinds that all images have are refused. `masks`
gives the masks themselves. The official split is kept; which images show the same patient is not published.
"""

import functools
import re
from pathlib import Path

import numpy as np

from jaxssl.data import images, source
from jaxssl.data.builders import prepared
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


def load(*, manual_dir: str, cache_dir: str, size: int, on_bad_file: str = "stop", label: str = "") -> source.Source:
    """Loads the images, without labels or with those of one kind of `KINDS`; ids are such as "train/IDRiD_01".

    See `prepared.load`.
    """
    if label and label not in KINDS:
        raise UserError(f"data.kw.label is '{label}': it must be one of {', '.join(KINDS)}, or empty for no labels")
    return prepared.load(
        DATASET._replace(classes=CLASSES) if label else DATASET,
        functools.partial(examples, label=label),
        manual_dir=manual_dir,
        cache_dir=cache_dir,
        size=size,
        on_bad_file=on_bad_file,
    )


def masks(manual_dir: str | Path, image_id: str) -> dict[str, np.ndarray]:
    """The masks of one image.

    Args:
      manual_dir: the folder that the download was unpacked into.
      image_id: as `load` gives it.

    Returns:
      A mask for each of `KINDS`, [H, W] bool at the size of the file, all False where there is no such file.

    Raises:
      UserError: no such image, or a mask that is broken or of another size.
    """
    download = prepared.Download(DATASET, Path(manual_dir), images.find(Path(manual_dir)))
    found = _images(download)
    if image_id not in found:
        raise UserError(
            f"{image_id} is none of the {len(found)} images under {manual_dir}, such as {next(iter(found))}"
        )
    paths = _mask_paths(download)
    shape = images.read(found[image_id]).shape[:2]
    read = {kind: _mask(paths[image_id, kind]) for kind in KINDS if (image_id, kind) in paths}
    for kind, mask in read.items():
        if mask.shape != shape:
            raise UserError(f"{paths[image_id, kind]} is {mask.shape}, and its image {shape}: download it again")
    return {kind: read.get(kind, np.zeros(shape, bool)) for kind in KINDS}


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
    return {(_id(match), match["kind"].upper()): download.root / file for match, file in named if match}


def _labels(download: prepared.Download, names: list[str], kind: str) -> dict[str, str]:
    paths = _mask_paths(download)
    if all((name, kind) not in paths for name in names):
        raise prepared.missing(download, f"2. All Segmentation Groundtruths/a. Training Set/*/IDRiD_*_{kind}.tif")
    present = {name: (name, kind) in paths and bool(_mask(paths[name, kind]).any()) for name in names}
    labels = {name: CLASSES[there] for name, there in present.items()}
    if len(set(labels.values())) == 1:
        raise UserError(
            f"data.kw.label={kind}: {KINDS[kind]} are {labels[names[0]]} in every image: choose another kind"
        )
    return labels


def _mask(path: Path) -> np.ndarray:
    try:
        return images.read(path).any(-1)
    except Exception as error:
        raise UserError(
            f"{path} cannot be read as a mask: {' '.join(str(error).split())}: download it again"
        ) from error
