"""Chest x-rays of children with and without pneumonia (Kermany et al. 2018, Cell 172:1122): 5,856 images.

The files lie in `chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg`. The test images are the official test split.
The 16 images of `val`, which may be missing, share the patients' numbers with `train`: they are training images here,
and validation is split from both by patient. A patient is `person<n>` with pneumonia, and the number in `IM-<n>` or
`NORMAL2-IM-<n>` without, taken for the same one in both. The numbers of test begin anew, as do those of each class.
"""

import functools
import re
from pathlib import Path

from jaxssl.data import downloads, prepared
from jaxssl.errors import UserError

DATASET = downloads.Dataset(
    name="chest_xray",
    title="chest x-rays of children with and without pneumonia",
    classes=("NORMAL", "PNEUMONIA"),
    images=5856,
    group="patient",
    license="CC BY 4.0",
    homepage="https://doi.org/10.17632/rscbjbr9sj.2",
    download="the chest x-rays from Mendeley rscbjbr9sj, or paultimothymooney/chest-xray-pneumonia from Kaggle",
    citation="""@article{kermany2018identifying,
  author = {Kermany, Daniel S. and Goldbaum, Michael and Cai, Wenjia and others},
  title = {Identifying Medical Diagnoses and Treatable Diseases by Image-Based Deep Learning},
  journal = {Cell}, volume = {172}, number = {5}, pages = {1122--1131}, year = {2018},
  doi = {10.1016/j.cell.2018.02.010}
}""",
)
_PATIENT = {"NORMAL": re.compile(r"IM-(\d+)"), "PNEUMONIA": re.compile(r"person(\d+)", re.IGNORECASE)}


def examples(download: downloads.Download) -> list[downloads.Example]:
    """Return all images; ids are paths, such as `train/NORMAL/IM-0115-0001.jpeg`."""
    files = downloads.class_folders(
        download, ("train", "val", "test"), DATASET.classes, optional=("val",), extensions=(".jpeg", ".jpg")
    )
    found = []
    for side, label, path in files:
        split = "test" if side == "test" else "train"
        name, group = f"{side}/{label}/{path.name}", f"{split}/{label}/{_patient(label, path)}"
        found.append(downloads.Example(name, path, label, group, split))
    return found


def _patient(label: str, path: Path) -> int:
    match = _PATIENT[label].search(path.name)
    if not match:
        raise UserError(
            f"{path}: no patient in the file's name, such as {_PATIENT[label].pattern}: download it again",
            code="damaged",
            field="data.manual_dir",
        )
    return int(match.group(1))


load = functools.partial(prepared.load, DATASET, examples)
