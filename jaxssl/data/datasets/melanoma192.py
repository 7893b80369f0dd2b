"""ISIC 2020 at 192 x 192 pixels (Rotemberg et al. 2021, Sci. Data 8:34): 33,126 images of 2,056 patients.

The download holds `train/ISIC_*.jpg` with `train.csv` and `test/ISIC_*.jpg` with `test.csv`. An image's group is its
patient. Where `tfrecord` is -1, an image is a duplicate of another (434 are), and is left out. 584 images show a
melanoma. There is no official split: the 10,982 test images of the challenge have no labels here, and belong to the
dataset as such, for `pretrain.on="train+unlabelled"` alone. They are looked for where `test.csv` or `test/` is there.
"""

import functools

from jaxssl.data import downloads, prepared

DATASET = downloads.Dataset(
    name="melanoma192",
    title="dermatoscopic images with and without melanoma",
    classes=("benign", "malignant"),
    images=33_126,
    group="patient",
    license="CC BY-NC 4.0",
    homepage="https://www.kaggle.com/datasets/cdeotte/jpeg-melanoma-192x192",
    download="cdeotte/jpeg-melanoma-192x192 from Kaggle",
    citation="""@article{rotemberg2021patient,
  author = {Rotemberg, Veronica and Kurtansky, Nicholas and Betz-Stablein, Brigid and others},
  title = {A patient-centric dataset of images and metadata for identifying melanomas using clinical context},
  journal = {Scientific Data}, volume = {8}, pages = {34}, year = {2021}, doi = {10.1038/s41597-021-00815-z}
}""",
)


def examples(download: downloads.Download) -> list[downloads.Example]:
    """Return the rows of the tables that are not duplicates; those of the test images have no label."""
    places = downloads.image_files(download, "train")
    known = {"0": DATASET.classes[0], "1": DATASET.classes[1]}
    rows = downloads.read_table(
        downloads.find(download, "train.csv"), ("image_name", "patient_id", "target", "tfrecord")
    )
    labelled = [
        downloads.Example(
            row["image_name"],
            places.get(row["image_name"]),
            label=downloads.choose_value(place, row, "target", known),
            group=row["patient_id"],
        )
        for place, row in rows
        if row["tfrecord"] != "-1"
    ]
    unlabelled = downloads.image_files(download, "test")
    if not unlabelled and not any(f"/{file}".lower().endswith("/test.csv") for file in download.files):
        return labelled
    rows = downloads.read_table(downloads.find(download, "test.csv"), ("image_name", "patient_id"))
    return labelled + [
        downloads.Example(row["image_name"], unlabelled.get(row["image_name"]), label=None, group=row["patient_id"])
        for _, row in rows
    ]


load = functools.partial(prepared.load, DATASET, examples)
