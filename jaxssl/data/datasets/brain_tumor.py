"""Brain tumour MRI (Cheng et al. 2015, PLoS ONE 10(10):e0140381): 3,064 contrast-enhanced T1 slices, 3 tumours.

The download is four archives of 766 MATLAB v7.3 (HDF5) files `<n>.mat` each, and `cvind.mat`; where they lie does not
matter. In the group `cjdata` of a file, `label` is 1 to 3 in the order of the classes, `PID` the patient, and `image`
int16, stored transposed: here [H, W, 1] float32 the right way round, most of them 512 x 512. An image's group is its
patient, of whom there are 233, and there is no official split. `cvind.mat` holds the part, 1 to 5, of the authors'
patient-wise cross-validation for each file in the order of their numbers: with it, `data.folds=5` uses these parts.

Copies as JPEG have lost the patient, and neighbouring slices of one patient are nearly the same image: such a copy is
for the dataset `folder`, which takes the groups for unknown. So are they taken here where all files have the same PID.

With `data.options.masks=True` each slice comes with the mask of its tumour: `tumorMask` of its file or, where that is
empty, the polygon `tumorBorder`. One copy as JPEG can be read then, too: `<n>.jpg` of any size with
`tumor_metadata.csv`, whose columns are `file`, `label` (1 to 3) and `tumorBorder_xy`, x and y in turn in pixels of the
original 512 x 512. It is read where it lists more slices than there are .mat files. Its patients are lost, and the
numbers of one patient's slices are mostly consecutive, so that blocks of `BLOCK` consecutive slices of one kind are
groups: that keeps most neighbours on one side of a split, and not all. Groups count as unknown there.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from absl import logging

from jaxssl.data import downloads, prepared, source
from jaxssl.data.io.masks import rasterize
from jaxssl.errors import UserError

SLICES = 3064
BLOCK = 20  # Slices of a group where patients are unknown; a patient has 13 on average.
SIDE = 512  # Pixels that borders refer to.
TABLE = "tumor_metadata.csv"


def read(example: downloads.Example) -> np.ndarray:
    """Read a slice as [H, W] float32."""
    with h5py.File(example.file) as opened:
        _label_and_patient(opened)
        return _array(opened, "cjdata/image").T.astype(np.float32)


def _array(opened: h5py.File, key: str) -> np.ndarray:
    found = opened[key]
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{key} is not an array")
    return found[()]


DATASET = downloads.Dataset(
    name="brain_tumor",
    title="slices of contrast-enhanced T1-weighted MRI with a brain tumour",
    classes=("meningioma", "glioma", "pituitary"),
    images=3064,
    group="patient",
    license="CC BY 4.0",
    homepage="https://doi.org/10.6084/m9.figshare.1512427.v5",
    download="brain_tumor_dataset from figshare 1512427 v5 (https://doi.org/10.6084/m9.figshare.1512427.v5)",
    citation="""@article{cheng2015brain,
  author = {Cheng, Jun and Huang, Wei and Cao, Shuangliang and Yang, Ru and Yang, Wei and Yun, Zhaoqiang and
    Wang, Zhijian and Feng, Qianjin},
  title = {Enhanced Performance of Brain Tumor Classification via Tumor Region Augmentation and Partition},
  journal = {PLoS ONE}, volume = {10}, number = {10}, pages = {e0140381}, year = {2015},
  doi = {10.1371/journal.pone.0140381}
}""",
    read=read,
    dtype="float32",
    mask_classes=("background", "tumor"),
    checksums=(
        ("brainTumorDataPublic_1-766.zip", "74b949ad33f042e6e103523091cd1428"),
        ("brainTumorDataPublic_767-1532.zip", "7e8a875500d2c8a346f270538e29890e"),
        ("brainTumorDataPublic_1533-2298.zip", "8227bf6080cb71f15a88be8d25c79ae7"),
        ("brainTumorDataPublic_2299-3064.zip", "b378a80d6174e5317d59eb28430c6652"),
    ),
)


def examples(download: downloads.Download) -> list[downloads.Example]:
    """Return the slices with labels and patients; one whose file is broken has neither, and fails when it is read."""
    files = downloads.image_files(download, extensions=(".mat",))
    slices = {number: path for number, path in files.items() if number.isdecimal()}
    if not slices:
        if downloads.image_files(download):
            raise UserError(
                f"data.manual_dir={download.root} holds no <n>.mat but images, a copy that has lost the patients: set "
                f"data.name to 'folder' and data.dir to its class folders, or download {DATASET.download}",
                code="unsupported",
                field="data.manual_dir",
            )
        raise downloads.missing_error(download, "<n>.mat")
    if len(slices) < SLICES:
        logging.warning("%s holds %d of the %d slices", download.root, len(slices), SLICES)
    folds = _folds(download)
    return [_example(number, path)._replace(fold=folds.get(number)) for number, path in slices.items()]


def _folds(download: downloads.Download) -> dict[str, int]:
    """Return the fold, from 0, by number of the file; empty if `cvind.mat` is missing."""
    path = downloads.image_files(download, extensions=(".mat",)).get("cvind")
    if path is None:
        return {}
    try:
        with h5py.File(path) as opened:
            parts = _array(opened, "cvind").ravel()
    # HDF5 raises many kinds at a broken file.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} cannot be read: {reason}: download it again", code="damaged", field="data.manual_dir"
        ) from error
    if len(parts) != SLICES or set(parts.tolist()) != set(range(1, 6)):
        raise UserError(
            f"{path} does not hold a part from 1 to 5 for each of {SLICES} slices: download it again",
            code="damaged",
            field="data.manual_dir",
        )
    return {str(i): int(part) - 1 for i, part in enumerate(parts, 1)}


def load(*, masks: bool = False, **arguments: Any) -> source.Source:
    """Load the slices; ids are the numbers of their files.

    Args:
      masks: whether to load the masks of the tumours; a copy as JPEG with a table of their borders will then do.
      **arguments: those of `prepared.load`.
    """
    where = arguments["manual_dir"]
    dataset, slices = masked(downloads.list_files(DATASET, where)) if masks else (DATASET, None)
    # Of a copy whose patients are lost, blocks of slices are kept together.
    described = dataset._replace(group=DATASET.group)
    loaded = prepared.load(described, lambda download: slices or examples(download), **arguments)
    if not dataset.group:
        logging.warning("%s: patients are unknown: blocks of %d consecutive slices are groups", where, BLOCK)
        return loaded._replace(groups_known=False)
    if len(np.unique(loaded.groups)) > 1:
        return loaded
    logging.warning(
        "%s: all %d slices have the PID '%s': patients are unknown, and one can be on two sides of a split",
        *(where, len(loaded.ids), loaded.groups[0]),
    )
    made = source.make(loaded.images, loaded.labels, loaded.ids, loaded.classes, folds=loaded.folds)
    return made if loaded.masks is None else source.with_masks(made, loaded.masks, loaded.mask_classes)


def masked(download: downloads.Download) -> tuple[downloads.Dataset, list[downloads.Example]]:
    """Return the dataset with masks, and its slices; of a copy as JPEG with a table of borders, without patients."""
    if listed := _list_jpegs(download):
        slices, borders = listed
        return DATASET._replace(read=None, group="", read_mask=lambda example: fill(borders[example.id])), slices
    return DATASET._replace(read_mask=read_mask), examples(download)


def read_mask(example: downloads.Example) -> np.ndarray:
    """Read the mask of a slice as [H, W] uint8."""
    with h5py.File(example.file) as opened:
        mask = _array(opened, "cjdata/tumorMask").T if "cjdata/tumorMask" in opened else np.zeros((0, 0))
        if mask.any():
            return (mask > 0).astype(np.uint8)
        border = _array(opened, "cjdata/tumorBorder").ravel()
        return fill(border, _array(opened, "cjdata/image").T.shape)


def fill(border: np.ndarray, shape: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    """Return the mask [H, W] uint8 of a border [x1, y1, x2, y2, ...] in pixels. ValueError if it is no polygon."""
    if len(border) % 2:
        raise ValueError(f"a border of {len(border)} numbers is no polygon")
    return rasterize(border.reshape(-1, 2), shape).astype(np.uint8)


def _list_jpegs(download: downloads.Download) -> tuple[list[downloads.Example], dict[str, np.ndarray]] | None:
    """Return slices and borders of a copy as JPEG; None where the download has more slices as .mat files."""
    tables = [file for file in download.files if file.rsplit("/", 1)[-1].lower() == TABLE]
    numbers = [number for number in downloads.image_files(download, extensions=(".mat",)) if number.isdecimal()]
    if not tables:
        return None
    path = download.root / tables[0]
    rows = downloads.read_table(path, ("file", "label", "tumorBorder_xy"))
    if len(rows) <= len(numbers):
        return None
    places = downloads.image_files(download, extensions=(".jpg", ".jpeg"))
    kinds = {str(i): name for i, name in enumerate(DATASET.classes, 1)}
    slices, borders = [], {}
    for place, row in rows:
        number = row["file"].rsplit(".", 1)[0]
        label = downloads.choose_value(place, row, "label", kinds)
        group = f"{label}-{int(number) // BLOCK}" if number.isdecimal() else number
        slices.append(downloads.Example(number, places.get(number), label, group, extra=(path,)))
        try:
            borders[number] = np.array(row["tumorBorder_xy"].split(), float)
        except ValueError as error:
            raise UserError(
                f"{place}: tumorBorder_xy holds something else than numbers: {error}",
                code="damaged",
                field="tumorBorder_xy",
            ) from error
    return slices, borders


def _example(number: str, path: Path) -> downloads.Example:
    try:
        with h5py.File(path) as opened:
            return downloads.Example(number, path, *_label_and_patient(opened))
    # As in reading images: HDF5 raises many kinds at a broken file, and one must not hide the others.
    except Exception:
        return downloads.Example(number, path, None, number)


def _label_and_patient(opened: h5py.File) -> tuple[str, str]:
    label = _array(opened, "cjdata/label").item()
    if label not in (1, 2, 3):
        raise ValueError(f"label {label} is not 1, 2 or 3")
    patient = _array(opened, "cjdata/PID").astype("<u2").tobytes().decode("utf-16-le").strip("\0 ")
    if not patient:
        raise ValueError("the PID is empty")
    return DATASET.classes[int(label) - 1], patient
