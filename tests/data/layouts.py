"""Tiny downloads in the layouts of the real ones, and what is counted in what was loaded of them."""

import csv
from collections import Counter

import numpy as np
from PIL import Image

from jaxssl.data import records


def picture(path, shade=0, size=(8, 8), mode="RGB", **kw):
    """Of one colour, or grey where `shade` is a number."""
    if mode == "RGB" and isinstance(shade, int):
        shade = (shade, shade, shade)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, shade).save(path, **kw)


def table(path, rows, **kw):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file, **kw).writerows(rows)


def litter(root):
    """What archives hold that were made on a Mac: a hidden file in each folder, and a shadow of every file."""
    for file in [path for path in root.rglob("*") if path.is_file()]:
        (file.parent / ".DS_Store").write_bytes(b"Bud1")
        shadow = root / "__MACOSX" / file.relative_to(root)
        shadow.parent.mkdir(parents=True, exist_ok=True)
        shadow.with_name("._" + file.name).write_bytes(b"Mac OS X")
        shadow.write_bytes(b"Mac OS X")


def load(builder, root, **kw):
    """By way of a cache beside the download."""
    return builder.load(manual_dir=str(root), cache_dir=str(root.parent / "cache"), **({"size": 8, "fit": "crop"} | kw))


def counts(got, side=None):
    """Images of each class, on one side of the official split or altogether."""
    rows = range(len(got.ids)) if side is None else (got.official == side).nonzero()[0]
    return dict(Counter(got.classes[got.labels[i]] for i in rows))


def check_streams(load, root, **kw):
    """What is too much for the memory is the same in records, and other keywords or files are other records."""
    held, stored = load(root, **kw), load(root, memory_mib=0, **kw)
    assert isinstance(held.images, np.ndarray) and isinstance(stored.images, records.Images)
    np.testing.assert_array_equal(stored.images[:], held.images)
    assert stored.fingerprint == held.fingerprint
    return stored
