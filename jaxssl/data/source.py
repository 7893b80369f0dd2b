"""What every dataset is loaded into: images in memory or in records, each with a label, an id and a group."""

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxssl.data import records
from jaxssl.data.labels import check_text

UNLABELLED = -1
UNKNOWN = 255  # Pixels of a mask that count nowhere: of no known class, or outside of the image.
TASKS = ("single", "multi", "ordinal", "value")
STRATA = 5  # Quantiles of values, by which splits are stratified.


class Source(NamedTuple):
    """Images of one size and what is known of each; a row of each array is one image.

    Attributes:
      images: [N, H, W, C] uint8, uint16 or float32, in the values of the files; an array, or records.
      labels: [N] int32, an index into `classes`, or `UNLABELLED`. Of the task "multi" [N, C] int32: 1 where an image
        has the label, 0 where not, `UNLABELLED` where that is unknown. Of the task "value" [N] float32, NaN if unknown.
      groups: [N] str, the patient, lesion or series; the image's own id if the dataset has none.
      ids: [N] str, unique and stable: they name images in `splits.json` and `predictions.csv`.
      classes: names of the classes, in the order of `labels`; of the task "value" the name of the value; empty if
        nothing is labelled.
      groups_known: whether `groups` are those of the dataset. If not, leakage between splits is possible.
      official: [N] str of "train", "validation" and "test" if the dataset comes with a split, else None.
      folds: [N] int32 from 0, the fold of the dataset's own cross-validation, else None.
      fingerprint: SHA-256 of all of the above: it identifies a version of the data.
      unread: what the input holds that was not used, a line each: columns, files, formats, folders.
      notes: findings from when the files were listed, a line each.
      task: "single": one class an image; "multi": any number of them; "ordinal": one class, in an order; "value": a
        number.
      masks: [N, H, W] uint8, the class of each pixel, an index into `mask_classes`, or `UNKNOWN`; as lazy as the
        images. None where no masks were asked for.
      mask_classes: names of these classes, the background first; empty without masks.
      masked: [N] bool, whether an image has a mask: an empty one has only background, one that is missing only
        `UNKNOWN`. None without masks.
      in_mask: [N, C - 1] bool, which classes of masks an image has, without the background. None without masks.
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
    task: str = "single"
    masks: np.ndarray | records.Images | None = None
    mask_classes: tuple[str, ...] = ()
    masked: np.ndarray | None = None
    in_mask: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """Return C."""
        return self.images.shape[-1]

    @property
    def known(self) -> np.ndarray:
        """Return [N] bool: which images have a label; of several labels, at least one that is known."""
        if self.task == "value":
            return ~np.isnan(self.labels)
        return (self.labels != UNLABELLED).reshape(len(self.labels), -1).any(axis=1)

    @property
    def strata(self) -> np.ndarray:
        """Return [N, K] bool: the classes of each image, by which splits are stratified.

        Of several labels, those that an image has, and in the last column whether it has none; of values, the fifth of
        all values that it is in.
        """
        if self.task == "multi":
            has = self.labels == 1
            return np.column_stack([has, self.known & ~has.any(axis=1)])
        if self.task == "value":
            values = self.labels[self.known]
            inner = np.quantile(values, np.linspace(0, 1, STRATA + 1)[1:-1]) if len(values) else []
            fifth = np.where(self.known, np.searchsorted(inner, self.labels, "right"), UNLABELLED)
            return fifth[:, None] == np.arange(STRATA)
        return self.labels[:, None] == np.arange(len(self.classes))

    @property
    def kinds(self) -> np.ndarray:
        """Return [N] int: one of the strata of each image, the rarest that it is in, -1 for none."""
        return _find_rarest(self.strata)

    @property
    def mask_kinds(self) -> np.ndarray:
        """Return [N] int: the rarest class that the mask of each image has, -1 for an empty or missing mask."""
        assert self.in_mask is not None
        return _find_rarest(self.in_mask)


def _find_rarest(strata: np.ndarray) -> np.ndarray:
    """Return the column of each row of [N, K] bool that is true and has the fewest true rows; -1 where none is true."""
    rarest = np.where(strata, strata.sum(axis=0), len(strata) + 1)
    return np.where(strata.any(axis=1), rarest.argmin(axis=1) if strata.shape[1] else 0, -1)


def make(
    images: np.ndarray | records.Images,
    labels: ArrayLike,
    ids: ArrayLike,
    classes: tuple[str, ...],
    groups: ArrayLike | None = None,
    official: ArrayLike | None = None,
    folds: ArrayLike | None = None,
    unread: tuple[str, ...] = (),
    task: str = "single",
) -> Source:
    """Make a `Source` of arrays; without `groups`, each image is its own group and `groups_known` is False.

    Raises:
      ValueError: the arrays differ in length, or an id occurs twice.
    """
    for name in classes:
        check_text(name)
    label_column, id_column = np.asarray(labels, np.float32 if task == "value" else np.int32), np.asarray(ids, str)
    group_column = np.asarray(id_column if groups is None else groups, str)
    official_column = None if official is None else np.asarray(official, str)
    fold_column = None if folds is None else np.asarray(folds, np.int32)
    found = (label_column, id_column, group_column, official_column, fold_column)
    columns = [column for column in found if column is not None]
    if any(len(column) != len(images) for column in columns) or len(np.unique(id_column)) < len(id_column):
        raise ValueError("images and what is known of them differ in length, or an id occurs twice")
    if label_column.shape[1:] != ((len(classes),) if task == "multi" else ()):
        raise ValueError(f"labels of the task {task!r} and {len(classes)} classes cannot be {label_column.shape}")
    digest = hashlib.sha256(repr((images.shape, str(images.dtype), classes, groups is not None)).encode())
    for column in columns:
        digest.update("\0".join(map(str, column.tolist())).encode())
    if task != "single":
        digest.update(task.encode())
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
        task=task,
    )


def with_masks(source: Source, masks: np.ndarray | records.Images, classes: tuple[str, ...]) -> Source:
    """Return the source with masks [N, H, W] uint8, which become part of its fingerprint.

    Raises:
      ValueError: masks and images differ in number or size.
    """
    for name in classes:
        check_text(name)
    if tuple(masks.shape) != tuple(source.images.shape[:3]):
        raise ValueError(f"masks {masks.shape} do not fit images {source.images.shape}")
    has = np.concatenate([_classes_of(some, len(classes)) for some in records.chunks(masks)])
    digest = hashlib.sha256(repr((source.fingerprint, classes)).encode() + records.digest(masks).encode())
    return source._replace(
        masks=masks,
        mask_classes=classes,
        masked=has.any(axis=1),
        in_mask=has[:, 1:],
        fingerprint=digest.hexdigest(),
    )


def _classes_of(masks: np.ndarray, count: int) -> np.ndarray:
    """Return [N, count] bool: which classes each of the masks [N, H, W] has."""
    return np.stack([np.bincount(mask.ravel(), minlength=UNKNOWN + 1)[:count] > 0 for mask in masks])
