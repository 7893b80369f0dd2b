"""Covid-19 chest x-rays, 3 classes: 251 training and 66 test images, as Kaggle gives them.

The files lie in `Covid19-dataset/{train,test}/<class>/`, which is the official split. Patients are not published. The
formats are mixed, as are colour, grey and alpha: all become RGB.
"""

import functools

from jaxssl.data import downloads, prepared

DATASET = downloads.Dataset(
    name="covid19_xray",
    title="chest x-rays with Covid-19, with other viral pneumonia, and without",
    classes=("Covid", "Normal", "Viral Pneumonia"),
    images=317,
    group="",
    license="CC BY-SA 4.0",
    homepage="https://www.kaggle.com/datasets/pranavraikokte/covid19-image-dataset",
    download="pranavraikokte/covid19-image-dataset from Kaggle",
    citation="""@misc{raikote2020covid,
  author = {Raikote, Pranav}, title = {Covid-19 Image Dataset}, howpublished = {Kaggle}, year = {2020},
  url = {https://www.kaggle.com/datasets/pranavraikokte/covid19-image-dataset}
}""",
)


def examples(download: downloads.Download) -> list[downloads.Example]:
    """Return all images; ids are paths, since file names repeat in the classes."""
    return [
        downloads.Example(f"{side}/{label}/{path.name}", path, label=label, split=side)
        for side, label, path in downloads.class_folders(download, ("train", "test"), DATASET.classes)
    ]


load = functools.partial(prepared.load, DATASET, examples)
