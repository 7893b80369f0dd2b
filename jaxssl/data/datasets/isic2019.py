"""ISIC 2019: 25,331 dermatoscopic images in 8 classes, gathered from HAM10000, BCN20000 and MSK.

The download holds `ISIC_2019_Training_Input/*.jpg`, `ISIC_2019_Training_GroundTruth.csv` with one column a class, and
`ISIC_2019_Training_Metadata.csv`. An image's group is its lesion; an image without one is a group of its own. The
column UNK is for the test set, of which the labels were never given out: no training image may have it. The 10,015
images of HAM10000 are among these, with the same ids.
"""

import functools

from jaxssl.data import downloads, prepared
from jaxssl.errors import UserError

DATASET = downloads.Dataset(
    name="isic2019",
    title="dermatoscopic images of eight skin diseases",
    classes=("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC"),
    images=25_331,
    group="lesion",
    license="CC BY-NC 4.0",
    homepage="https://challenge.isic-archive.com/data/#2019",
    download="the training input, ground truth and metadata of ISIC 2019 (https://challenge.isic-archive.com/data/#2019)",
    citation="""@article{tschandl2018ham10000,
  author = {Tschandl, Philipp and Rosendahl, Cliff and Kittler, Harald},
  title = {The {HAM10000} dataset, a large collection of multi-source dermatoscopic images of common pigmented skin
    lesions},
  journal = {Scientific Data}, volume = {5}, pages = {180161}, year = {2018}, doi = {10.1038/sdata.2018.161}
}
@misc{codella2017skin,
  author = {Codella, Noel C. F. and others},
  title = {Skin Lesion Analysis Toward Melanoma Detection: A Challenge at the 2017 {ISBI}, Hosted by {ISIC}},
  year = {2017}, eprint = {1710.05006}, archivePrefix = {arXiv}
}
@misc{combalia2019bcn20000,
  author = {Combalia, Marc and others}, title = {{BCN20000}: Dermoscopic Lesions in the Wild},
  year = {2019}, eprint = {1908.02288}, archivePrefix = {arXiv}
}""",
)


def examples(download: downloads.Download) -> list[downloads.Example]:
    """Return the rows of the ground truth, with the lesions of the metadata."""
    truth = downloads.find(download, "ISIC_2019_Training_GroundTruth.csv")
    metadata = downloads.find(download, "ISIC_2019_Training_Metadata.csv")
    lesions = {row["image"]: row.get("lesion_id") for _, row in downloads.read_table(metadata, ("image",))}
    places = downloads.image_files(download)
    return [
        downloads.Example(
            row["image"],
            places.get(row["image"]),
            label=_label(place, row),
            group=lesions.get(row["image"]) or row["image"],
        )
        for place, row in downloads.read_table(truth, ("image", *DATASET.classes))
    ]


def _label(place: str, row: dict[str, str]) -> str:
    marked = [name for name in (*DATASET.classes, "UNK") if row.get(name) not in ("0", "0.0", "", None)]
    if len(marked) != 1 or marked == ["UNK"]:
        has = " and ".join(marked) or "none"
        raise UserError(
            f"{place}: the class of {row['image']} is {has}, not one of {', '.join(DATASET.classes)}",
            code="unknown-name",
            field="data.manual_dir",
        )
    return marked[0]


load = functools.partial(prepared.load, DATASET, examples)
