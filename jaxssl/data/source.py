"""What every dataset becomes: images in memory or in records, each with a label, an id and a group."""

import hashlib
from typing import NamedTuple

import numpy as np

from jaxssl.data import records

UNLABELLED = -1


class Source(NamedTuple):
    """Images of one size with what is known of each; the same row in every array is the same image.

    Attributes:
      images: [N, H, W, C] uint8, uint16 or float32, in the values of the files; an array, or what reads as one.
      labels: [N] int32, an index into `classes`, or `UNLABELLED`.
      groups: [N] str, the patient, lesion or series; the image's own id where the download has none.
      ids: [N] str, unique and stable: they name images in `splits.json` and `predictions.csv`.
      classes: names of the classes, in the order of `labels`; empty where nothing is labelled.
      groups_known: whether `groups` says more than `ids` do. Unknown is not "no leakage".
      official: [N] str of "train", "validation" and "test" where the dataset comes with a split, else None.
      folds: [N] int32 from 0 on, the part of a cross-validation that the dataset itself gives each image, else None.
      fingerprint: sha256 of all of the above, to tell one version of the data from another.
    """

    images: np.ndarray | records.Images
    labels: np.ndarray
    groups: np.ndarray
    ids: np.ndarray
    classes: tuple[str, ...]
    groups_known: bool
    official: np.ndarray | None
    folds: np.ndarray | None
    fingerprint: str

    @property
    def channels(self) -> int:
        return self.images.shape[-1]


def make(
    images: np.ndarray | records.Images,
    labels: np.ndarray,
    ids: np.ndarray,
    classes: tuple[str, ...],
    groups: np.ndarray | None = None,
    official: np.ndarray | None = None,
    folds: np.ndarray | None = None,
) -> Source:
    """A `Source` of these arrays; without `groups`, each image is a group of its own and `groups_known` is False."""
    labels, ids = np.asarray(labels, np.int32), np.asarray(ids, str)
    groups_known = groups is not None
    groups = np.asarray(groups if groups_known else ids, str)
    official = None if official is None else np.asarray(official, str)
    folds = None if folds is None else np.asarray(folds, np.int32)
    columns = [column for column in (labels, ids, groups, official, folds) if column is not None]
    if any(len(column) != len(images) for column in columns) or len(np.unique(ids)) < len(ids):
        raise ValueError("images and what is known of them differ in length, or an id stands twice")
    digest = hashlib.sha256(repr((images.shape, str(images.dtype), classes, groups_known)).encode())
    for column in columns:
        digest.update("\0".join(map(str, column)).encode())
    digest.update(records.digest(images).encode())
    return Source(images, labels, groups, ids, tuple(classes), groups_known, official, folds, digest.hexdigest())
