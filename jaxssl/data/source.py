"""What every dataset is loaded into: images in memory or in records, each with a label, an id and a group."""

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxssl.data import records

UNLABELLED = -1


class Source(NamedTuple):
    """Images of one size and what is known of each; a row of each array is one image.

    Attributes:
      images: [N, H, W, C] uint8, uint16 or float32, in the values of the files; an array, or records.
      labels: [N] int32, an index into `classes`, or `UNLABELLED`.
      groups: [N] str, the patient, lesion or series; the image's own id if the dataset has none.
      ids: [N] str, unique and stable: they name images in `splits.json` and `predictions.csv`.
      classes: names of the classes, in the order of `labels`; empty if nothing is labelled.
      groups_known: whether `groups` are those of the dataset. If not, leakage between splits is possible.
      official: [N] str of "train", "validation" and "test" if the dataset comes with a split, else None.
      folds: [N] int32 from 0, the fold of the dataset's own cross-validation, else None.
      fingerprint: SHA-256 of all of the above: it identifies a version of the data.
      unread: what the input holds that was not used, a line each: columns, files, formats, folders.
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
    unread: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """Return C."""
        return self.images.shape[-1]


def make(
    images: np.ndarray | records.Images,
    labels: ArrayLike,
    ids: ArrayLike,
    classes: tuple[str, ...],
    groups: ArrayLike | None = None,
    official: ArrayLike | None = None,
    folds: ArrayLike | None = None,
    unread: tuple[str, ...] = (),
) -> Source:
    """Make a `Source` of arrays; without `groups`, each image is its own group and `groups_known` is False.

    Raises:
      ValueError: the arrays differ in length, or an id occurs twice.
    """
    label_column, id_column = np.asarray(labels, np.int32), np.asarray(ids, str)
    group_column = np.asarray(id_column if groups is None else groups, str)
    official_column = None if official is None else np.asarray(official, str)
    fold_column = None if folds is None else np.asarray(folds, np.int32)
    found = (label_column, id_column, group_column, official_column, fold_column)
    columns = [column for column in found if column is not None]
    if any(len(column) != len(images) for column in columns) or len(np.unique(id_column)) < len(id_column):
        raise ValueError("images and what is known of them differ in length, or an id occurs twice")
    digest = hashlib.sha256(repr((images.shape, str(images.dtype), classes, groups is not None)).encode())
    for column in columns:
        digest.update("\0".join(map(str, column)).encode())
    digest.update(records.digest(images).encode())
    return Source(
        images=images,
        labels=label_column,
        groups=group_column,
        ids=id_column,
        classes=tuple(classes),
        groups_known=groups is not None,
        official=official_column,
        folds=fold_column,
        fingerprint=digest.hexdigest(),
        unread=unread,
    )
