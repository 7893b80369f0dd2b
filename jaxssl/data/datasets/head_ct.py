"""Head CT, haemorrhage: 200 slices, one a patient, half of them with a haemorrhage, as Kaggle gives them.

The download holds `labels.csv` with the columns `id`, a number, and ` hemorrhage`, and the images `head_ct/000.png` to
`199.png`, in one or two folders of that name. There is no official split. Sizes and modes differ: all become RGB.
"""

import functools

from jaxssl.data import downloads, prepared

DATASET = downloads.Dataset(
    name="head_ct",
    title="slices of head CT with and without haemorrhage",
    classes=("normal", "hemorrhage"),
    images=200,
    group="patient",
    license="CC0",
    homepage="https://www.kaggle.com/datasets/felipekitamura/head-ct-hemorrhage",
    download="felipekitamura/head-ct-hemorrhage from Kaggle",
    citation="""@misc{kitamura2018head,
  author = {Kitamura, Felipe}, title = {Head {CT}: hemorrhage}, howpublished = {Kaggle}, year = {2018},
  doi = {10.34740/KAGGLE/DSV/152137}
}""",
)


def examples(download: downloads.Download) -> list[downloads.Example]:
    """Return the rows of the table; the id of the first is 000."""
    places = downloads.image_files(download, "head_ct")
    known = {"0": DATASET.classes[0], "1": DATASET.classes[1]}
    found = []
    for place, row in downloads.read_table(downloads.find(download, "labels.csv"), ("id", "hemorrhage")):
        name = row["id"].zfill(3)
        label = downloads.choose_value(place, row, "hemorrhage", known)
        found.append(downloads.Example(name, places.get(name), label, name))
    return found


load = functools.partial(prepared.load, DATASET, examples)
