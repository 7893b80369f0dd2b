"""Skin cancer ISIC, 9 classes: 2,239 training and 118 test images of the ISIC archive, as Kaggle gives them.

The files lie in `{Train,Test}/<class>/*.jpg`, which is the official split; lesions and patients are not published. 155
file names stand in two classes, actinic keratosis and nevus, or melanoma and seborrheic keratosis. 137 of them do so
within Train: neither copy is kept, which leaves two training images of seborrheic keratosis. 18 are in Train under one
class and in Test under the other: these leave Train, as every image of Test does, so that Test is whole. Of those 18,
the 13 that are also in HAM10000 have the label of Test there.
"""

import functools

from absl import logging

from jaxssl.data import downloads, prepared

DATASET = downloads.Dataset(
    name="isic9",
    title="dermatoscopic images of nine skin diseases",
    classes=(
        "actinic keratosis",
        "basal cell carcinoma",
        "dermatofibroma",
        "melanoma",
        "nevus",
        "pigmented benign keratosis",
        "seborrheic keratosis",
        "squamous cell carcinoma",
        "vascular lesion",
    ),
    images=2357,
    group="",
    license="of the ISIC archive: CC0, CC BY or CC BY-NC, by image",
    homepage="https://www.kaggle.com/datasets/nodoubttome/skin-cancer9-classesisic",
    download="nodoubttome/skin-cancer9-classesisic from Kaggle",
    citation="""@misc{katanskiy2019isic9,
  author = {Katanskiy, Andrey},
  title = {Skin Cancer {ISIC}: The International Skin Imaging Collaboration}, howpublished = {Kaggle}, year = {2019},
  url = {https://www.kaggle.com/datasets/nodoubttome/skin-cancer9-classesisic}
}""",
)


def examples(download: downloads.Download) -> list[downloads.Example]:
    """Return the images of Test, and those of Train that are not in Test and are in one class only."""
    files = downloads.class_folders(download, ("Train", "Test"), DATASET.classes, extensions=(".jpg", ".jpeg"))
    places = {side: {} for side in ("Train", "Test")}
    for side, label, path in files:
        places[side].setdefault(path.name, []).append((label, path))
    found = []
    for side, named in places.items():
        kept = {
            name: at for name, at in named.items() if len(at) == 1 and (side == "Test" or name not in places["Test"])
        }
        if len(kept) < len(named):
            logging.warning(
                "%s: left out %d of the %d images in %s, which stand in two classes%s",
                *(download.root, len(named) - len(kept), len(named), side, " or in Test" if side == "Train" else ""),
            )
        found += [
            downloads.Example(name, path, label=label, split=side.lower()) for name, [(label, path)] in kept.items()
        ]
    return found


load = functools.partial(prepared.load, DATASET, examples)
