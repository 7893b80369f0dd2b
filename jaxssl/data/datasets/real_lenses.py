"""Real lenses of DeepLense (ML4SCI): observed galaxies, lens or not, in one band or three.

`data.options.bands` chooses one of two downloads:

| bands | files | images |
|---|---|---|
| 1 | `<n>_hst.npy` (lens, 152) and `nl_<n>_hst.npy` (not a lens, 63) | 334 x 334, Hubble |
| 3 | `lenses/*.npy` and `nonlenses/*.npy`, or these with `train_` and `test_` before | 3 x H x W in g, r, i |

Sizes in three bands vary a little; folders with `train_` and `test_` are the official split. Images are float32 in the
values of the files. Of those in one band, 20 (12 lenses, 8 others) hold NaN, which stops unless `data.nan` says what
to put there. Which images show the same object is not published.
"""

import functools
import re
from typing import Any

import numpy as np

from jaxssl.data import downloads, prepared, source
from jaxssl.data.io import images
from jaxssl.errors import UserError

_FILES = {
    1: re.compile(r"(?:^|/)(?P<id>(?P<non>nl_)?\d+_hst)\.npy$", re.IGNORECASE),
    3: re.compile(r"(?:^|/)(?P<id>(?:(?P<side>train|test)_)?(?P<non>non)?lenses/[^/]+)\.npy$", re.IGNORECASE),
}
_WANTED = {(1, "lens"): "<n>_hst.npy", (1, "not_lens"): "nl_<n>_hst.npy"}
_WANTED |= {(3, "lens"): "lenses/*.npy", (3, "not_lens"): "nonlenses/*.npy"}


def read(example: downloads.Example, bands: int) -> np.ndarray:
    """Read an image as [H, W, bands] float32."""
    image = images.read(example.file)
    if image.shape[-1] != bands:
        raise ValueError(f"has {image.shape[-1]} bands, not {bands} as data.options.bands")
    return image


DATASET = downloads.Dataset(
    name="real_lenses",
    title="observed galaxies that are strong gravitational lenses or not",
    classes=("not_lens", "lens"),
    group="",
    license="not stated",
    homepage="https://github.com/ML4SCI/DeepLense",
    download=(
        "the DeepLense real lenses (one band: real_hst, as https://github.com/ML4SCI/DeepLense tells; three bands: "
        "https://drive.google.com/file/d/1doUhVoq1-c9pamZVLpvjW1YRDMkKO1Q5)"
    ),
    citation="""@misc{deeplense,
  author = {{ML4SCI}}, title = {{DeepLense}}, howpublished = {\\url{https://github.com/ML4SCI/DeepLense}}
}""",
    read=functools.partial(read, bands=1),
    dtype="float32",
)


def examples(download: downloads.Download, bands: int = 1) -> list[downloads.Example]:
    """Return the images of one of the two downloads; a file that occurs twice is listed once."""
    found = {}
    for file in download.files:
        named = _FILES[bands].search(file)
        if named:
            name, label = named["id"], "not_lens" if named["non"] else "lens"
            side = (named.groupdict().get("side") or "train").lower()
            found.setdefault(name, downloads.Example(name, download.root / file, label, split=side))
    for label in DATASET.classes:
        if all(example.label != label for example in found.values()):
            raise downloads.missing_error(download, _WANTED[bands, label])
    return list(found.values())


def load(*, bands: int = 1, **arguments: Any) -> source.Source:
    """Load the images in one band or three, ids "12_hst" or "lenses/12"; the arguments are those of `prepared.load`."""
    if bands not in _FILES:
        raise UserError(
            f"data.options.bands is {bands!r}: it must be 1 or 3", code="out-of-range", field="data.options.bands"
        )
    dataset = DATASET._replace(read=functools.partial(read, bands=bands))
    return prepared.load(dataset, functools.partial(examples, bands=bands), **arguments)
