"""DeepLense (ML4SCI; Alexander et al. 2020, ApJ 893:15): simulated strong lenses by the substructure of dark matter.

Four parts, each a download of its own, `data.options.part`:

| part | folders | classes | images of a class |
|---|---|---|---|
| common_test | `train`, `val` | no, sphere, vort | 10,000 and 2,500 of 150 x 150 in [0, 1] |
| model_i | `Model_I`, `Model_I_test` | axion, cdm, no_sub | about 30,000 and 5,000 of 150 x 150 |
| model_ii | `Model_II`, `Model_II_test` | the same | about 30,000 and 5,000 of 64 x 64 |
| model_iii | `Model_III`, `Model_III_test` | the same | about 30,000 and 5,000 of 64 x 64 |

In each folder is one for each class, with the images as npy. The second folder is the official test set, also where it
is called `val`, and validation images are split off from the first. A model without its second folder has no official
split. Files of `axion` hold the image and the mass of the axion as an array of objects: `jaxssl.safe_pickle` reads them
without running code, and the mass is left out. Images are float32. Which of them share a source galaxy is not
published, so that each is a group of its own.
"""

import functools
from typing import Any

import numpy as np

from jaxssl import safe_pickle
from jaxssl.data import downloads, prepared, source
from jaxssl.errors import UserError, did_you_mean

_SUBSTRUCTURE = ("axion", "cdm", "no_sub")
# The folders of the training and test images, and the classes.
PARTS = {
    "common_test": ("train", "val", ("no", "sphere", "vort")),
    "model_i": ("Model_I", "Model_I_test", _SUBSTRUCTURE),
    "model_ii": ("Model_II", "Model_II_test", _SUBSTRUCTURE),
    "model_iii": ("Model_III", "Model_III_test", _SUBSTRUCTURE),
}


def read(example: downloads.Example) -> np.ndarray:
    """Read the image as [1, H, W] or [H, W] of the file's dtype, without the mass."""
    array = safe_pickle.load_npy(example.file)
    if array.dtype.kind != "O":
        return array
    if array.shape != (2,) or np.ndim(array[1]):
        raise ValueError(f"an array of objects of shape {array.shape}, not an image and a mass")
    return array[0]


DATASET = downloads.Dataset(
    name="deeplense",
    title="simulated images of strong gravitational lenses",
    classes=PARTS["common_test"][2],
    group="",
    license="not stated",
    homepage="https://github.com/ML4SCI/DeepLense",
    download=(
        "the DeepLense images (links for models I to III at https://github.com/mwt5345/DeepLenseSim, common test I at "
        "https://drive.google.com/file/d/1ZEyNMEO43u3qhJAwJeBZxFBEYc_pVYZQ)"
    ),
    citation="""@article{alexander2020deep,
  author = {Alexander, Stephon and Gleyzer, Sergei and McDonough, Evan and Toomey, Michael W. and Usai, Emanuele},
  title = {Deep Learning the Morphology of Dark Matter Substructure},
  journal = {The Astrophysical Journal}, volume = {893}, number = {1}, pages = {15}, year = {2020},
  doi = {10.3847/1538-4357/ab7925}
}""",
    read=read,
    dtype="float32",
)


def examples(download: downloads.Download, part: str = "common_test") -> list[downloads.Example]:
    """Return the files of one part."""
    train, test, classes = PARTS[part]
    optional = () if part == "common_test" else (test,)
    found = downloads.class_folders(download, (train, test), classes, optional=optional, extensions=(".npy",))
    return [
        downloads.Example(f"{side}/{name}/{path.stem}", path, name, split="test" if side == test else "train")
        for side, name, path in found
    ]


def load(*, part: str = "common_test", **arguments: Any) -> source.Source:
    """Load one part; ids are such as "train/no/1". The arguments are those of `prepared.load`."""
    if part not in PARTS:
        raise UserError(
            f"data.options.part is '{part}': {did_you_mean(str(part), PARTS)}it must be one of {', '.join(PARTS)}",
            code="unknown-name",
            field="data.options.part",
        )
    dataset = DATASET._replace(classes=PARTS[part][2])
    return prepared.load(dataset, functools.partial(examples, part=part), **arguments)
